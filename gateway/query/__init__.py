"""Queries: the effective view, the cache in front of the leading archives, and the shape of answers.

Everything here is a query source around another one (:mod:`gateway.query.ports`). In the order a query meets them::

    limit        ends a query after so many answers, saying so
    memo         hands out finished answers again, as long as what they rest on holds
    direct       the short way, where nobody but the local archive has a say: it fills a ``template``
    projection   exactly the requested keys, in a character set the asker reads
    (coercion)   the rules, of another room
    effective    the view: the leading archives' answers joined with the local ones, by the page
      several      several leading archives as one; the first that knows a study decides
      cache        one archive's answers (``answers``) and its studies (``studies``), by lifetimes (``ttl``)
        flight       one question upstream for all who ask it at the same time
        shelf        what one worker process was answered, for the others
    (leading, archive)

Evidence ties the memo to the rest: each source puts on the request what its answer rests on, such as an entry of a
cache, and the memo asks whether it still holds. An answer given without the leading archive carries evidence that never
holds, and so is never given again without asking.

Threads: a flight fetches in a thread of its own, which ends with the query. Everything else runs in the thread of the
association that asks; shared state is behind one lock an object, which is never held while anybody is asked.
No thread is started by constructing, and what is opened is opened in each process after the fork.
"""

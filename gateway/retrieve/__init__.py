"""C-MOVE and C-GET: what a retrieve names, fetching what is not here, and sending it.

Theory of operation. A request becomes a :class:`~gateway.retrieve.plan.Plan` before anything is sent, a value that
lists study by study the local instances, the leading archive's attributes, and the instances that only the leading
archive has (``plan``; ``survey`` compares the two archives series by series, ``missing`` is what comes of it).

A plan is carried out as C-STORE sub-operations:

- for a C-MOVE by *couriers* (``courier``, ``shipment``), each a thread with one association to the destination, which
  propose presentation contexts for what is to be sent (``contexts``), reconnect once, and count every outcome in a
  common ``tally``. The thread that serves the request only watches: it hands out the counters twice a second, so that
  a viewer sees progress also while one large instance is on its way or nothing arrives from upstream;
- for a C-GET (``get``) by the serving thread itself, over the requestor's own association.

A sub-operation fails alone (``delivery``): a missing file, a refused SOP class, a failure status of the destination
are counted, listed and logged, and the next instance is sent. A refused transfer syntax is answered with another one
where that loses nothing (``transcode``).

What only the leading archive has is *pulled* (``pull``, ``upstream``): by C-GET, or by C-MOVE to ourselves whose
instances reach our server like any C-STORE and are told apart by their SOP Instance UIDs (``arrival``). Either way
they land in a folder of the ``spool``, whence they are sent on as they arrive, coerced like local ones. The folder is
shared through file locks by all threads and worker processes, so two viewers cause one upstream retrieve; it is gone
when the last of them has been served, unless the instances are kept in the local archive.
"""

"""HTTP: health, metrics, and what other rooms offer as routes.

A request passes, in this order: the counting of requests and times, the bound on the body's size, the check of the
bearer token (``/livez``, ``/readyz`` and ``/metrics`` go without), then its route. Errors leave as problem documents
(RFC 9457, ``application/problem+json``), whoever raised them.

:func:`~gateway.web.app.create_app` takes everything as values: named readiness checks, where the metrics come from
(one registry, or one made for each scrape from the files of several workers), tokens and further routes.
:class:`~gateway.web.server.WebServer` runs it in a thread on a socket that is bound before the thread begins, so that
a port in use is an error at once and port 0 is known.
"""

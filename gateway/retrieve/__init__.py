"""C-MOVE and C-GET: what a retrieve names, and sending it.

Theory of operation. A request becomes a :class:`~gateway.retrieve.plan.Plan` before anything is sent: a pure value
that lists, study by study, the local instances and the leading archive's attributes for them. A plan is then carried
out as C-STORE sub-operations:

- for a C-MOVE by *couriers*, each a thread with one association to the destination, which propose presentation
  contexts for what is to be sent, reconnect once, and count every outcome in a common tally. The thread that serves
  the request only watches: it hands out the counters every so often, so that a viewer sees progress also while one
  large instance is on its way;
- for a C-GET by the serving thread itself, over the requestor's own association.

A sub-operation fails alone: a missing file, a refused transfer syntax, a failure status of the destination are
counted, listed and logged, and the next instance is sent.
"""

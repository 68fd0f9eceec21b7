"""Storage commitment (PS3.4 Annex J, Push Model) in both roles, and rejection notes (IHE IOCM).

Commitment is a promise about responsibility, so each side writes down what it owes before it says anything.

**As SCP** a peer's N-ACTION becomes a *job*: its instances are written to the ledger, synced, and only then is the
request answered. A reporter decides each instance (is it in the index, is the file there, are size and checksum what
they were when it was stored) and sends the N-EVENT-REPORT, on the requestor's own association where configured, else on
a new one with the roles reversed. A report nobody answered is repeated with growing pauses until it is answered or the
bound is reached. Killed at any point, the next start finds the job in the ledger and goes on::

    N-ACTION -> ledger (synced) -> N-ACTION response 0000H -> decision -> ledger -> N-EVENT-REPORT -> ledger

**As SCU** an *inquiry* is written before its N-ACTION is sent: a report may come before the response to the request, on
the same association or another one, after a time-out, twice, or never. What a late report says is still true, so it is
taken; of two reports that differ, the one that commits less is believed.

Both life cycles are tables over simulated time (:mod:`~gateway.commitment.job`, :mod:`~gateway.commitment.inquiry`);
the ledger (:mod:`~gateway.commitment.ledger`) applies them inside SQLite transactions, so several workers and the
command line can act on one job at once.

- ``messages`` reads and writes the data sets of both messages; ``orthanc`` the JSON of Orthanc's REST interface.
- ``scp``, ``decision``, ``digests``, ``elsewhere`` and ``reporter`` answer peers; ``routes`` says where a report goes.
- ``scu`` and ``resources`` ask peers; ``alone`` does so without a gateway, for the command line.
- ``database``, ``records``, ``jobs`` and ``inquiries`` are the ledger; ``sweep`` forgets what is no longer here.
- ``rejection``, ``notes`` and ``withheld`` are rejection notes: what they say, their way in, and what a leading archive
  goes on offering.
- ``service`` puts it together for the composition root.
"""

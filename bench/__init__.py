"""``make bench``: the gateway beside Orthanc and DCMTK's dcmqrscp, on this machine, with the same data.

- ``data``: the instances; ``archives``: the peers and ours, started on free ports, filled, stopped.
- ``client``: the measuring SCU, the same for all: it sends bytes made before and looks only for the final response.
- ``rows``: what is measured, with the target from the issue that set it; each checks that the work was really done.
- ``limit``: the same bytes over a bare socket, the most any program could do here.
- ``report``: medians, ``bench/out/latest.json`` and a table.

All rounds are interleaved: each row measures every archive once a round, so that a noisy minute hits all alike. Peers
run as Debian ships them but for TCP_NODELAY, which is on unless the row says otherwise, and Orthanc's limits on answers
and threads, which are raised.
"""

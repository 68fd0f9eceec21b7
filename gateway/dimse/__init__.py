"""The wire: the only importer of pynetdicom; negotiation, the data loop, SCPs and SCUs.

We own the listening socket, the accept loop, an association's thread and every byte of DIMSE; pynetdicom lends its
A-ASSOCIATE words. From the bytes upwards:

- ``pdu``: frames PDUs and fragments, without a socket; ``acse``: A-ASSOCIATE PDUs, by pynetdicom's item classes;
  ``command``: command sets; ``negotiation``: what is proposed, offered and settled, as values and pure decisions.
- ``wire``: one connection in blocking I/O with absolute deadlines; ``exchange``: messages over it, for both ends.
- ``sender``: C-STORE out of a file; ``serving``: what answering a request has in common at both ends; ``answers`` and
  ``retrieving``: the responses to C-FIND, and to C-MOVE and C-GET.
- ``services``: the SCPs, calling the handlers of ``ports``, on a ``session``; ``sopclasses``: which service an abstract
  syntax belongs to; ``reception`` answers association requests; ``policy`` decides who may associate.
- ``server`` accepts connections, ``acceptor`` is an association that a peer requested. One of ours is ``dialing``, then
  a ``conversation``, and with its services a ``requestor``; ``commitment`` opens them for storage commitment.

An association is one thread that reads a request, answers it, and reads the next: no reactor, no queue, no time-out
thread. A running operation looks for C-CANCEL where it pauses anyway, between two sends, by asking the socket whether
something has arrived. Memory is constant whatever an instance's size: parts of a data set go from the receive buffer
to the file, or from the file to the socket, and are never gathered.
"""

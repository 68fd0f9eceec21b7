"""Proof that faults lose nothing: real gateways, real peers, and everything that goes wrong between them.

``python -m faults`` starts gateways as ``serve`` runs them, breaks something around them, and afterwards asks:

- were others served meanwhile: a client whose answers need nobody else asks all the time, and each answer is compared;
- did memory, descriptors and threads return to where they were;
- is everything there that was acknowledged: ``archive verify`` is clean;
- did nobody see what only another caller may see: the client above must never be told what a leading archive says.

``proxy``      stands between two peers and cuts, stalls, delays, half-closes or trickles at a chosen phase
``scripted``   peers on bare sockets that do what no real peer can be made to do
``world``      a gateway with its leading archive, destination and clients; ``watch`` its processes and that client
``upstream``   faults of the leading archive; ``downstream`` of destinations; ``callers`` of clients; ``machine`` of
               disk, clock, power and rule files, ``disk`` of its calls; ``kills`` of processes; ``phases`` the
               proxy's, on all three sides
``slowly``     HTTP clients that do not send their requests
``mutation``   spoils bytes by a seed; ``hostile`` sends them to a gateway; ``readers`` gives millions to the readers
``soak``       all services with real peers for as long as you like; ``jobs`` what they do, ``trend`` what memory does
``stopping``   ends what was started when somebody interrupts
"""

"""What tests of all rooms share; imported as ``tests.support``.

- :mod:`~tests.support.waiting`: wait for a condition with a deadline, never a sleep;
- :mod:`~tests.support.ports`: a port that stays free for the tool it is meant for;
- :mod:`~tests.support.processes`: processes that end with the test;
- :mod:`~tests.support.tools`: which peers this machine has, and skipping or failing without them;
- :mod:`~tests.support.peers`: dcmqrscp, storescp and Orthanc, started, ready, and stopped at the end of a block;
- :mod:`~tests.support.scu`: findscu, movescu, getscu, storescu, echoscu run as a user would, answers as data sets;
- :mod:`~tests.support.dicomfiles`: instances made from real ones of several modalities, and file-sets of them.
"""

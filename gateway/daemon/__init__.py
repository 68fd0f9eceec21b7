"""The composition root: the only rooms that know the configuration and every other room.

``running`` forks and supervises, ``process`` is what one process runs: ``parts`` opens what every process has, and
``interfaces`` builds the DICOM and the HTTP side from it. ``chain`` is the way of a request in reading order, with
``coercing`` and ``retrieving`` for its rules and retrieves. The rest turns one section of the configuration each into
values, or, as ``everywhere``, lets one process speak for all.
"""

"""The local archive: a DICOMDIR file-set that is served, filled and shrunk while other tools read it.

Truth is the object files together with an index, a SQLite database kept outside the file-set's root. The DICOMDIR is
a published snapshot of that truth, and an input whenever it is new or somebody else changed it.

- ``dicomdir`` reads any DICOMDIR found in the field, ``layout`` is what one is made of; ``importer`` brings it into the
  index, and ``enrich`` adds what only the object files say.
- ``index`` and ``schema`` are the database: one row an entity, with its attributes encoded; ``rows`` makes them.
- ``find`` and ``conditions`` answer queries: candidates by SQL, the verdict by :mod:`gateway.dicom.matching`.
- ``lookup`` hands out studies and instances by their UIDs.
- ``store``, ``incoming``, ``disk``, ``fileid`` and ``heads`` take instances in; Success is said after the ``journal``,
  whose files are ``runs``, or syncs of file and index, made them durable. ``recovery`` ends what a crash or a power cut
  left.
- ``publish`` keeps the DICOMDIR in line with the index and merges what others changed in it. A ``batch`` is one
  publication's changes, drawn on a ``canvas`` with ``records``; ``rewrite`` writes a DICOMDIR anew. ``keeper`` does all
  this in the background, ``aside`` in a process of its own where there is much to merge.
- ``delete`` hides at once; the records and files follow with the next publication. ``retain`` chooses by policy.
- ``exchange`` puts changed files in the place of a study's, by one transaction that makes its rows anew (``renew``).
- ``verify`` compares index, DICOMDIR and disk, and mends; ``report`` lists.
- ``local`` is what the rooms above use.

Several processes (workers, command line verbs) may have an archive open at once: they take turns by lock files, and
what one of them commits the others see with their next query.
"""

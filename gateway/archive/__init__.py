"""The local archive: a DICOMDIR file-set that is served, filled and shrunk while other tools read it.

Truth is the object files together with an index, a SQLite database kept outside the file-set's root. The DICOMDIR is
a published snapshot of that truth, and an input whenever it is new or somebody else changed it.

- ``dicomdir`` reads any DICOMDIR found in the field; ``importer`` brings it into the index.
- ``index`` and ``schema`` are the database: one row an entity, with its attributes encoded; ``rows`` makes them.
- ``find`` and ``conditions`` answer queries: candidates by SQL, the verdict by :mod:`gateway.dicom.matching`.
- ``store``, ``disk``, ``fileid`` and ``heads`` take instances in; Success is said after files, folders and index
  were synced.
- ``publish`` keeps the DICOMDIR in line with the index, through ``canvas`` and ``records``, and merges what others
  changed in it; ``keeper`` does so in the background.
- ``delete`` hides at once; the records and files follow with the next publication.
- ``local`` is what the rooms above use.

Several processes (workers, command line verbs) may have an archive open at once: they take turns by lock files, and
what one of them commits the others see with their next query.
"""

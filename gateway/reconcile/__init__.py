"""Reconcile: the leading archive's corrections written into the stored files, for good.

``difference`` compares, many studies at a time, what the local index says with what the leading archive says.
``reconciler`` has the archive exchange a study's files for changed ones (:mod:`gateway.archive.exchange`): all at once,
so a crash at any point leaves the study as it was or as it is to be, and nothing to be ended by another run.
"""

"""Reconcile: the leading archive's corrections written into the stored files, for good.

``difference`` compares, many studies at a time, what the local index says with what the leading archive says.
``staging`` makes the changed files of a study beside the archive, complete and synced, before anything is touched.
``swap`` then takes the old instances out and the new ones in. A crash at any point loses nothing: before the staging
is complete it is thrown away, after that it is carried out again from the start, and every step of it may be repeated.
"""

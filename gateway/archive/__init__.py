"""The local archive: object files and an index are the truth, DICOMDIR is a published snapshot (PS3.3 Annex F)."""

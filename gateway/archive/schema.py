"""The index's tables, and their version.

One row an entity. The columns are what SQL can filter by; ``attributes`` is the entity's own level, encoded in
explicit VR little endian, from which any other key is matched and every answer is built. Counts are kept, not
computed, so that a page of studies costs one look-up. A patient's name has a row for each of its component groups, in
folded form.

``record`` is the offset of the entity's record in the published DICOMDIR, 0 when it has none yet. ``published`` tells
whether an instance is in it. ``gone`` marks a parent whose record is to be made inactive at the next publication.
A deleted instance lives on as a tombstone until its record is inactive and its file is gone; ``deleted`` is the log
from which other processes learn whose caches have to forget a study.

Row numbers are never used twice: a publication notes by number what it holds, while others delete and store.
"""

from __future__ import annotations

VERSION = 1

TABLES = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE patient (
    id INTEGER PRIMARY KEY AUTOINCREMENT, patient_id TEXT NOT NULL UNIQUE,
    studies INTEGER NOT NULL DEFAULT 0,
    record INTEGER NOT NULL DEFAULT 0, gone INTEGER NOT NULL DEFAULT 0, attributes BLOB NOT NULL);
CREATE TABLE patient_name (name TEXT NOT NULL, patient INTEGER NOT NULL, PRIMARY KEY (name, patient)) WITHOUT ROWID;
CREATE TABLE study (
    id INTEGER PRIMARY KEY AUTOINCREMENT, patient INTEGER NOT NULL REFERENCES patient, uid TEXT NOT NULL UNIQUE,
    date TEXT NOT NULL, time TEXT NOT NULL, accession TEXT NOT NULL, study_id TEXT NOT NULL,
    modalities TEXT NOT NULL DEFAULT '', series INTEGER NOT NULL DEFAULT 0, instances INTEGER NOT NULL DEFAULT 0,
    received REAL NOT NULL, used REAL NOT NULL,
    record INTEGER NOT NULL DEFAULT 0, gone INTEGER NOT NULL DEFAULT 0, attributes BLOB NOT NULL);
CREATE TABLE series (
    id INTEGER PRIMARY KEY AUTOINCREMENT, study INTEGER NOT NULL REFERENCES study, uid TEXT NOT NULL UNIQUE,
    modality TEXT NOT NULL, number TEXT NOT NULL, instances INTEGER NOT NULL DEFAULT 0,
    record INTEGER NOT NULL DEFAULT 0, gone INTEGER NOT NULL DEFAULT 0, attributes BLOB NOT NULL);
CREATE TABLE instance (
    id INTEGER PRIMARY KEY AUTOINCREMENT, series INTEGER NOT NULL REFERENCES series, uid TEXT NOT NULL,
    sop_class TEXT NOT NULL, transfer_syntax TEXT NOT NULL, file_id TEXT NOT NULL,
    size INTEGER NOT NULL DEFAULT 0, dataset_offset INTEGER NOT NULL DEFAULT 0,
    published INTEGER NOT NULL DEFAULT 0, enriched INTEGER NOT NULL DEFAULT 0, attributes BLOB NOT NULL);
CREATE TABLE tombstone (
    id INTEGER PRIMARY KEY AUTOINCREMENT, series INTEGER NOT NULL, uid TEXT NOT NULL, file_id TEXT NOT NULL UNIQUE,
    published INTEGER NOT NULL, unlink INTEGER NOT NULL DEFAULT 1);
CREATE TABLE deleted (id INTEGER PRIMARY KEY AUTOINCREMENT, study TEXT NOT NULL);
CREATE TABLE quarantine (id INTEGER PRIMARY KEY AUTOINCREMENT, place TEXT NOT NULL UNIQUE, reason TEXT NOT NULL);
"""

INDEXES = """
CREATE INDEX IF NOT EXISTS study_patient ON study (patient);
CREATE INDEX IF NOT EXISTS study_date ON study (date);
CREATE INDEX IF NOT EXISTS study_accession ON study (accession);
CREATE INDEX IF NOT EXISTS series_study ON series (study);
CREATE UNIQUE INDEX IF NOT EXISTS instance_uid ON instance (uid);
CREATE INDEX IF NOT EXISTS instance_unpublished ON instance (series) WHERE published = 0;
CREATE INDEX IF NOT EXISTS patient_gone ON patient (id) WHERE gone = 1;
CREATE INDEX IF NOT EXISTS study_gone ON study (id) WHERE gone = 1;
CREATE INDEX IF NOT EXISTS series_gone ON series (id) WHERE gone = 1;
"""

LATE_INDEXES = """
CREATE INDEX IF NOT EXISTS instance_series ON instance (series);
CREATE INDEX IF NOT EXISTS instance_bare ON instance (id) WHERE enriched = 0;
"""
"""Made in one go after a first import, at a fraction of what it costs to keep them while it runs."""

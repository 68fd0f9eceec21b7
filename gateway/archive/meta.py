"""The index's table of single values, and the number that tells of changes."""

from __future__ import annotations

import sqlite3

_GENERATION = """SELECT coalesce((SELECT value FROM meta WHERE key = 'generation'), 0)
 + coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'instance'), 0)"""
"""Rows of instances are numbered without ever using a number twice, so each of them is a change counted already."""


def get_meta(db: sqlite3.Connection, key: str, default: str | float) -> str | float:
    """A value of the table of single values."""
    row = db.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
    return default if row is None else row[0]


def generation(db: sqlite3.Connection) -> int:
    """A number that is another one after every visible change."""
    return int(db.execute(_GENERATION).fetchone()[0])


def raise_generation(db: sqlite3.Connection) -> None:
    """Count a visible change in the running transaction."""
    db.execute("INSERT INTO meta VALUES ('generation', 1) ON CONFLICT (key) DO UPDATE SET value = value + 1")


def set_meta(db: sqlite3.Connection, key: str, value: str | float) -> None:
    """Set a value of the table of single values."""
    db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, value))

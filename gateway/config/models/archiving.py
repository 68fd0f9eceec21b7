"""The local file-set, and the rules for what goes through."""

from __future__ import annotations

from datetime import timedelta
from enum import Enum
from typing import Annotated, Self

from pydantic import Field, model_validator

from gateway.config.models.section import Section
from gateway.config.types import ConfigPath, Count, Duration, Size

_MIB = 2**20
_GIB = 2**30


class Conflict(Enum):
    """What to do with an instance whose UID is there with other content."""

    KEEP = "keep"
    REPLACE = "replace"


class Durability(Enum):
    """What is synced before a C-STORE is acknowledged."""

    FULL = "full"
    DATA = "data"
    NONE = "none"


class OnlyIf(Enum):
    """What else must be true of a study before a rule deletes it."""

    COMMITTED = "committed"


class RetainRule(Section):
    """A study goes when all conditions of a rule hold."""

    received_before: Duration | None = None
    """Age since its last instance was received."""
    studied_before: Duration | None = None
    """Age by Study Date; a study without one is never old enough."""
    unused_for: Duration | None = None
    """Age since it was last retrieved, or received."""
    free_below: Size | None = None
    """Only while less disk space is free than this, the longest unused first, until so much is free."""
    only_if: OnlyIf | None = None
    """committed: only when other archives have committed all of its instances."""

    @model_validator(mode="after")
    def _has_a_condition(self) -> Self:
        if not (self.received_before or self.studied_before or self.unused_for or self.free_below):
            raise ValueError("without an age or free_below the rule would delete everything")
        return self


class Retain(Section):
    """Deletion by policy."""

    rules: tuple[RetainRule, ...] = ()
    """A study goes by any one of them."""
    every: Duration | None = None
    """Between two runs; without it only ``archive retain`` deletes."""
    max_studies: Annotated[Count, Field(ge=1)] = 1000
    """At most so many go in one run."""


class Archive(Section):
    """The local file-set."""

    dicomdir: ConfigPath
    """The DICOMDIR; its folder is the root of the file-set."""
    create: bool = False
    """Begin an empty file-set when there is no DICOMDIR; without it a missing one is an error."""
    index: ConfigPath | None = None
    """Folder of the index, outside the file-set; without this key ``<root>.index`` beside the root."""
    durability: Durability = Durability.FULL
    """What an acknowledged C-STORE survives: full a power cut, data and none a kill."""
    on_conflict: Conflict = Conflict.KEEP
    """Another content under a stored UID: keep the first, which the sender is told by warning B000H, or replace it."""
    publish_delay: Duration = timedelta(seconds=1)
    """How long changes are gathered before the DICOMDIR is published; a large one is published less often."""
    journal: Size = 128 * _MIB
    """With ``durability: full``, space beside the index, for each worker, through which instances become durable by one
    sync each, or two if they are large; 0 for none."""
    min_free: Size = _GIB
    """Free space below which nothing more is accepted and the archive is not ready."""
    retain: Retain = Retain()
    """What is deleted by itself, and when; nothing without rules."""


class Coercion(Section):
    """Rules that change attributes on their way through."""

    rules: ConfigPath | None = None
    """The YAML rule file; without it only the built-in rule: the leading archive's attributes."""
    quarantine: ConfigPath | None = None
    """Folder for received instances that a rule puts aside; without this key ``<root>.quarantine`` beside the root."""

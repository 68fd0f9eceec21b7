"""Structured logs: one event a line, key-value pairs, patient data masked in one place.

Every module takes its logger from :func:`get_logger`; what is bound with :func:`bound` (association, peer, service)
stands on every line of the block.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast

import structlog


def get_logger(name: str) -> structlog.stdlib.BoundLogger:
    """A logger whose lines carry the module's room, such as ``dimse`` or ``archive``."""
    return cast(structlog.stdlib.BoundLogger, structlog.get_logger(room=name))


@contextmanager
def bound(**values: object) -> Iterator[None]:
    """Put key-value pairs on every line logged inside the block by this thread."""
    with structlog.contextvars.bound_contextvars(**values):
        yield

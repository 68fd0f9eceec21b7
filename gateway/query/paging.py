"""Pages of a stream: large enough to make look-ups few, small enough to keep answers flowing."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from time import monotonic
from typing import TypeVar

T = TypeVar("T")

PATIENCE = 0.02
"""Seconds for which answers are gathered before those that are there go on."""


def pages(stream: Iterable[T], size: int, clock: Callable[[], float] = monotonic) -> Iterator[list[T]]:
    """Cut a stream into pages of at most ``size``.

    The first item goes on at once, and so does whatever arrives after :data:`PATIENCE` without a page; a fast stream
    fills its pages, a slow one is not held up for more than one item.
    """
    page: list[T] = []
    flushed = clock() - PATIENCE
    for item in stream:
        page.append(item)
        if len(page) >= size or clock() - flushed >= PATIENCE:
            yield page
            page, flushed = [], clock()
    if page:
        yield page


def chunks(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    """Cut a sequence into pages of at most ``size``."""
    for start in range(0, len(items), size):
        yield items[start : start + size]

"""Structured logs: one event a line, key-value pairs, patient data masked in one place.

Every module takes its logger from :func:`get_logger`; what is bound with :func:`bound` (association, peer, service)
stands on every line of the block, the process's name on every line. ``gateway.daemon`` calls :func:`configure` once;
without it warnings and errors still reach standard error, masked.

Nothing sensitive passes by default: the event is a fixed text, and a value passes only if its key is in ``SAFE_KEYS``
or ``UID_KEYS``, or if it is a number, a truth value, an enum member or a duration under a key that names nothing
personal. Everything else is masked, so a new key that is safe to show is added to the list here, by somebody who
thought about it. The same holds for exceptions (type and place are shown, the text only of errors whose text is ours)
and for other libraries: their lines name module and place, not what they wanted to say, unless they are in
``TRUSTED_LIBRARIES``.
"""

from __future__ import annotations

import logging
import re
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator, MutableMapping
from contextlib import contextmanager
from contextvars import copy_context
from datetime import timedelta
from enum import Enum
from functools import partial
from pathlib import PurePath
from types import TracebackType
from typing import Any, ParamSpec, TextIO, cast

import structlog

from gateway.errors import GatewayError

MASK = "***"
LEVELS = ("debug", "info", "warning", "error")


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


SAFE_KEYS = _words(
    """event room level timestamp raised logger
    association message_id peer aet calling called address host port role service operation sop_class
    transfer_syntax model status kind reason action rule source destination state phase worker signal
    file path dicomdir folder url method route http_status version tags keyword offending errno
    cache result check scope archive outcome decision damage news reject why problems warnings then title"""
)
"""Keys whose text is the gateway's or an admin's own."""

UID_KEYS = _words("study series instance sop_instance_uid note transaction sop_class_uid transfer_syntax_uid uid")
"""Keys that show a UID, and nothing but a UID: without them no line could be matched to what happened."""

TRUSTED_LIBRARIES = ("uvicorn.error", "asyncio", "watchfiles")
"""Loggers of other libraries whose texts hold no data of requests."""

_UID = re.compile(r"[0-9.]{1,64}")
_PERSONAL = re.compile(r"[A-Z]|patient|accession|birth|name|identifier|attribute|_id$")
"""Keys, DICOM keywords among them, under which not even a number passes."""

_PLAIN = (int, float, bool, timedelta, type(None))

Event = MutableMapping[str, Any]
P = ParamSpec("P")


def get_logger(name: str) -> structlog.stdlib.BoundLogger:
    """A logger whose lines carry the module's room, such as ``dimse`` or ``archive``."""
    logger = structlog.wrap_logger(
        logging.getLogger(f"gateway.{name}"),
        processors=_CHAIN,
        wrapper_class=_Logger,
        context_class=dict,
        room=name,
    )
    return cast(structlog.stdlib.BoundLogger, logger.bind())  # itself, not a proxy that looks for it at every line


@contextmanager
def bound(**values: object) -> Iterator[None]:
    """Put key-value pairs on every line logged inside the block by this thread."""
    with structlog.contextvars.bound_contextvars(**values):
        yield


def name_process(worker: str) -> None:
    """Put the name of this process on every line of it, whichever thread logs."""
    _PROCESS["worker"] = worker


_PROCESS: dict[str, str] = {}


def _which_process(_logger: object, _method: str, event: Event) -> Event:
    return {**_PROCESS, **event}


def carried(function: Callable[P, None]) -> Callable[P, None]:
    """A function for one new thread that logs with what stands on this thread's lines now."""
    return partial(copy_context().run, function)


def configure(level: str = "info", *, as_json: bool = False, stream: TextIO | None = None) -> None:
    """Send every line of the process, other libraries' and Python's warnings too, to ``stream`` (standard error).

    Args:
        level: debug, info, warning or error; changed later by :func:`set_level`.
        as_json: one JSON object a line instead of coloured columns.
    """
    target = stream or sys.stderr
    renderer: structlog.typing.Processor = (
        structlog.processors.JSONRenderer(ensure_ascii=False)
        if as_json
        else structlog.dev.ConsoleRenderer(colors=target.isatty(), pad_event_to=0)
    )
    handler = _Handler(target)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[_foreign, *_SHARED],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    root = logging.getLogger()
    for old in [one for one in root.handlers if isinstance(one, _Handler)]:
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(logging.WARNING)
    warnings.showwarning = _show_warning
    set_level(level)


def set_level(level: str) -> None:
    """Change the least severe level that is written, at run time."""
    logging.getLogger("gateway").setLevel(level.upper())


def level() -> str:
    """The least severe level that is written."""
    return logging.getLevelName(logging.getLogger("gateway").getEffectiveLevel()).lower()


def mask(_logger: object, _method: str, event: Event) -> Event:
    """The one place where patient data stops: what is not known to be safe becomes ``***``."""
    for key, value in event.items():
        if not key.startswith("_"):  # structlog's own, removed before rendering
            event[key] = _masked(key, value)
    return event


def _masked(key: str, value: object) -> object:
    if isinstance(value, list | tuple | set | frozenset):
        return [_masked(key, one) for one in value]
    if isinstance(value, BaseException):
        return _in_words(value)
    if key in SAFE_KEYS:
        return _readable(value)
    if key in UID_KEYS:
        return value if isinstance(value, str) and _UID.fullmatch(value) else MASK
    plain = isinstance(value, (*_PLAIN, Enum)) and not isinstance(value, str)
    return _readable(value) if plain and not _PERSONAL.search(key) else MASK


def _readable(value: object) -> object:
    if isinstance(value, Enum):
        return value.name.lower()
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, PurePath):
        return str(value)
    return value if isinstance(value, (str, *_PLAIN)) else MASK


def _in_words(error: BaseException) -> str:
    """The type of an exception, and its text where the text is ours or the operating system's."""
    name = type(error).__name__
    if isinstance(error, GatewayError):
        return f"{name}: {error.message}"
    if isinstance(error, OSError):
        return f"{name}: {error.strerror or error.errno or 'no reason given'}"
    return name


def _exception(_logger: object, _method: str, event: Event) -> Event:
    """Exceptions on one line: what, where from innermost to outermost, and what caused it; no values of variables."""
    info = event.pop("exc_info", None)
    if not info:
        return event
    error = info if isinstance(info, BaseException) else info[1] if isinstance(info, tuple) else sys.exc_info()[1]
    told: list[str] = []
    while error is not None and len(told) < _CAUSES:
        told.append(f"{_in_words(error)} at {_places(error.__traceback__)}")
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    event["raised"] = "; caused by ".join(told)
    return event


_CAUSES = 5


def _places(trace: TracebackType | None) -> str:
    frames = traceback.extract_tb(trace)[-8:]
    return " < ".join(f"{_short(frame.filename)}:{frame.lineno}" for frame in reversed(frames)) or "no place"


def _short(filename: str) -> str:
    return "/".join(PurePath(filename).parts[-3:])


def _foreign(_logger: object, _method: str, event: Event) -> Event:
    """Lines of other libraries: those that may quote what they handle are reduced to where they come from."""
    record: logging.LogRecord = event["_record"]
    event["room"] = record.name
    if not record.name.startswith(TRUSTED_LIBRARIES):
        event["event"] = f"{record.name} says something"
        event["source"] = f"{_short(record.pathname)}:{record.lineno}"
    if record.exc_info:
        event["exc_info"] = record.exc_info
        record.exc_info = None  # the formatter would print the traceback with its values
        record.exc_text = None
    return event


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    # The text is left out: pydicom's warnings quote the value they are about.
    del message, file, line
    get_logger("warnings").warning("a Python warning", kind=category.__name__, source=f"{_short(filename)}:{lineno}")


class _Logger(structlog.stdlib.BoundLogger):
    """Looks at the level before anything is gathered for a line that is not written: most are of every request."""

    def debug(self, event: str | None = None, *args: Any, **values: Any) -> Any:
        return super().debug(event, *args, **values) if self._logger.isEnabledFor(logging.DEBUG) else None

    def info(self, event: str | None = None, *args: Any, **values: Any) -> Any:
        return super().info(event, *args, **values) if self._logger.isEnabledFor(logging.INFO) else None


class _Handler(logging.StreamHandler[TextIO]):
    """The handler of this module, so that configuring anew replaces it and no other."""


_SHARED: list[structlog.typing.Processor] = [
    structlog.contextvars.merge_contextvars,
    _which_process,
    structlog.stdlib.add_log_level,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
    _exception,
    mask,
]
_CHAIN: list[structlog.typing.Processor] = [
    structlog.stdlib.filter_by_level,
    *_SHARED,
    structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
]

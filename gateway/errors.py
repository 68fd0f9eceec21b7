"""One tree of errors; each says who is to blame and which DIMSE status answers it.

Foreign exceptions (sockets, SQLite, pydicom) become one of these at the edge where they appear. ``comment`` goes into
Error Comment (0000,0902): at most 64 characters and never a patient's data.
"""

from __future__ import annotations

from enum import Enum

from gateway.dicom.status import Status


class GatewayError(Exception):
    """Anything that went wrong in a way the gateway has words for."""

    status: int = Status.UNABLE_TO_PROCESS

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    @property
    def comment(self) -> str:
        """For Error Comment (LO, 64 characters)."""
        return self.message[:64]


class ConfigError(GatewayError):
    """The admin's files: each problem is one line with file, line, path and a hint."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class Refused(GatewayError):
    """The caller asked for what it may not have, or what does not exist here."""

    def __init__(self, message: str, status: int, *, offending: tuple[int, ...] = ()) -> None:
        super().__init__(message)
        self.status = status
        self.offending = offending


class UpstreamKind(Enum):
    """How a peer failed us; the label of the failure metrics."""

    UNREACHABLE = "unreachable"
    REJECTED = "rejected"
    ABORTED = "aborted"
    TIMEOUT = "timeout"
    STATUS = "status"
    PROTOCOL = "protocol"
    ENDLESS = "endless"
    """It answered more than anybody could want, and went on."""
    CIRCUIT_OPEN = "circuit_open"
    BUSY = "busy"
    """We have as many associations with it as we may, so it was not asked."""


class UpstreamError(GatewayError):
    """A peer we asked did not give a complete answer. Never to be mistaken for an empty one."""

    status = Status.OUT_OF_RESOURCES

    def __init__(self, message: str, kind: UpstreamKind, *, upstream_status: int | None = None) -> None:
        super().__init__(message)
        self.kind = kind
        self.upstream_status = upstream_status


class Cancelled(GatewayError):
    """The caller cancelled (C-CANCEL) or went away; what was gathered so far is not an answer."""

    status = Status.CANCEL


class StorageError(GatewayError):
    """The disk refused: full, read-only, I/O error. Nothing was acknowledged."""

    status = Status.OUT_OF_RESOURCES


class BadInstance(GatewayError):
    """A stored or received instance that cannot be read as what it claims to be."""

    status = Status.CANNOT_UNDERSTAND

"""HTTP, the audit trail and the log."""

from __future__ import annotations

from datetime import timedelta
from enum import Enum
from typing import Annotated

from pydantic import Field

from gateway.config.models.section import Section
from gateway.config.types import ConfigPath, Count, Duration, Port, RemotePort


class HttpTls(Section):
    """TLS of the HTTP port; without ``certificate`` it speaks in clear."""

    certificate: ConfigPath | None = None
    """Our certificate and its chain, PEM; with it the port speaks TLS 1.2 or newer only."""
    key: ConfigPath | None = None
    """Its private key, PEM, not encrypted."""


class Http(Section):
    """Health, metrics and the REST interface."""

    bind: str = "127.0.0.1"
    """Address to listen on; anything but loopback needs a token_file."""
    port: Port = 8080
    """TCP port; 0 takes a free one and says which."""
    token_file: ConfigPath | None = None
    """File with the bearer token that may do everything under /api."""
    read_only_token_file: ConfigPath | None = None
    """File with the bearer token that may only read."""
    max_connections: Annotated[Count, Field(ge=1)] = 200
    """Open at once; beyond them one that still waits for its request is ended for the new one."""
    timeout: Duration = timedelta(seconds=30)
    """For a request to arrive whole, and for the next part of an answer to be read."""
    max_login_failures: Count = 30
    """Wrong or missing tokens a minute from one address; more are answered 429, unseen. 0 is no limit."""
    tls: HttpTls = HttpTls()


class Transport(Enum):
    """How syslog messages travel."""

    TCP = "tcp"
    UDP = "udp"


class Syslog(Section):
    """The audit record repository; without ``host`` there is none."""

    host: str = ""
    """Host name or address."""
    port: RemotePort = 601
    """Port it listens on."""
    transport: Transport = Transport.TCP
    """``tcp`` with octet counting (RFC 6587), or ``udp``, where a lost message goes unnoticed."""
    spool: ConfigPath | None = None
    """File for what it does not take, needed with a host; each process appends its name to it."""


class Audit(Section):
    """The audit trail of DICOM PS3.15 A.5; without ``file`` and ``syslog.host`` there is none."""

    file: ConfigPath | None = None
    """One XML message a line."""
    syslog: Syslog = Syslog()
    """A collector; messages go there instead of to the file."""
    site: str = ""
    """Audit Enterprise Site ID."""


class LogFormat(Enum):
    """How a log line looks."""

    CONSOLE = "console"
    JSON = "json"


class LogLevel(Enum):
    """The least severe line that is written."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class Logging(Section):
    """What is written to standard error."""

    level: LogLevel = LogLevel.INFO
    """Least severe line written."""
    format: LogFormat = LogFormat.CONSOLE
    """``console`` for people, ``json`` for collectors: one object a line."""

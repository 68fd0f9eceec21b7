"""The two sockets that are listened on, opened before anything else so that a port in use is said at once."""

from __future__ import annotations

import os
import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

from gateway.config import Config
from gateway.dimse.server import listen as listen_dicom
from gateway.dimse.tls import server_context
from gateway.errors import ConfigError
from gateway.web.server import listen as listen_http


@dataclass(frozen=True)
class Listeners:
    """Open sockets; processes forked afterwards share them."""

    dicom: socket.socket
    http: socket.socket

    @classmethod
    def open(cls, config: Config) -> Self:
        """Bind both.

        Raises:
            ConfigError: an address is in use, not of this machine, or not permitted.
        """
        http_tls(config)
        dicom = _bound(config, "ae", listen_dicom, config.ae.bind, config.ae.port)
        try:
            return cls(dicom, _bound(config, "http", listen_http, config.http.bind, config.http.port))
        except BaseException:
            dicom.close()
            raise

    @property
    def port(self) -> int:
        """The DICOM port, also where 0 was asked for."""
        return int(self.dicom.getsockname()[1])

    @property
    def http_port(self) -> int:
        """The HTTP port, also where 0 was asked for."""
        return int(self.http.getsockname()[1])

    def refuse(self) -> None:
        """Refuse new DICOM connections from now on, in all processes; a close in one would leave them to wait."""
        self.dicom.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Close both in this process."""
        self.dicom.close()
        self.http.close()


def _bound(
    config: Config, section: str, listen: Callable[[str, int], socket.socket], bind: str, port: int
) -> socket.socket:
    try:
        return listen(bind, port)
    except OSError as error:
        text = f"cannot listen on {bind} port {port}: {os.strerror(error.errno) if error.errno else error}"
        raise config.complaint((section, "port"), text, "is another gateway running? 0 takes a free port") from error


def http_tls(config: Config) -> ssl.SSLContext | None:
    """TLS of the HTTP port; None when it speaks in clear. The configuration has both files or none.

    Raises:
        ConfigError: they cannot be used.
    """
    tls = config.http.tls
    if tls.certificate is None or tls.key is None:
        return None
    try:
        return server_context(tls.certificate, tls.key, None)
    except ConfigError as error:
        raise config.complaint(("http", "tls", "certificate"), f"cannot be used: {error.problems[0]}") from error

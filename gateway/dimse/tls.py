"""TLS for DICOM as BCP 195 wants it (PS3.15 B.9, B.10): TLS 1.2 or newer, forward secrecy, authenticated ciphers."""

from __future__ import annotations

import ssl
from pathlib import Path

from gateway.errors import ConfigError

_CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20:DHE+AESGCM"
"""For TLS 1.2; those of TLS 1.3 are all good."""


def server_context(certificate: Path, key: Path, ca: Path | None) -> ssl.SSLContext:
    """For the listening side.

    Args:
        ca: who signs the certificates of callers; without it they need none.

    Raises:
        ConfigError: a file cannot be used.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    _harden(context)
    _load(context, certificate, key)
    if ca is not None:
        context.verify_mode = ssl.CERT_REQUIRED
        _trust(context, ca)
    return context


def client_context(ca: Path, certificate: Path | None, key: Path | None, *, check_host: bool = True) -> ssl.SSLContext:
    """For associations that we request.

    Args:
        ca: who signs the peer's certificate.
        certificate: ours, for a peer that wants one.
        check_host: whether the peer's certificate has to name the host we connect to.

    Raises:
        ConfigError: a file cannot be used.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    _harden(context)
    context.check_hostname = check_host
    _trust(context, ca)
    if certificate is not None and key is not None:
        _load(context, certificate, key)
    return context


def _harden(context: ssl.SSLContext) -> None:
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(_CIPHERS)
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION | ssl.OP_CIPHER_SERVER_PREFERENCE


def _load(context: ssl.SSLContext, certificate: Path, key: Path) -> None:
    try:
        # An empty password: an encrypted key is refused instead of asked for on the terminal.
        context.load_cert_chain(certificate, key, password="")
    except (ssl.SSLError, OSError) as error:
        raise ConfigError([f"{certificate}: cannot be used with {key}: {_reason(error)}"]) from error


def _trust(context: ssl.SSLContext, ca: Path) -> None:
    try:
        context.load_verify_locations(ca)
    except (ssl.SSLError, OSError) as error:
        raise ConfigError([f"{ca}: no certificates to trust: {_reason(error)}"]) from error


def _reason(error: OSError) -> str:
    if isinstance(error, ssl.SSLError):
        return (error.reason or "not PEM").replace("_", " ").lower()
    return error.strerror or type(error).__name__

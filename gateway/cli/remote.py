"""How client verbs are told whom to call and under which title: dcm4che's spelling and DCMTK's.

``-c AET@host:port`` and ``-b AET[@ip][:port]`` as dcm4che has it; ``-aec`` and ``-aet`` as DCMTK has it, with
``-c host:port``; or ``--peer NAME``, a peer of the configuration, called under the configured title.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Annotated

import typer

from gateway.cli.common import configuration
from gateway.config import Config
from gateway.dicom.caller import InvalidAETitle, ae_title
from gateway.dimse.ports import Peer, Timeouts
from gateway.dimse.tls import client_context

DEFAULT_CALLING = "GATEWAY_SCU"

ConnectOption = Annotated[
    str | None,
    typer.Option("-c", "--connect", metavar="AET@HOST:PORT", help="The peer to call; HOST:PORT with -aec."),
]
PeerOption = Annotated[
    str | None, typer.Option("--peer", metavar="NAME", help="A peer of the configuration, instead of -c.")
]
CalledOption = Annotated[str | None, typer.Option("-aec", "--call", metavar="AET", help="Called AE title.")]
CallingOption = Annotated[
    str | None,
    typer.Option(
        "-aet", "--aetitle", metavar="AET", help=f"Calling AE title: --peer's own, else {DEFAULT_CALLING}.",
    ),
]  # fmt: skip
BindOption = Annotated[
    str | None,
    typer.Option("-b", "--bind", metavar="AET[@IP][:PORT]", help="Calling AE title as dcm4che spells it."),
]
TimeoutOption = Annotated[
    float | None, typer.Option("--timeout", metavar="SECONDS", min=0.01, help="For each answer of the peer.")
]

_ADDRESS = re.compile(r"(?:(?P<aet>[^@]*)@)?(?P<host>\[[^\]]+\]|[^:\[\]]+):(?P<port>\d{1,5})")


@dataclass(frozen=True)
class Remote:
    """Whom to call and under which title.

    Attributes:
        configured: it is a peer of the configuration.
    """

    peer: Peer
    calling: str
    configured: bool = False

    @property
    def name(self) -> str:
        """The peer as ``AET@host:port``."""
        host = f"[{self.peer.host}]" if ":" in self.peer.host else self.peer.host
        return f"{self.peer.aet}@{host}:{self.peer.port}"


def remote(
    connect: str | None,
    peer: str | None,
    called: str | None,
    calling: str | None,
    bind: str | None,
    config: Path | None,
    timeout: float | None,
) -> Remote:
    """Understand the options of a client verb.

    Raises:
        typer.BadParameter: they name no peer, two, or no AE title.
    """
    mine = calling or (bind.partition("@")[0].partition(":")[0] if bind else None)
    if (connect is None) == (peer is None):
        raise typer.BadParameter("name the peer once: -c AET@HOST:PORT, or --peer NAME of a configuration")
    if connect is not None:
        return Remote(_from_address(connect, called, timeout), _title(mine or DEFAULT_CALLING, "-aet"))
    loaded = configuration(config)
    assert peer is not None
    target = _from_configuration(loaded, peer, called, timeout)
    return Remote(target, _title(mine or loaded.ae.title, "-aet"), configured=True)


def listener(bind: str | None) -> tuple[str, int] | None:
    """Where ``-b`` says to listen: address and port; None when it names no port.

    Raises:
        typer.BadParameter: the port is none.
    """
    if bind is None:
        return None
    title, at, address = bind.partition("@")
    host, colon, port = (address if at else title).rpartition(":")
    if not colon:
        return None
    if not port.isdecimal() or not 1 <= int(port) <= 65535:
        raise typer.BadParameter(f"'{bind}' is not AET[@IP][:PORT]", param_hint="-b")
    return (host.strip("[]") if at and host else "127.0.0.1"), int(port)


def _from_address(text: str, called: str | None, timeout: float | None) -> Peer:
    match = _ADDRESS.fullmatch(text)
    if match is None or not 1 <= int(match["port"]) <= 65535:
        raise typer.BadParameter(f"'{text}' is not AET@HOST:PORT", param_hint="-c")
    aet = called or match["aet"]
    if not aet:
        raise typer.BadParameter(f"'{text}' names no AE title: AET@HOST:PORT, or give -aec", param_hint="-c")
    timeouts = Timeouts(dimse=timeout) if timeout else Timeouts()
    return Peer(text, _title(aet, "-c"), match["host"].strip("[]"), int(match["port"]), timeouts)


def _from_configuration(config: Config, name: str, called: str | None, timeout: float | None) -> Peer:
    known = config.peers.get(name)
    if known is None:
        raise typer.BadParameter(f"no peer is named '{name}' in {config.source}", param_hint="--peer")
    configured = known.timeouts
    dimse = timedelta(seconds=timeout) if timeout else configured.dimse
    deadlines = (configured.connect, configured.acse, dimse, configured.network)
    timeouts = Timeouts(*(one.total_seconds() for one in deadlines))
    tls = known.tls
    context = client_context(tls.ca, tls.certificate, tls.key, check_host=tls.check_host) if tls.ca else None
    return Peer(name, _title(called or known.aet, "-aec"), known.host, known.port, timeouts, context)


def _title(text: str, option: str) -> str:
    try:
        return ae_title(text)
    except InvalidAETitle as error:
        raise typer.BadParameter(f"'{text}': {error}", param_hint=option) from error

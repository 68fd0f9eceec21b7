"""``echo``: is there a DICOM peer, and does it accept us (C-ECHO)."""

from __future__ import annotations

from time import perf_counter

import typer

from gateway.cli.common import OPERATION_FAILED, ConfigOption, JsonOption, print_json, problem
from gateway.cli.remote import (
    BindOption,
    CalledOption,
    CallingOption,
    ConnectOption,
    PeerOption,
    TimeoutOption,
    remote,
)
from gateway.dicom.models import VERIFICATION
from gateway.dimse.requestor import connect as associate

_IMPLICIT = "1.2.840.10008.1.2"


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command("echo")(echo)


def echo(
    connect: ConnectOption = None,
    peer: PeerOption = None,
    called: CalledOption = None,
    calling: CallingOption = None,
    bind: BindOption = None,
    config: ConfigOption = None,
    timeout: TimeoutOption = None,
    as_json: JsonOption = False,
) -> int:
    """Verify a peer with C-ECHO."""
    target = remote(connect, peer, called, calling, bind, config, timeout)
    started = perf_counter()
    with associate(target.peer, target.calling, [(VERIFICATION, _IMPLICIT)]) as association:
        associated = perf_counter()
        status = association.echo()
        ended = perf_counter()
    if as_json:
        print_json({"status": status, "association_seconds": associated - started, "echo_seconds": ended - associated})
    elif status == 0:
        print(
            f"{target.name} answers as {target.peer.aet}: association {1000 * (associated - started):.1f} ms,"
            f" echo {1000 * (ended - associated):.2f} ms"
        )
    if status != 0:
        problem(f"{target.name}: status {status:04X}H")
        return OPERATION_FAILED
    return 0

"""``serve``: run the gateway until it is told to stop."""

from __future__ import annotations

import typer

from gateway.cli.common import ConfigOption, configuration
from gateway.daemon.listeners import Listeners
from gateway.daemon.running import serve as run


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command("serve")(serve)


def serve(config: ConfigOption = None) -> int:
    """Serve DICOM and HTTP until SIGTERM or Ctrl-C; running operations are finished first.

    One line on standard output says where it listens, once connections are accepted. SIGHUP reads the rules again.
    """
    loaded = configuration(config)

    def announce(listeners: Listeners) -> None:
        ae, http = loaded.ae, loaded.http
        where = f"DICOM on {ae.bind} port {listeners.port}, HTTP on {http.bind} port {listeners.http_port}"
        print(f"{ae.title} serves {where}", flush=True)

    return run(loaded, announce=announce)

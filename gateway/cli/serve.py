"""``serve``: run the gateway until it is told to stop."""

from __future__ import annotations

import typer

from gateway.cli.common import ConfigOption, configuration
from gateway.daemon.running import Gateway
from gateway.daemon.running import serve as run


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command("serve")(serve)


def serve(config: ConfigOption = None) -> None:
    """Serve DICOM and HTTP until SIGTERM or Ctrl-C; running operations are finished first.

    One line on standard output says where it listens, once everything answers.
    """
    loaded = configuration(config)

    def announce(gateway: Gateway) -> None:
        ae, http = loaded.ae, loaded.http
        print(
            f"{ae.title} serves DICOM on {ae.bind} port {gateway.port}, HTTP on {http.bind} port {gateway.http_port}",
            flush=True,
        )

    run(loaded, announce=announce)

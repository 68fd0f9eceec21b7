"""What one process of the gateway runs: all of it, or its share when several processes divide the work.

Every process has the archive, the leading archives with their caches, commitment and the rules, each opened after the
fork. DICOM and HTTP are switched on apart: with several workers, those serve DICOM only, and one more process serves
HTTP, so that health and metrics answer however busy the workers are.
"""

from __future__ import annotations

import gc
import signal
from collections.abc import Callable
from contextlib import ExitStack, suppress
from typing import Self

from gateway import logs
from gateway.coercion.reload import Reloader
from gateway.config import Config
from gateway.daemon.everywhere import control_verbs
from gateway.daemon.interfaces import build_app, build_server
from gateway.daemon.listeners import Listeners, http_tls
from gateway.daemon.memory import GIVE_BACK_SECONDS, give_back
from gateway.daemon.parts import open_parts
from gateway.daemon.share import Share
from gateway.errors import ConfigError
from gateway.web.connections import Bounds
from gateway.web.server import WebServer
from gateway.workers.control import ControlServer
from gateway.workers.signals import Signals

DRAIN_SECONDS = 20.0
"""What running operations have after SIGTERM; systemd and Kubernetes kill after 30 s and more."""

_COLLECT_AFTER = 5_000
"""More objects made than freed since the last look for garbage, where Python has 700; as other servers set it."""

_log = logs.get_logger("daemon")


class Process:
    """A process's share of the gateway, running inside a ``with`` block."""

    def __init__(self, config: Config, listeners: Listeners, share: Share) -> None:
        self._config = config
        self._listeners = listeners
        self._share = share
        self._stack = ExitStack()
        self._rules: Reloader | None = None

    def reload(self) -> None:
        """Read the rules again; problems are logged and counted, the rules in force stay."""
        if self._rules is not None:
            with suppress(ConfigError):
                self._rules.reload()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            parts = open_parts(self._config, self._share, stack)
            self._rules = parts.rules
            if self._share.control:
                verbs = control_verbs(parts.rules, parts.leading)
                stack.callback(ControlServer(self._share.control, self._share.name, verbs).close)
            if self._share.dicom:
                server = build_server(self._config, parts, self._listeners.dicom, self._share)
                server.start()
                stack.callback(server.stop, DRAIN_SECONDS)
            if self._share.http:
                app = build_app(self._config, parts, self._share)
                http = self._config.http
                bounds = Bounds(http.max_connections, http.timeout.total_seconds())
                web = WebServer(app, self._listeners.http, bounds, http_tls(self._config))
                web.start()
                stack.callback(web.stop)
            self._stack = stack.pop_all()
        _log.info("ready", worker=self._share.name, version=parts.rules().version)
        return self

    def __exit__(self, *exc: object) -> None:
        self._stack.close()


def run_until_stopped(config: Config, listeners: Listeners, share: Share, ready: Callable[[], None]) -> None:
    """Run a share until SIGTERM or SIGINT; SIGHUP reads the rules again.

    Args:
        ready: called once everything answers.
    """
    with Signals((signal.SIGTERM, signal.SIGINT, signal.SIGHUP)) as signals:
        logs.name_process(share.name)
        with Process(config, listeners, share) as process:
            _settle()
            ready()
            while (came := signals.wait(GIVE_BACK_SECONDS)) <= {signal.SIGHUP}:
                if came:
                    process.reload()
                else:
                    give_back()
            _log.info("stopping")


def _settle() -> None:
    """Tell the garbage collector that what is there now stays.

    Modules, configuration and rules are a hundred thousand objects, looked at in each full collection for nothing, as
    are short-lived ones every 700: a twentieth of the CPU under load. Nothing here relies on cycles being found soon.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(_COLLECT_AFTER, *gc.get_threshold()[1:])

"""Starting the parts in order, waiting for a signal, stopping them in the opposite order."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from types import FrameType
from typing import Self

from prometheus_client import CollectorRegistry
from starlette.routing import BaseRoute

from gateway import logs
from gateway.archive.local import LocalArchive
from gateway.coercion.parser import load_rules
from gateway.coercion.rules import RuleSet
from gateway.commitment.elsewhere import LeadingInstances
from gateway.commitment.service import Commitment
from gateway.config import Config
from gateway.config.models import LogFormat
from gateway.daemon import peers
from gateway.daemon.archiving import build_archive
from gateway.daemon.chain import build_handlers
from gateway.daemon.committing import build_commitment, commitment_web, rejecting
from gateway.daemon.leading import build_leading
from gateway.daemon.observing import Scrape, readiness
from gateway.dimse.acceptor import Deadlines
from gateway.dimse.policy import PeerPolicy
from gateway.dimse.server import Endpoint, Limits, Server
from gateway.logs import get_logger
from gateway.query.ports import Leading
from gateway.web.access import Tokens
from gateway.web.app import create_app
from gateway.web.cache import cache_routes
from gateway.web.health import Check
from gateway.web.server import WebServer

DRAIN_SECONDS = 20.0
"""What running operations have after SIGTERM; systemd and Kubernetes kill after 30 s and more."""

_log = get_logger("daemon")


class Gateway:
    """A gateway built from a configuration; a context manager that runs it.

    Attributes:
        port: the DICOM port bound, also where 0 was asked for.
        http_port: the HTTP port bound.

    Raises:
        ConfigError: rules that cannot be parsed, a port in use.
        StorageError: the archive cannot be opened.
    """

    def __init__(self, config: Config) -> None:
        self._config = config
        self.rules = load_rules(config.coercion.rules) if config.coercion.rules else RuleSet.default()
        self._stack = contextlib.ExitStack()
        self.port = 0
        self.http_port = 0

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as stack:
            archive = build_archive(self._config)
            stack.callback(archive.close)
            archive.prepare()
            archive.start()
            leading = build_leading(self._config)
            stack.callback(leading.close)
            commitment = build_commitment(self._config, archive, LeadingInstances(leading.archives))
            commitment.prepare()
            commitment.start()
            stack.callback(commitment.stop)
            server = self._server(archive, leading.view, commitment)
            with _bound(self._config, ("ae", "port")):
                server.start()
            stack.callback(server.stop, DRAIN_SECONDS)
            self.port = server.port
            with _bound(self._config, ("http", "port")):
                web = self._web(
                    readiness(archive, leading.archives, self._config.archive.min_free),
                    Scrape(archive),
                    [
                        *commitment_web(self._config, commitment, archive, lambda: self.rules),
                        *cache_routes(leading.desk.show, leading.desk.flush),
                    ],
                )
            web.start()
            stack.callback(web.stop)
            self.http_port = web.port
            self._stack = stack.pop_all()
        _log.info("ready", port=self.port, http_port=self.http_port, version=self.rules.version)
        return self

    def __exit__(self, *exc: object) -> None:
        self._stack.close()

    def _server(self, archive: LocalArchive, leading: Leading | None, commitment: Commitment) -> Server:
        ae = self._config.ae
        handlers = build_handlers(self._config, archive, leading, lambda: self.rules)
        assert handlers.store is not None
        store = rejecting(self._config, handlers.store, archive, commitment.ledgers)
        return Server(
            replace(handlers, action=commitment.action, event=commitment.event, store=store),
            PeerPolicy([ae.title], peers.known_callers(self._config)),
            Endpoint(ae.bind, ae.port),
            deadlines=Deadlines(
                setup=ae.timeouts.acse.total_seconds(),
                idle=ae.timeouts.idle.total_seconds(),
                network=ae.timeouts.network.total_seconds(),
            ),
            limits=Limits(
                associations=ae.max_associations, per_address=ae.max_associations_per_peer, max_pdu=ae.max_pdu
            ),
        )

    def _web(
        self, checks: dict[str, Check], registry: Callable[[], CollectorRegistry], routes: Sequence[BaseRoute]
    ) -> WebServer:
        http = self._config.http
        tokens = Tokens.read(http.token_file, http.read_only_token_file)
        return WebServer(create_app(checks, registry=registry, tokens=tokens, routes=routes), http.bind, http.port)


@contextlib.contextmanager
def _bound(config: Config, path: tuple[str, str]) -> Iterator[None]:
    """Turn a refused bind into a problem of the key that says where to listen."""
    try:
        yield
    except OSError as error:
        section = config.ae if path[0] == "ae" else config.http
        text = f"cannot listen on {section.bind} port {section.port}: {error.strerror or error}"
        raise config.complaint(path, text, "is another gateway running? 0 takes a free port") from error


def serve(config: Config, *, announce: Callable[[Gateway], None]) -> None:
    """Run until SIGTERM or SIGINT, then finish what is running and stop.

    Args:
        announce: called once everything answers.
    """
    logs.configure(config.logging.level.value, as_json=config.logging.format is LogFormat.JSON)
    stop = threading.Event()

    def handle(_number: int, _frame: FrameType | None) -> None:
        stop.set()

    before = {number: signal.signal(number, handle) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        with Gateway(config) as gateway:
            announce(gateway)
            stop.wait()
            _log.info("stopping")
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

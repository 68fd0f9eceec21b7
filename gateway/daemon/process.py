"""What one process of the gateway runs: all of it, or its share when several processes divide the work.

Every process has the archive, the leading archives with their caches, commitment and the rules, each opened after the
fork. DICOM and HTTP are switched on apart: with several workers, those serve DICOM only, and one more process serves
HTTP, so that health and metrics answer however busy the workers are.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Event
from typing import Any, Self

from prometheus_client.exposition import generate_latest
from starlette.routing import Route
from starlette.types import ASGIApp

from gateway import logs, metrics
from gateway.archive.local import LocalArchive
from gateway.coercion.reload import Reloader
from gateway.commitment.elsewhere import LeadingInstances
from gateway.commitment.service import Commitment
from gateway.commitment.withheld import WithholdingLeading
from gateway.config import Config
from gateway.daemon import peers
from gateway.daemon.archiving import build_archive
from gateway.daemon.audited import AuditedPolicy, audited
from gateway.daemon.auditing import Auditor, build_auditor
from gateway.daemon.chain import build_handlers
from gateway.daemon.committing import build_commitment, commitment_web, rejecting
from gateway.daemon.leading import LeadingArchives, build_leading
from gateway.daemon.listeners import Listeners
from gateway.daemon.observing import Scrape, readiness
from gateway.dimse.acceptor import Deadlines
from gateway.dimse.policy import PeerPolicy
from gateway.dimse.ports import Policy
from gateway.dimse.server import Alone, Endpoint, Limits, Place, Server
from gateway.errors import ConfigError
from gateway.query.desk import CacheDesk, joined
from gateway.web.access import Tokens
from gateway.web.app import create_app
from gateway.web.cache import cache_routes
from gateway.web.logging import logging_routes
from gateway.web.server import WebServer
from gateway.workers.control import ControlServer, ask_all
from gateway.workers.totals import total

DRAIN_SECONDS = 20.0
"""What running operations have after SIGTERM; systemd and Kubernetes kill after 30 s and more."""

_LOOK_SECONDS = 0.5
"""A signal may reach another thread, which does not wake this one; Python runs its handler in this one only."""

_log = logs.get_logger("daemon")


@dataclass(frozen=True)
class Share:
    """Which part of the work a process does.

    Attributes:
        name: of the process, on its log lines and control socket.
        control: folder of the control sockets; None when this process is the only one.
    """

    name: str = "gateway"
    dicom: bool = True
    http: bool = True
    control: Path | None = None
    place: Place = Alone()  # noqa: RUF009 - it has no state


def prepare(config: Config) -> None:
    """Bring the files in order, once, before any process serves: what a crash left, a new DICOMDIR, the ledger.

    Raises:
        ConfigError: the rules or the commitment decision cannot be loaded.
        StorageError: the archive or the ledger cannot be used.
    """
    Reloader(config.coercion.rules)
    archive = build_archive(config)
    try:
        archive.prepare()
        commitment = build_commitment(config, archive, None)
        commitment.prepare()
        commitment.stop()
    finally:
        archive.close()


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
            rules = self._rules = stack.enter_context(Reloader(self._config.coercion.rules))
            archive = build_archive(self._config)
            stack.callback(archive.close)
            archive.open()
            leading = build_leading(self._config, self._share.control)
            stack.callback(leading.close)
            archive.on_deleted(lambda studies: _forget(leading, studies))
            archive.start()
            auditor = build_auditor(self._config, self._share.name, archive, stack)
            if auditor and self._share.http:  # one process tells of what all of them see
                archive.on_deleted(auditor.deleted)
                rules.observers.append(lambda new: auditor.rules_changed(new.version))
                auditor.started(up=True)
                stack.callback(auditor.started, up=False)
            commitment = build_commitment(self._config, archive, LeadingInstances(leading.archives))
            commitment.start(counting=self._share.http)
            stack.callback(commitment.stop)
            if self._share.control:
                verbs = control_verbs(rules, leading)
                stack.callback(ControlServer(self._share.control, self._share.name, verbs).close)
            if self._share.dicom:
                server = self._server(archive, leading, commitment, rules, auditor)
                server.start()
                stack.callback(server.stop, DRAIN_SECONDS)
            if self._share.http:
                web = WebServer(self._app(archive, leading, commitment, rules, auditor), self._listeners.http)
                web.start()
                stack.callback(web.stop)
            self._stack = stack.pop_all()
        _log.info("ready", worker=self._share.name, version=rules().version)
        return self

    def __exit__(self, *exc: object) -> None:
        self._stack.close()

    def _server(
        self,
        archive: LocalArchive,
        leading: LeadingArchives,
        commitment: Commitment,
        rules: Reloader,
        auditor: Auditor | None,
    ) -> Server:
        ae = self._config.ae
        view = leading.view and WithholdingLeading(leading.view, commitment.ledgers.rejections)
        handlers = build_handlers(self._config, archive, view, rules)
        assert handlers.store is not None
        store = rejecting(self._config, handlers.store, archive, commitment.ledgers)
        handlers = replace(handlers, action=commitment.action, event=commitment.event, store=store)
        policy: Policy = PeerPolicy([ae.title], peers.known_callers(self._config))
        if auditor:
            handlers, policy = audited(handlers, auditor), AuditedPolicy(policy, auditor)
        return Server(
            handlers,
            policy,
            Endpoint(listener=self._listeners.dicom),
            deadlines=Deadlines(
                setup=ae.timeouts.acse.total_seconds(),
                idle=ae.timeouts.idle.total_seconds(),
                network=ae.timeouts.network.total_seconds(),
            ),
            limits=Limits(
                associations=ae.max_associations, per_address=ae.max_associations_per_peer, max_pdu=ae.max_pdu
            ),
            place=self._share.place,
        )

    def _app(
        self,
        archive: LocalArchive,
        leading: LeadingArchives,
        commitment: Commitment,
        rules: Reloader,
        auditor: Auditor | None,
    ) -> ASGIApp:
        http = self._config.http
        watched = {"refused": auditor.login_failed} if auditor else {}
        return create_app(
            readiness(archive, self._config.archive.min_free, _up(leading, self._share.control)),
            exposition=_totals(Scrape(archive), self._share.name, self._share.control),
            tokens=Tokens.read(http.token_file, http.read_only_token_file),
            routes=[
                *commitment_web(self._config, commitment, archive, rules),
                *_cache_routes(leading.desk, self._share.control),
                *logging_routes(logs.level, _log_level(self._share.control)),
            ],
            **watched,
        )


def control_verbs(rules: Reloader, leading: LeadingArchives) -> Mapping[str, Callable[[Any], Any]]:
    """What the other processes may ask of one."""
    return {
        "metrics": lambda _: generate_latest(metrics.REGISTRY).decode(),
        "log.level": logs.set_level,
        "reload": lambda _: rules.reload().version,
        "leading": lambda _: leading.up(),
        "cache.show": leading.desk.show,
        "cache.flush": lambda chosen: leading.desk.flush(**chosen),
    }


def _totals(own: Callable[[], str], name: str, control: Path | None) -> Callable[[], str]:
    """The metrics of all processes together; what is the same in all of them is told by this one."""
    if control is None:
        return own
    return lambda: total([own(), *(text for other, text in ask_all(control, "metrics").items() if other != name)])


def _log_level(control: Path | None) -> Callable[[str], None]:
    """Changes the level of the log in all processes."""
    if control is None:
        return logs.set_level

    def everywhere(level: str) -> None:
        ask_all(control, "log.level", level)

    return everywhere


def _up(leading: LeadingArchives, control: Path | None) -> Callable[[], Mapping[str, bool]]:
    """By name, whether a leading archive answers: it does not when any process has found it so."""
    if control is None:
        return leading.up

    def everywhere() -> Mapping[str, bool]:
        known = [leading.up(), *ask_all(control, "leading").values()]
        return {name: all(up.get(name, True) for up in known) for name in leading.up()}

    return everywhere


def _cache_routes(desk: CacheDesk, control: Path | None) -> list[Route]:
    """Looking at and emptying the caches of all processes."""
    if control is None:
        return cache_routes(desk.show, desk.flush)

    def show(archive: str) -> dict[str, Any]:
        desk.show(archive)  # refuses a name that is none, where asking all would leave every process out
        return joined(ask_all(control, "cache.show", archive).values())

    def flush(*, archive: str, study: str, patient: str) -> int:
        desk.show(archive)
        chosen = {"archive": archive, "study": study, "patient": patient}
        return sum(ask_all(control, "cache.flush", chosen).values())

    return cache_routes(show, flush)


def _forget(leading: LeadingArchives, studies: Sequence[str]) -> None:
    """A deleted study may come back corrected: ask anew then."""
    for cache in leading.caches:
        for uid in studies:
            cache.flush(study=uid)


def run_until_stopped(config: Config, listeners: Listeners, share: Share, ready: Callable[[], None]) -> None:
    """Run a share until SIGTERM or SIGINT; SIGHUP reads the rules again.

    Args:
        ready: called once everything answers.
    """
    stop, reload = Event(), Event()
    woken = Event()

    def note(event: Event) -> Callable[..., None]:
        def handle(*_: object) -> None:
            event.set()
            woken.set()

        return handle

    handlers = {signal.SIGTERM: note(stop), signal.SIGINT: note(stop), signal.SIGHUP: note(reload)}
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        with logs.bound(worker=share.name), Process(config, listeners, share) as process:
            ready()
            while not stop.is_set():
                woken.wait(_LOOK_SECONDS)
                woken.clear()
                if reload.is_set():
                    reload.clear()
                    process.reload()
            _log.info("stopping")
    finally:
        for number, old in before.items():
            signal.signal(number, old)

"""What only several keys together, or the disk, can tell about a configuration whose values are well-typed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from difflib import get_close_matches
from ipaddress import ip_address
from pathlib import Path

from gateway.config.document import KeyPath
from gateway.config.models import Config, Permission, Via

Finding = tuple[KeyPath, str, str]
"""Path, problem, hint."""


def find_problems(config: Config, peers: Mapping[str, object]) -> Iterator[Finding]:
    """Look at a configuration.

    Args:
        config: sections that were not valid have their defaults here.
        peers: the names that are defined, also those whose entries were not valid.
    """
    for check in _PEER_CHECKS:
        yield from check(config, peers)
    for one in _CHECKS:
        yield from one(config)


def _leading_peers(config: Config, peers: Mapping[str, object]) -> Iterator[Finding]:
    for index, leading in enumerate(config.leading):
        if leading.peer not in peers:
            yield ("leading", index, "peer"), *_unknown_peer(leading.peer, peers)


def _destinations(config: Config, peers: Mapping[str, object]) -> Iterator[Finding]:
    for name, peer in config.peers.items():
        for index, destination in enumerate(peer.destinations or ()):
            if destination not in peers:
                yield ("peers", name, "destinations", index), *_unknown_peer(destination, peers)


def _unknown_peer(name: str, peers: Mapping[str, object]) -> tuple[str, str]:
    close = get_close_matches(name, peers, 1)
    hint = f"did you mean '{close[0]}'?" if close else f"defined are: {', '.join(peers) or 'none'}"
    return f"no peer is named '{name}'", hint


def _same_title(config: Config) -> Iterator[Finding]:
    first: dict[str, str] = {}
    for name, peer in config.peers.items():
        if peer.aet in first:
            hint = "a move destination is found by its AE title"
            yield ("peers", name, "aet"), f"'{peer.aet}' is the AE title of '{first[peer.aet]}' already", hint
        first.setdefault(peer.aet, name)


def _leads_to_itself(config: Config) -> Iterator[Finding]:
    for index, leading in enumerate(config.leading):
        peer = config.peers.get(leading.peer)
        if peer and peer.aet == config.ae.title and peer.port == config.ae.port and is_loopback(peer.host):
            yield ("leading", index, "peer"), f"'{leading.peer}' is this gateway itself", "queries would go in a circle"


def _leading_twice(config: Config) -> Iterator[Finding]:
    names = [leading.peer for leading in config.leading]
    for index, name in enumerate(names):
        if name in names[:index]:
            yield ("leading", index, "peer"), f"'{name}' is a leading archive already", ""


def _pulled_by_move(config: Config) -> Iterator[Finding]:
    """A leading archive that is asked by C-MOVE sends by C-STORE, which it has to be allowed."""
    if config.retrieve.via is not Via.MOVE:
        return
    for leading in config.leading:
        peer = config.peers.get(leading.peer)
        if peer and Permission.STORE not in peer.allow:
            hint = "it sends what is pulled: add store to its allow, or set retrieve.via to get"
            yield ("retrieve", "via"), f"'{leading.peer}' is not allowed to store", hint


def _spool(config: Config) -> Iterator[Finding]:
    spool = config.retrieve.spool
    if spool is not None and spool.resolve().is_relative_to(config.archive.dicomdir.parent.resolve()):
        root = config.archive.dicomdir.parent
        yield ("retrieve", "spool"), "the spool must be outside the file-set", f"its root is {root}"


def _unbounded_cache(config: Config) -> Iterator[Finding]:
    for index, leading in enumerate(config.leading):
        cache = leading.query_cache
        for key, limit in (("max_entries", cache.max_entries), ("max_studies", cache.max_studies)):
            if limit == 0 and cache.ttl is None:
                hint = "it would grow without end: set ttl, such as PT5M, or a bound"
                yield ("leading", index, "query_cache", key), "0 is unbounded and needs a ttl", hint


def _dicomdir(config: Config) -> Iterator[Finding]:
    dicomdir = config.archive.dicomdir
    if dicomdir.is_dir():
        yield ("archive", "dicomdir"), f"{dicomdir} is a folder", "name the DICOMDIR in it"
    elif not dicomdir.exists() and not config.archive.create:
        yield ("archive", "dicomdir"), f"{dicomdir} does not exist", "archive.create: true begins an empty file-set"
    index = config.archive.index
    if index is not None and index.resolve().is_relative_to(dicomdir.parent.resolve()):
        yield ("archive", "index"), "the index must be outside the file-set", f"its root is {dicomdir.parent}"


def _tls(config: Config) -> Iterator[Finding]:
    ours = config.ae.tls
    sides: list[tuple[KeyPath, Path | None, Path | None]] = [(("ae", "tls"), ours.certificate, ours.key)]
    sides.append((("http", "tls"), config.http.tls.certificate, config.http.tls.key))
    files: list[tuple[KeyPath, Path | None]] = [(("ae", "tls", "ca"), ours.ca)]
    for name, peer in config.peers.items():
        sides.append((("peers", name, "tls"), peer.tls.certificate, peer.tls.key))
        files.append((("peers", name, "tls", "ca"), peer.tls.ca))
    for path, certificate, key in sides:
        if (certificate is None) != (key is None):
            yield (*path, "key" if certificate is None else "certificate"), "certificate and key go together", ""
        files += [((*path, "certificate"), certificate), ((*path, "key"), key)]
    for path, file in files:
        if file is not None and not file.is_file():
            yield path, f"{file} does not exist", ""
    if ours.ca is not None and ours.certificate is None:
        yield ("ae", "tls", "ca"), "without a certificate the port speaks in clear", "set ae.tls.certificate and key"


def _files(config: Config) -> Iterator[Finding]:
    wanted: tuple[tuple[KeyPath, Path | None], ...] = (
        (("coercion", "rules"), config.coercion.rules),
        (("http", "token_file"), config.http.token_file),
        (("http", "read_only_token_file"), config.http.read_only_token_file),
    )
    for path, file in wanted:
        if file is not None and not file.is_file():
            yield path, f"{file} does not exist", ""


def _audit(config: Config) -> Iterator[Finding]:
    audit = config.audit
    if audit.syslog.host and audit.syslog.spool is None:
        yield ("audit", "syslog", "host"), "a collector needs a spool", "audit.syslog.spool: var/audit.spool"
    if audit.syslog.host and audit.file is not None:
        yield ("audit", "file"), "messages go to the collector instead", "leave out file or syslog.host"
    for key, file in (("file", audit.file), ("syslog", audit.syslog.spool if audit.syslog.host else None)):
        if file is not None and not file.parent.is_dir():
            path = ("audit", key) if key == "file" else ("audit", key, "spool")
            yield path, f"{file.parent} does not exist", "make the folder"


def _remote_http(config: Config) -> Iterator[Finding]:
    http = config.http
    if not is_loopback(http.bind) and http.token_file is None:
        yield ("http", "bind"), f"{http.bind} is reachable from elsewhere", "set http.token_file, or bind to 127.0.0.1"


def is_loopback(host: str) -> bool:
    """Whether an address to bind to is reachable from this machine only."""
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


_PEER_CHECKS: tuple[Callable[[Config, Mapping[str, object]], Iterator[Finding]], ...] = (_leading_peers, _destinations)
_CHECKS: tuple[Callable[[Config], Iterator[Finding]], ...] = (
    _same_title,
    _leads_to_itself,
    _leading_twice,
    _pulled_by_move,
    _spool,
    _unbounded_cache,
    _dicomdir,
    _files,
    _tls,
    _remote_http,
    _audit,
)

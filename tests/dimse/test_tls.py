"""TLS: the same services, handshakes that block nobody, and clients that only pretend."""

from __future__ import annotations

import shutil
import ssl
import subprocess
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from gateway.dimse.acceptor import Deadlines
from gateway.dimse.ports import Peer
from gateway.dimse.requestor import connect
from gateway.dimse.server import Endpoint, Server
from gateway.dimse.services import Handlers
from gateway.dimse.slots import Limits
from gateway.errors import UpstreamError, UpstreamKind
from tests.dimse.doubles import CT, EXPLICIT, STUDY_ROOT_FIND, Finder, Folder, gateway, instance, serving, studies
from tests.dimse.raw import raw
from tests.dimse.test_faults import QUERY, SHORT


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory: pytest.TempPathFactory) -> Endpoint:
    """A server's certificate, signed by itself, for 127.0.0.1."""
    if not shutil.which("openssl"):
        pytest.skip("needs openssl to make a certificate")
    folder = tmp_path_factory.mktemp("tls")
    command = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=gateway -addext subjectAltName=IP:127.0.0.1"
    subprocess.run(
        [*command.split(), "-keyout", "key", "-out", "certificate"], cwd=folder, check=True, capture_output=True
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(folder / "certificate", folder / "key")
    _trust[id(context)] = folder / "certificate"
    return Endpoint(tls=context)


_trust: dict[int, Path] = {}


def secured(server: Server, endpoint: Endpoint) -> Peer:
    """The server as a peer whose certificate is known."""
    context = ssl.create_default_context(cafile=str(_trust[id(endpoint.tls)]))
    return replace(gateway(server), tls=context)


def test_services_over_tls(endpoint: Endpoint, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    handlers = Handlers(find=Finder(studies(2000)), store=Folder(tmp_path / "in"))
    with (
        serving(handlers, endpoint=endpoint) as server,
        connect(secured(server, endpoint), "ME", [(STUDY_ROOT_FIND, EXPLICIT), (CT, EXPLICIT)]) as association,
    ):
        assert len(list(association.find(STUDY_ROOT_FIND, QUERY))) == 2000
        outgoing = instance(tmp_path, "1.2.3", 3_000_000)
        assert association.store(outgoing) == 0
    assert (tmp_path / "in" / "1.2.3").read_bytes() == Path(outgoing.path).read_bytes()[132:]


def test_a_cancel_is_seen_over_tls(endpoint: Endpoint) -> None:
    finder = Finder(studies(1) * 300_000)
    with (
        serving(Handlers(find=finder), endpoint=endpoint) as server,
        connect(secured(server, endpoint), "ME", [(STUDY_ROOT_FIND, EXPLICIT)]) as association,
    ):
        answers = association.find(STUDY_ROOT_FIND, QUERY)
        next(answers)
        answers.close()  # type: ignore[attr-defined]
        assert finder.closed.wait(5)
        assert association.is_open


def test_handshakes_that_never_end_block_nobody(endpoint: Endpoint) -> None:
    with serving(Handlers(find=Finder([])), endpoint=endpoint, deadlines=SHORT) as server, ExitStack() as stack:
        hello = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"
        pretenders = [stack.enter_context(raw(server.port)) for _ in range(10)]
        for peer in pretenders:
            peer.send(hello)
        with connect(secured(server, endpoint), "ME", [(STUDY_ROOT_FIND, EXPLICIT)]) as association:
            assert list(association.find(STUDY_ROOT_FIND, QUERY)) == []
        assert all(len(peer.ends()) <= 1 for peer in pretenders)  # cut at the deadline, an alert at most


def test_plain_text_to_a_tls_port_is_let_go(endpoint: Endpoint) -> None:
    with serving(Handlers(), endpoint=endpoint, deadlines=SHORT) as server:
        with pytest.raises(UpstreamError):
            connect(gateway(server), "ME", [(STUDY_ROOT_FIND, EXPLICIT)])
        with serving(Handlers()) as plain, pytest.raises(UpstreamError) as caught:
            connect(replace(secured(server, endpoint), port=plain.port), "ME", [(STUDY_ROOT_FIND, EXPLICIT)])
        assert caught.value.kind in {UpstreamKind.UNREACHABLE, UpstreamKind.TIMEOUT}


def test_a_certificate_nobody_knows_is_not_trusted(endpoint: Endpoint) -> None:
    with serving(Handlers(), endpoint=endpoint) as server:
        stranger = replace(gateway(server), tls=ssl.create_default_context())
        with pytest.raises(UpstreamError, match="TLS") as caught:
            connect(stranger, "ME", [(STUDY_ROOT_FIND, EXPLICIT)])
        assert caught.value.kind is UpstreamKind.UNREACHABLE


def test_the_limits_hold_over_tls(endpoint: Endpoint) -> None:
    with (
        serving(Handlers(find=Finder([])), endpoint=endpoint, limits=Limits(associations=1)) as server,
        connect(secured(server, endpoint), "ME", [(STUDY_ROOT_FIND, EXPLICIT)]),
        pytest.raises(UpstreamError),
    ):
        connect(secured(server, endpoint), "ME", [(STUDY_ROOT_FIND, EXPLICIT)])


def test_a_drain_wakes_idle_associations_over_tls(endpoint: Endpoint) -> None:
    deadlines = Deadlines(idle=60, linger=1)
    with serving(Handlers(find=Finder([])), endpoint=endpoint, deadlines=deadlines) as server:
        association = connect(secured(server, endpoint), "ME", [(STUDY_ROOT_FIND, EXPLICIT)])
        assert server.stop(drain=5)
        association.abort()

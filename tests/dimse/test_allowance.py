"""How much of a server one peer may take up, and that nobody else feels it."""

from __future__ import annotations

import threading
from time import monotonic

import pytest

from gateway.dicom.attributes import Attributes
from gateway.dicom.models import VERIFICATION
from gateway.dimse.acceptor import Deadlines
from gateway.dimse.ports import Allowance
from gateway.dimse.requestor import Association, connect
from gateway.dimse.server import Server
from gateway.dimse.services import Handlers
from gateway.errors import UpstreamError
from gateway.metrics import REGISTRY
from gateway.rates import Rate
from tests.dimse.doubles import EXPLICIT, IMPLICIT, STUDY_ROOT_FIND, Finder, gateway, serving, studies
from tests.support.waiting import wait_until

QUERY = Attributes.of({"QueryRetrieveLevel": "STUDY", "StudyInstanceUID": ""})


def opened(server: Server, aet: str) -> Association:
    return connect(gateway(server), aet, [(VERIFICATION, IMPLICIT), (STUDY_ROOT_FIND, EXPLICIT)])


def counted(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(f"dicom_gateway_{name}", labels) or 0.0


def test_a_peer_has_its_associations_and_others_have_theirs() -> None:
    before = counted("associations_rejected_total", reason="peer_limit")
    with serving(Handlers(), allowance=Allowance(associations=2)) as server:
        with opened(server, "ME") as first, opened(server, "ME"):
            for _ in range(3):  # those that are rejected do not count against those that come later
                with pytest.raises(UpstreamError, match="2/3/2"):
                    opened(server, "ME")
            with opened(server, "YOU"):
                first.release()
                wait_until(lambda: server.active == 2, "its place is free")
                opened(server, "ME").release()
        assert counted("associations_rejected_total", reason="peer_limit") == before + 3


def test_requests_over_the_rate_are_held_back_on_all_associations_together() -> None:
    before = counted("dimse_requests_limited_total", peer="me", outcome="delayed")
    allowance = Allowance(requests=Rate(20, burst=1))
    with serving(Handlers(), allowance=allowance) as server, opened(server, "ME") as one, opened(server, "ME") as two:
        began = monotonic()
        for _ in range(5):
            assert one.echo() == two.echo() == 0
        assert monotonic() - began >= 9 / 20
    assert counted("dimse_requests_limited_total", peer="me", outcome="delayed") >= before + 8


def test_nobody_else_waits() -> None:
    find, stop = Finder(studies(3)), threading.Event()
    with (
        serving(Handlers(find=find), allowance=Allowance(requests=Rate(5, burst=1))) as server,
        opened(server, "ME") as limited,
        opened(server, "YOU") as other,
    ):
        flood = threading.Thread(target=lambda: [limited.echo() for _ in iter(stop.is_set, True)])
        flood.start()
        began = monotonic()
        for _ in range(100):
            assert len(list(other.find(STUDY_ROOT_FIND, QUERY))) == 3
        assert monotonic() - began < 10  # at five a second it would be 20
        stop.set()
        flood.join()


@pytest.mark.parametrize(("ask", "status"), [("find", "A700H"), ("echo", "0213H")])
def test_what_would_wait_too_long_is_refused(ask: str, status: str) -> None:
    handlers, allowance = Handlers(find=Finder(studies(1))), Allowance(requests=Rate(0.01))
    with (
        serving(handlers, allowance=allowance, deadlines=Deadlines(turn=0.1)) as server,
        opened(server, "ME") as one,
    ):
        assert one.echo() == 0
        began = monotonic()
        if ask == "find":
            with pytest.raises(UpstreamError, match=status):
                list(one.find(STUDY_ROOT_FIND, QUERY))
        else:
            assert f"{one.echo():04X}H" == status
        assert monotonic() - began >= 0.1  # whoever asks again at once is slowed all the same
    assert counted("dimse_requests_limited_total", peer="me", outcome="refused") > 0


def test_a_stop_does_not_wait_for_those_held_back() -> None:
    with serving(Handlers(), allowance=Allowance(requests=Rate(0.2))) as server, opened(server, "ME") as one:
        assert one.echo() == 0
        ended: list[str] = []

        def ask() -> None:
            try:
                one.echo()
            except UpstreamError as error:
                ended.append(error.kind.value)

        waiting = threading.Thread(target=ask)
        before = counted("dimse_requests_limited_total", peer="me", outcome="delayed")
        waiting.start()
        wait_until(
            lambda: counted("dimse_requests_limited_total", peer="me", outcome="delayed") > before, "it is held back"
        )
        began = monotonic()
        assert server.stop(drain=10)
        assert monotonic() - began < 4
        waiting.join()
        assert ended == ["aborted"]

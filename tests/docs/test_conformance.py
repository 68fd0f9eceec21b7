"""The conformance statement is the one the code makes, and a running gateway negotiates what it says."""

import re
from pathlib import Path

import pytest

from gateway.cli import run
from gateway.daemon.conformance import statement
from gateway.dimse.negotiation import Role
from gateway.dimse.ports import Peer
from gateway.dimse.requestor import connect
from gateway.dimse.sopclasses import IDENTIFIER_SYNTAXES, STORAGE_SYNTAXES
from tests.support.gateways import gateway, peer

STATEMENT = Path("docs/conformance.md")
WORKLIST, INVENTORY_FIND = "1.2.840.10008.5.1.4.31", "1.2.840.10008.5.1.4.1.1.201.2"


def test_the_document_is_what_the_code_says() -> None:
    assert STATEMENT.read_text("utf-8") == statement(), "make it anew: dicom-gateway conformance > docs/conformance.md"


def test_the_verb_fills_in_a_configuration(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "gateway.yaml"
    file.write_text("ae: {title: MYTITLE, max_associations: 7}\narchive: {dicomdir: D, create: true}\n")
    assert run(["conformance", "--config", str(file)]) == 0
    out = capsys.readouterr().out
    assert "| AE title (`ae.title`) | MYTITLE |" in out
    assert "(`ae.max_associations`) | 7 |" in out


def section(title: str) -> str:
    found = re.search(rf"^### [0-9.]+ {title}\n(.*?)(?=^##|\Z)", STATEMENT.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    assert found is not None
    return found[1]


def test_a_running_gateway_accepts_what_it_says_and_nothing_else(tmp_path: Path) -> None:
    contexts, storage = section("Presentation contexts accepted").split("Storage SOP classes", 1)
    services = re.findall(r"`([0-9.]+)`", contexts)
    classes = re.findall(r"`(1\.2\.840\.10008\.5\.1\.4\.[0-9.]+)`", storage)
    assert len(services) == 11
    assert len(classes) > 150
    with gateway(tmp_path / "gw", peers={"ME": peer("CONFORM", 11112)}) as running:
        me = Peer("GATEWAY", "GATEWAY", "127.0.0.1", running.port)

        def accepted(pairs: list[tuple[str, str]], roles: dict[str, Role] | None = None) -> set[tuple[str, str]]:
            with connect(me, "CONFORM", pairs, roles=roles) as association:
                return {(one.abstract_syntax, one.transfer_syntax) for one in association.contexts}

        pairs = [(uid, syntax) for uid in services for syntax in IDENTIFIER_SYNTAXES]
        not_served = [(uid, IDENTIFIER_SYNTAXES[0]) for uid in (WORKLIST, INVENTORY_FIND)]
        assert accepted([*pairs, *not_served]) == set(pairs)
        for start in range(0, len(classes), 60):
            pairs = [(uid, IDENTIFIER_SYNTAXES[0]) for uid in classes[start : start + 60]]
            assert accepted(pairs, {uid: Role(scu=True, scp=True) for uid, _ in pairs}) == set(pairs)
        pairs = [(classes[0], syntax) for syntax in sorted(STORAGE_SYNTAXES)]
        assert accepted(pairs) == set(pairs)

"""TLS with DCMTK at the other end, in both directions, with good and bad certificates."""

import base64
import ssl
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from gateway.cli import run
from gateway.dimse.tls import client_context, server_context
from gateway.errors import ConfigError
from tests.support import dicomfiles, scu
from tests.support.gateways import RunningGateway, gateway, peer
from tests.support.peers import storescp
from tests.support.ports import free_port, is_open
from tests.support.processes import Running
from tests.support.tools import path_of
from tests.support.waiting import wait_until

pytestmark = pytest.mark.peers


@dataclass(frozen=True)
class Party:
    """Who has a certificate."""

    certificate: Path
    key: Path


def openssl(*arguments: str | Path) -> None:
    subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True, timeout=60)


def authority(folder: Path, name: str) -> Party:
    made = Party(folder / f"{name}.pem", folder / f"{name}.key")
    openssl(
        "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", f"/CN={name}",
        "-keyout", made.key, "-out", made.certificate,
    )  # fmt: skip
    return made


def signed(folder: Path, name: str, ca: Party) -> Party:
    made = Party(folder / f"{name}.pem", folder / f"{name}.key")
    request, names = folder / f"{name}.csr", folder / f"{name}.ext"
    names.write_text("subjectAltName=IP:127.0.0.1\n")
    openssl("req", "-newkey", "rsa:2048", "-nodes", "-subj", f"/CN={name}", "-keyout", made.key, "-out", request)
    openssl(
        "x509", "-req", "-days", "2", "-in", request, "-CA", ca.certificate, "-CAkey", ca.key, "-CAcreateserial",
        "-extfile", names, "-out", made.certificate,
    )  # fmt: skip
    return made


@dataclass(frozen=True)
class Hospital:
    folder: Path
    ca: Party
    other_ca: Party
    ours: Party
    viewer: Party
    stranger: Party


@pytest.fixture(scope="module")
def hospital(tmp_path_factory: pytest.TempPathFactory) -> Hospital:
    folder = tmp_path_factory.mktemp("tls")
    ca, other = authority(folder, "ca"), authority(folder, "other")
    return Hospital(
        folder, ca, other, signed(folder, "ours", ca), signed(folder, "viewer", ca), signed(folder, "stranger", other)
    )


@pytest.fixture(scope="module")
def mutual(hospital: Hospital) -> Iterator[RunningGateway]:
    tls = {
        "certificate": str(hospital.ours.certificate),
        "key": str(hospital.ours.key),
        "ca": str(hospital.ca.certificate),
    }
    with gateway(
        hospital.folder / "gw", peers={"VIEWER": peer("STORESCP", 11115)},
        ae={"title": "GATEWAY", "port": 0, "workers": 1, "tls": tls},
        audit={"file": str(hospital.folder / "audit.xml")},
    ) as running:  # fmt: skip
        yield running


def options(party: Party, ca: Party) -> list[str]:
    return ["+tls", str(party.key), str(party.certificate), "+cf", str(ca.certificate)]


def test_a_viewer_with_a_certificate_is_served(mutual: RunningGateway, hospital: Hospital, tmp_path: Path) -> None:
    with_tls = options(hospital.viewer, hospital.ca)
    assert scu.echo(mutual.port, aet="STORESCP", aec="GATEWAY", options=with_tls).returncode == 0
    files = dicomfiles.write(tmp_path, dicomfiles.study("tls", 3, "MR", PatientID="TLS"))
    sent = scu.run(
        "storescu", *with_tls, "-aet", "STORESCP", "-aec", "GATEWAY", "127.0.0.1", str(mutual.port), *files
    )  # fmt: skip
    assert sent.returncode == 0, sent.text
    found = scu.find(mutual.port, "STUDY", {"PatientID": "TLS"}, aet="STORESCP", aec="GATEWAY", options=with_tls)
    assert [one.PatientID for one in found.answers] == ["TLS"]


def alerts(hospital: Hospital) -> int:
    trail = hospital.folder / "audit.xml"
    return trail.read_text().count(base64.b64encode(b"TLS handshake failed").decode()) if trail.exists() else 0


@pytest.mark.parametrize("how", ["in clear", "without a certificate", "with a stranger's certificate"])
def test_others_are_not(mutual: RunningGateway, hospital: Hospital, how: str) -> None:
    given = {
        "in clear": [],
        "without a certificate": ["+tla", "-ic"],
        "with a stranger's certificate": options(hospital.stranger, hospital.ca),
    }[how]
    before = alerts(hospital)
    assert scu.echo(mutual.port, aet="STORESCP", aec="GATEWAY", options=["-ta", "10", *given]).returncode != 0
    wait_until(lambda: alerts(hospital) == before + 1, "the trail tells it")
    good = options(hospital.viewer, hospital.ca)
    assert scu.echo(mutual.port, aet="STORESCP", aec="GATEWAY", options=good).returncode == 0


@pytest.mark.parametrize(
    ("protocol", "accepted"), [("-tls1_1", False), ("-tls1_2", True), ("-tls1_3", True)],
)  # fmt: skip
def test_protocol_versions(mutual: RunningGateway, hospital: Hospital, protocol: str, *, accepted: bool) -> None:
    done = subprocess.run(
        [
            "openssl", "s_client", "-connect", f"127.0.0.1:{mutual.port}", protocol, "-cipher", "ALL:@SECLEVEL=0",
            "-cert", hospital.viewer.certificate, "-key", hospital.viewer.key, "-CAfile", hospital.ca.certificate,
        ],
        input=b"", capture_output=True, timeout=60, check=False,
    )  # fmt: skip
    assert (b"Verify return code: 0 (ok)" in done.stdout and b"Cipher is (NONE)" not in done.stdout) == accepted


def test_we_speak_tls_to_a_peer(hospital: Hospital, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    receiver = options(hospital.viewer, hospital.ca)
    with storescp(tmp_path / "viewer", options=["+xa"]) as plain:
        config = tmp_path / "gateway.yaml"

        def configured(port: int, ca: Path, certificate: Party) -> str:
            tls = f"{{ca: {ca}, certificate: {certificate.certificate}, key: {certificate.key}}}"
            config.write_text(
                "archive: {dicomdir: D, create: true}\n"
                f"peers: {{VIEWER: {{aet: STORESCP, host: 127.0.0.1, port: {port}, tls: {tls}}}}}\n"
            )
            return str(config)

        assert run(
            ["echo", "--peer", "VIEWER", "--config", configured(plain.port, hospital.ca.certificate, hospital.ours)]
        )
        assert len(capsys.readouterr().err.splitlines()) == 1
    port = free_port()
    (tmp_path / "in").mkdir()
    command: list[str | Path] = [
        path_of("storescp"),
        *receiver,
        "--fork",
        "-aet",
        "STORESCP",
        "-od",
        tmp_path / "in",
        str(port),
    ]
    with Running(command, tmp_path / "storescp.log"):
        wait_until(lambda: is_open(port), "storescp listens")
        good = configured(port, hospital.ca.certificate, hospital.ours)
        assert run(["echo", "--peer", "VIEWER", "--config", good]) == 0
        files = dicomfiles.write(tmp_path / "out", dicomfiles.study("out", 2, "MR"))
        assert run(["store", "--peer", "VIEWER", "--config", good, *map(str, files)]) == 0
        assert len(list((tmp_path / "in").iterdir())) == 2
        capsys.readouterr()
        for bad in (
            configured(port, hospital.other_ca.certificate, hospital.ours),
            configured(port, hospital.ca.certificate, hospital.stranger),
        ):
            assert run(["echo", "--peer", "VIEWER", "--config", bad]) == 1
            assert len(capsys.readouterr().err.splitlines()) == 1


def test_files_that_are_no_certificates(hospital: Hospital, tmp_path: Path) -> None:
    (tmp_path / "text").write_text("no certificate")
    ours = hospital.ours
    uses: list[Callable[[], ssl.SSLContext]] = [
        lambda: server_context(tmp_path / "text", ours.key, None),
        lambda: server_context(ours.certificate, hospital.viewer.key, None),
        lambda: server_context(tmp_path / "none", ours.key, None),
        lambda: client_context(tmp_path / "text", None, None),
    ]
    for use in uses:
        with pytest.raises(ConfigError) as caught:
            use()
        assert len(caught.value.problems) == 1

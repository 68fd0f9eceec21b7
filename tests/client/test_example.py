"""The example in the package's documentation, run as it stands against a gateway."""

from __future__ import annotations

import doctest
from pathlib import Path

import pytest

import gateway.client
from tests.support.dicomfiles import study, write_file_set
from tests.support.gateways import gateway as gateway_process
from tests.support.gateways import peer
from tests.support.ports import closed_port


def test_the_example_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dicomdir = write_file_set(tmp_path / "files", study("it", 3, PatientName="DOE^JANE"))
    monkeypatch.chdir(tmp_path)
    peers = {"ME": peer("ME", closed_port())}
    with gateway_process(tmp_path / "gw", peers=peers, dicomdir=dicomdir) as running:
        text = (gateway.client.__doc__ or "").replace("127.0.0.1:11112", f"127.0.0.1:{running.port}")
        test = doctest.DocTestParser().get_doctest(text, {}, "gateway.client", None, 0)
        assert len(test.examples) == 6
        outcome = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(test, clear_globs=False)
    assert outcome.failed == 0
    assert len(list((tmp_path / "downloads").iterdir())) == 3

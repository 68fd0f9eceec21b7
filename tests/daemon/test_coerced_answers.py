"""Rules for answers and for keys, on a running gateway with a leading archive."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support import dicomfiles, scu
from tests.support.gateways import gateway, peer
from tests.support.peers import dcmqrscp

RULES = """
rules:
  - name: say-where-it-comes-from
    where: answers
    then:
      - set: {StudyDescription: "corrected from {leading.AccessionNumber}"}
  - name: prefix
    where: keys
    then:
      - replace: {attribute: PatientID, pattern: "^X-", with: "", undo: {pattern: "^(?=.)", with: X-}}
"""


@pytest.mark.peers
def test_rules_for_answers_know_the_leading_archive(tmp_path: Path) -> None:
    rules = tmp_path / "rules.yaml"
    rules.write_text(RULES)
    dicomdir = dicomfiles.write_file_set(tmp_path / "local", dicomfiles.study("one", 1, PatientID="OLD"))
    with dcmqrscp(tmp_path / "leading") as leading:
        corrected = dicomfiles.study("one", 1, PatientID="NEW", AccessionNumber="A-7")
        leading.store(dicomfiles.write(tmp_path / "corrected", corrected))
        peers = {"LEADING": peer(leading.aet, leading.port), "VIEWER": peer("VIEWER", 104)}
        with gateway(
            tmp_path / "gw",
            peers=peers,
            dicomdir=dicomdir,
            leading={"peer": "LEADING"},
            coercion={"rules": str(rules)},
        ) as running:
            for _ in range(2):  # asked anew, and handed out again
                outcome = scu.find(
                    running.port, "STUDY", {"PatientID": "X-NEW", "StudyDescription": ""}, aet="VIEWER", aec="GATEWAY"
                )
                (answer,) = outcome.answers
                assert answer.StudyDescription == "corrected from A-7"
                assert answer.PatientID == "X-NEW", "the asker sees the key as it was asked"

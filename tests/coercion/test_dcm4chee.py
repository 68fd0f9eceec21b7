from __future__ import annotations

from pathlib import Path

import pytest

from gateway.cli import run
from gateway.coercion.dcm4chee import import_ldif
from gateway.coercion.parser import parse_rules
from gateway.coercion.printer import rule_to_plain

LEGACY = """
dn: dicomDeviceName=dcm4chee-arc,cn=Devices,cn=DICOM Configuration,dc=example,dc=org
objectClass: dcmArchiveDevice
dcmLeadingCFindSCPQueryCacheStaleTimeout: PT5M
dcmLeadingCFindSCPQueryCacheSize: 50

dn: cn=leading,dicomDeviceName=dcm4chee-arc,cn=Devices,cn=DICOM Configuration,dc=exa
 mple,dc=org
objectClass: dcmArchiveAttributeCoercion
cn: leading
dcmDIMSE: C_STORE_RQ
dicomTransferRole: SCP
dcmRulePriority: 5
dcmProperty: ReceivingApplicationEntityTitle=STORESCP
dcmLeadingCFindSCP: QRSCP
dcmNullifyTag: 00104000
dcmMergeMWLMatchingKey: AccessionNumber
"""
NEWER = """
dn: cn=issuer
objectClass: dcmArchiveAttributeCoercion2
cn: issuer
dcmURI: merge-attrs:
dcmDIMSE: C_STORE_RQ
dicomTransferRole: SCU
dcmProperty: IssuerOfPatientID!=.+
dcmProperty: SendingApplicationEntityTitle=CT|MR
dcmMergeAttribute: IssuerOfPatientID=HOSP
dcmMergeAttribute: IssuerOfPatientIDQualifiersSequence.UniversalEntityID=1.2.3
dcmMergeAttribute: PatientID={PatientID,slice,3}
dcmMergeAttribute: AccessionNumber={PatientName,hash}
dcmCoercionOnFailure: CONTINUE
dcmCoercionSufficient: TRUE

dn: cn=leading
objectClass: dcmArchiveAttributeCoercion2
cn:: bGVhZGluZw==
dcmURI: leading-arc:QRSCP
dcmDIMSE: C_FIND_RSP
dicomTransferRole: SCU
dcmProperty: SendingApplicationEntityTitle=VIEWER
dcmAttributeUpdatePolicy: OVERWRITE

dn: cn=mpps
objectClass: dcmArchiveAttributeCoercion2
cn: mpps
dcmURI: xslt:mpps.xsl
dcmDIMSE: N_CREATE_RQ
dicomTransferRole: SCU
"""


def test_a_legacy_rule_and_the_cache_are_carried_over() -> None:
    found = import_ldif(LEGACY)
    assert found.settings == {"query_cache": {"ttl": "PT5M", "max_entries": 50}, "peer": "QRSCP"}
    (rule,) = (rule for rule in parse_rules(found.text()).rules if rule.line)
    assert rule_to_plain(rule) == {
        "name": "leading",
        "where": "sent",
        "when": {"receiving": "STORESCP"},
        "then": [
            {"from_leading": {"sets": ["patient", "study"], "policy": "merge"}},
            {"nullify": "PatientComments"},
        ],
        "priority": 5,
        "stop": True,
    }
    assert found.left == ["line 7, leading: dcmMergeMWLMatchingKey=AccessionNumber: request attributes from a worklist"]


def test_newer_rules_are_carried_over_and_the_rest_is_listed() -> None:
    found = import_ldif(NEWER)
    issuer, leading = (rule_to_plain(rule) for rule in parse_rules(found.text()).rules if rule.line)
    assert issuer == {
        "name": "issuer",
        "where": "received",
        "when": {"all": [{"not": {"attribute": "IssuerOfPatientID", "regex": ".+"}}, {"sending": {"regex": "CT|MR"}}]},
        "then": [
            {"set": {"IssuerOfPatientID": "HOSP"}},
            {"set": {"IssuerOfPatientIDQualifiersSequence[0].UniversalEntityID": "1.2.3"}},
            {"set": {"PatientID": "{PatientID|slice:3:}"}},
        ],
        "stop": True,
        "on_failure": "pass",
    }
    assert leading["where"] == "answers"
    assert leading["when"] == {"receiving": "VIEWER"}, "dcm4chee calls the requestor the sending side here too"
    assert leading["then"] == [{"from_leading": {"sets": ["patient", "study"], "policy": "overwrite"}}]
    assert [one.split(", ", 1)[1] for one in found.left] == [
        "issuer: dcmMergeAttribute AccessionNumber={PatientName,hash}: format 'hash' makes other values here",
        "mpps: dcmURI: xslt",
        "mpps: nothing of it is left",
    ]


def test_a_condition_that_cannot_be_carried_over_takes_its_rule_along() -> None:
    found = import_ldif(NEWER.replace("CT|MR", "(CT"))
    assert "issuer" not in {rule["name"] for rule in found.rules}
    assert "would apply too often" in found.left[0]


def test_the_verb_writes_rules_that_check(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    export = tmp_path / "export.ldif"
    export.write_text(LEGACY + NEWER)
    assert run(["rules", "import-ldif", str(export)]) == 0
    said = capsys.readouterr()
    (tmp_path / "rules.yaml").write_text(said.out)
    assert "dcmMergeMWLMatchingKey" in said.err
    assert "ttl: PT5M" in said.out
    assert run(["rules", "check", str(tmp_path / "rules.yaml")]) == 0

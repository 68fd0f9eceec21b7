"""Rules read again on a running gateway of several processes."""

from __future__ import annotations

from pathlib import Path

import httpx

from tests.support.gateways import gateway, peer

GOOD = "rules:\n  - {name: mark, where: sent, then: [{set: {PatientComments: one}}]}\n"
OTHER = GOOD.replace("one", "two")
BAD = GOOD.replace("PatientComments", "PatientCommentz")


def test_a_good_file_comes_into_force_and_a_bad_one_leaves_the_old_rules(tmp_path: Path) -> None:
    rules = tmp_path / "rules.yaml"
    rules.write_text(GOOD)
    with gateway(
        tmp_path / "gw",
        peers={"VIEWER": peer("STORESCP", 104)},
        ae={"title": "GATEWAY", "port": 0, "workers": 2},
        coercion={"rules": str(rules)},
    ) as running:
        client = httpx.Client(base_url=f"http://127.0.0.1:{running.http_port}", trust_env=False, timeout=20)
        with client:
            first = client.get("/api/rules").json()["version"]
            rules.write_text(OTHER)
            second = client.post("/api/rules").json()["version"]
            assert second != first
            assert client.get("/api/rules").json()["version"] == second

            rules.write_text(BAD)
            refused = client.post("/api/rules")
            assert refused.status_code == 422
            assert refused.headers["content-type"] == "application/problem+json"
            (problem,) = refused.json()["problems"]
            assert str(rules) in problem
            assert "did you mean" in problem
            assert client.get("/api/rules").json()["version"] == second
            assert running.metric("coercion_rules_last_reload_successful") < 3, "some process holds old rules"

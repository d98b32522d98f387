"""The shape of every benchmark's JSON, and when a claim holds."""

from __future__ import annotations

import json

import pytest

from drizzle_benchmarks.report import Claim, Report


@pytest.mark.parametrize(
    ("measured", "bound", "at_least", "holds"),
    [(1.0, 1.0, False, True), (1.1, 1.0, False, False), (3.0, 3.0, True, True), (2.0, 3.0, True, False)],
)
def test_a_claim_holds_at_its_bound(measured: float, bound: float, at_least: bool, holds: bool) -> None:
    assert Claim("x", measured, bound, "s", at_least=at_least).holds is holds


def test_what_was_not_measured_does_not_hold() -> None:
    assert not Claim("x", None, 1.0, "s").holds


def test_the_json_has_the_contract_s_keys() -> None:
    report = Report("recovery", {"rate": 1}, [{"event": "e", "exact": True}], [Claim("c", 1.0, 2.0, "s")])
    found = json.loads(json.dumps(report.as_json()))
    assert set(found) == {"name", "machine", "commit", "settings", "rows", "claims"}
    assert found["claims"] == [{"name": "c", "measured": 1.0, "bound": 2.0, "unit": "s", "holds": True}]
    assert found["machine"]["cpus"] >= 1

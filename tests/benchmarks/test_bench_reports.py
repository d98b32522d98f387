"""The shape of every benchmark's JSON, and when a claim holds."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from drizzle_benchmarks.report import Claim, Report, commit


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


def git(folder: Path, *arguments: str) -> str:
    said = subprocess.run(["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=True)
    return said.stdout.strip()


def test_a_commit_is_marked_when_what_is_measured_has_changes_but_not_for_results(tmp_path: Path) -> None:
    code, result, page = (
        tmp_path / name for name in ("services/a.py", "benchmarks/results/a.json", "docs/a.md")
    )
    for file in (code, result, page):
        file.parent.mkdir(parents=True)
        file.write_text("1")
    git(tmp_path, "init", "--quiet")
    git(tmp_path, "add", ".")
    git(tmp_path, "-c", "user.name=n", "-c", "user.email=e@example.org", "commit", "--quiet", "-m", "m")
    head = git(tmp_path, "rev-parse", "--short=12", "HEAD")
    result.write_text("2")
    page.write_text("2")
    assert commit(code.parent) == head
    code.write_text("2")
    assert commit(code.parent) == f"{head}+"


def test_outside_of_a_checkout_there_is_no_commit(tmp_path: Path) -> None:
    assert commit(tmp_path) == ""

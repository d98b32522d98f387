"""`drizzle bench all`: what fails is told, the others go on, and the page is made from what is there."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import pytest

from drizzle_benchmarks import all as every
from drizzle_benchmarks.__main__ import BENCHMARKS, main
from drizzle_benchmarks.cells import cell
from drizzle_benchmarks.report import Claim, Report
from drizzle_benchmarks.results import page

KNOWN = ("good", "bad", "slow")
FAKE = """
import json, sys, time
name, file = sys.argv[3], sys.argv[5]
if name == "slow":
    time.sleep(600)
if name == "bad":
    sys.exit("it | broke")
from drizzle_benchmarks.report import Claim, Report
row = {"rate": 1, "late_ms": {"p50": 1.5, "p99": 2.5}, "exact": True, "failure": None}
report = Report(name, {"seconds": 1}, [row], [Claim("c", 1.0, 2.0, "s")])
open(file, "w").write(json.dumps(report.as_json()))
"""


@pytest.fixture
def arguments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> argparse.Namespace:
    fake = tmp_path / "python"
    fake.write_text(f"#!{sys.executable}\n{FAKE}")
    fake.chmod(0o755)
    monkeypatch.setattr(every.sys, "executable", str(fake))
    monkeypatch.setattr(every, "STOP_S", 5.0)
    return argparse.Namespace(
        only=None,
        without=(),
        results=tmp_path / "results",
        page=tmp_path / "docs" / "page.md",
        timeout=10.0,
        page_only=False,
    )


def test_what_fails_is_told_and_the_others_go_on(arguments: argparse.Namespace) -> None:
    arguments.without = ("slow",)
    assert every.main(arguments, KNOWN) == 1
    text = arguments.page.read_text()
    assert "| c | 1.0 | 2.0 | s | yes |" in text
    assert "| 1 | p50 1.5, p99 2.5 | yes | - |" in text
    assert "**Failed when it was last run:** ended with 1: it \\| broke" in text
    assert json.loads((arguments.results / "good.json").read_text())["name"] == "good"
    assert "Not measured yet." in text


def test_who_takes_too_long_is_stopped(arguments: argparse.Namespace) -> None:
    arguments.only, arguments.timeout = ("slow",), 1.0
    assert every.main(arguments, KNOWN) == 1
    assert "did not end within 1 s" in arguments.page.read_text()


def test_the_page_alone(arguments: argparse.Namespace) -> None:
    arguments.only = ("good",)
    assert every.main(arguments, KNOWN) == 0
    arguments.page.unlink()
    arguments.only, arguments.page_only = None, True
    assert every.main(arguments, KNOWN) == 0
    assert "| c | 1.0 |" in arguments.page.read_text()


def test_names_are_checked(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["all", "--only", "nothing"]) == 1
    assert "no such benchmarks: nothing" in capsys.readouterr().err
    assert "all" not in BENCHMARKS


def test_a_result_of_before_is_shown_with_its_picture(tmp_path: Path) -> None:
    report = Report("x", {}, [{"a": 1}] * 70, [Claim("c", None, 1.0, "s")])
    (tmp_path / "x.json").write_text(json.dumps(report.as_json()))
    (tmp_path / "x.png").write_bytes(b"")
    text = page(["x"], tmp_path, {"x": "gone"}, tmp_path / "docs")
    assert "Failed when it was last run:** gone" in text
    assert "![x](../x.png)" in text
    assert "10 more rows" in text
    assert "| c | - | 1.0 | s | **no** |" in text


def test_cells() -> None:
    assert cell({"a": None, "b": [1, True]}) == "a -, b 1, yes"

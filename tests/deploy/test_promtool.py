"""Prometheus' own tool on our files: configuration, rules, and what the rules make of made-up series."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.deploy.panel_queries import ROOT, queries

pytestmark = [pytest.mark.compose, pytest.mark.usefixtures("engine")]

IMAGE = "prom/prometheus:v3.5.0"
FOLDER = ROOT / "deploy" / "prometheus"
RUN_S = 60.0


def promtool(folder: Path, token: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run it over a copy of our folder, in the place the configuration has in compose."""
    mounts = ("-v", f"{folder}:/etc/prometheus:ro", "-v", f"{token}:/run/drizzle-metrics/token:ro")
    place = ("--network", "none", "--user", "root", "--workdir", "/etc/prometheus")
    return subprocess.run(
        ["docker", "run", "--rm", *place, *mounts, "--entrypoint", "promtool", IMAGE, *arguments],
        capture_output=True,
        text=True,
        timeout=RUN_S,
        check=False,
    )


@pytest.fixture
def token(tmp_path: Path) -> Path:
    path = tmp_path / "token"
    path.write_text("drz1.metrics.tests.1.x")
    return path


def files(kind: str) -> list[str]:
    found = [str(path.relative_to(FOLDER)) for path in sorted(FOLDER.glob(f"{kind}/*.yml"))]
    assert found
    return found


def test_the_configuration_and_its_rules_are_valid(token: Path) -> None:
    checked = promtool(FOLDER, token, "check", "config", "--lint=all", "--lint-fatal", "prometheus.yml")
    assert checked.returncode == 0, checked.stdout + checked.stderr
    rules = [int(count) for count in re.findall(r"(\d+) rules found", checked.stdout)]
    assert sum(rules) > 20, checked.stdout


def test_rules_and_alerts_do_what_they_say(token: Path) -> None:
    tested = promtool(FOLDER, token, "test", "rules", *files("tests"))
    assert tested.returncode == 0, tested.stdout + tested.stderr
    assert tested.stdout.count("SUCCESS") >= len(files("tests")), tested.stdout


def test_a_rule_that_is_changed_for_the_worse_is_caught(token: Path, tmp_path: Path) -> None:
    folder = tmp_path / "prometheus"
    for path in FOLDER.rglob("*.yml"):
        there = folder / path.relative_to(FOLDER)
        there.parent.mkdir(parents=True, exist_ok=True)
        there.write_text(path.read_text())
    alerts = folder / "alerts" / "drizzle.yml"
    worse, replaced = re.subn(
        r"drizzle:utilisation:ratio > on", "drizzle:utilisation:ratio < on", alerts.read_text()
    )
    assert replaced == 1
    alerts.write_text(worse)
    tested = promtool(folder, token, "test", "rules", *files("tests"))
    assert tested.returncode == 1
    assert "DrizzleUtilisationHigh" in tested.stdout + tested.stderr


def test_boards_answer_while_an_address_has_just_gone_to_another_service(token: Path, tmp_path: Path) -> None:
    """Containers get the addresses of those that went; for some seconds Prometheus has both at one."""
    asked = [one.expr for one in dict.fromkeys(queries()) if "drizzle_info" in one.expr]
    names = {name for expr in asked for name in re.findall(r"\b(?:drizzle|process)[_:][\w:]+", expr)}
    here = 'instance="10.0.0.7:1"'
    lives = [f'drizzle_info{{{here}, node="{one}", service="{one}"}}' for one in ("coordinator", "worker")]
    labels = f'{{{here}, job="j", stream="s", direction="sent"}}'
    others = [name + labels for name in sorted(names - {"drizzle_info"})]
    test = {
        "interval": "5s",
        "input_series": [{"series": one, "values": "1x12"} for one in lives]
        + [{"series": one, "values": "1+1x12"} for one in others],
        "promql_expr_test": [
            {"expr": f"count({expr})", "eval_time": "1m", "exp_samples": [{"labels": "{}", "value": 1}]}
            for expr in asked
        ],
    }
    assert len(asked) > 8
    folder = tmp_path / "prometheus"
    folder.mkdir()
    (folder / "boards.yml").write_text(yaml.safe_dump({"evaluation_interval": "5s", "tests": [test]}))
    tested = promtool(folder, token, "test", "rules", "boards.yml")
    assert tested.returncode == 0, tested.stdout + tested.stderr

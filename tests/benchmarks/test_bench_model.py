"""The model of more machines: from rows that follow its formulas it finds their costs, and what breaks."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from drizzle_benchmarks import scheduling_model as model
from drizzle_benchmarks.results import page
from drizzle_benchmarks.scheduling_model import Costs, Line
from drizzle_streams.core.reporting import report_pause_s

COSTS = Costs(Line(2.0, 0.05), Line(0.2, 0.003), worker=0.4, source=1.0, message=0.02)


def rows(workers: tuple[int, ...] = (4, 16, 64), sizes: tuple[int, ...] = (10, 100)) -> list[dict[str, Any]]:
    """What would be measured if the costs were these."""
    made: list[dict[str, Any]] = []
    for n in workers:
        for stages in (1, 2):
            messages = 2.0 * n + (stages - 1) * 16.0 * n
            members = n * COSTS.worker + COSTS.source + (stages - 1) * 16.0 * n * COSTS.message
            for size in sizes:
                ms = 0.3 * n * stages + 20.0 / size
                heard = n * min(1.0, ms / (1_000.0 * report_pause_s(n))) * COSTS.report.at(n)
                made.append(
                    {
                        "workers": n,
                        "stages": stages,
                        "mode": "group",
                        "group_size": size,
                        "ms_per_batch": ms,
                        "coordinator_cpu_ms_per_batch": COSTS.launch.at(n) / size + heard,
                        "members_cpu_ms_per_batch": members,
                        "messages_per_batch": messages,
                    }
                )
    return made


def test_the_costs_are_found_again() -> None:
    found = model.fitted([*rows(), {"mode": "barrier"}])
    assert found is not None
    for line, wanted in ((found.launch, COSTS.launch), (found.report, COSTS.report)):
        assert (line.base, line.slope) == (pytest.approx(wanted.base), pytest.approx(wanted.slope))
    assert (found.worker, found.source) == (pytest.approx(0.4), pytest.approx(1.0))
    assert found.message == pytest.approx(COSTS.message)


@pytest.mark.parametrize(
    "given", [rows((4,)), rows(sizes=(10,)), [r for r in rows() if r["stages"] == 1], []]
)
def test_what_was_not_measured_is_not_made_up(given: list[dict[str, Any]]) -> None:
    assert model.fitted(given) is None
    assert model.table(given) == []


def test_shares_are_as_the_formulas_say() -> None:
    found = model.seen(COSTS, 1_000, 2, 100, 100.0)
    assert found.busy == {
        "coordinator": pytest.approx((52.0 / 100 + 1_000 * 0.1 * 3.2) / 100.0),  # a report each second
        "worker": pytest.approx((0.4 + 1_016 * 0.02) / 100.0),
        "source": pytest.approx((1.0 + 2_000 * 0.02) / 100.0),
    }
    assert found.first == "coordinator"
    assert found.fastest_ms == pytest.approx(3_200.52)
    assert model.seen(COSTS, 1_000, 1, 100, 100.0).busy["worker"] == pytest.approx(0.004)


def test_at_the_fastest_batch_something_is_just_full() -> None:
    for machines in (3, 40, 128):
        found = model.seen(COSTS, machines, 2, 100, 100.0)
        at = model.seen(COSTS, machines, 2, 100, found.fastest_ms)
        assert max(at.busy.values()) == pytest.approx(1.0)


def test_one_machine_more_than_the_most_is_too_many() -> None:
    most = model.machines_max(COSTS, 2, 100, 100.0)
    busy = [max(model.seen(COSTS, n, 2, 100, 100.0).busy.values()) for n in (most, most + 1)]
    assert busy[0] <= 1.0 < busy[1]


def test_a_line_goes_below_zero_nowhere() -> None:
    assert Line.through([(1.0, 5.0), (2.0, 3.0)]) == Line(4.0, 0.0)
    steep = Line.through([(1.0, 1.0), (3.0, 9.0)])
    assert (steep.base, steep.slope) == (0.0, pytest.approx(2.8))


def test_it_is_told_from_a_file_and_on_the_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    report = {
        "name": "scheduling",
        "machine": dict.fromkeys(("cpus", "cpu", "system", "python", "polars"), "x"),
        "commit": "",
        "settings": {},
        "claims": [],
        "rows": rows(),
    }
    file = tmp_path / "scheduling.json"
    file.write_text(json.dumps(report))
    monkeypatch.setattr(sys, "argv", ["scheduling_model", str(file)])
    assert model.main() == 0
    assert "1,000 | 2 | " in capsys.readouterr().out
    assert "hearing a report 0.2 + 0.003 n" in page(["scheduling"], tmp_path, {}, tmp_path)
    file.write_text(json.dumps(report | {"rows": []}))
    assert model.main() == 1

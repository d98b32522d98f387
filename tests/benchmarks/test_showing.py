"""A report in a terminal: few rows of many columns are turned where they would not fit."""

from __future__ import annotations

import io

from rich.console import Console

from drizzle_benchmarks.report import Claim, Report
from drizzle_benchmarks.showing import TURNED_ROWS_MAX, show

COLUMNS = {f"measure_number_{number}_ms": float(number) for number in range(20)}


def shown(width: int, rows: int) -> list[str]:
    console = Console(file=io.StringIO(), width=width)
    report = Report("recovery", {"rate": 1}, [dict(COLUMNS)] * rows, [Claim("late by", None, 2.0, "s")])
    show(report, console)
    return console.file.getvalue().splitlines()  # type: ignore[attr-defined]


def test_a_wide_row_is_turned_so_that_every_name_can_be_read() -> None:
    lines = shown(80, 2)
    for name, value in COLUMNS.items():
        (line,) = (line for line in lines if f" {name.replace('_', ' ')} " in line)
        assert line.count(f" {value} ") == 2


def test_rows_that_fit_stay_rows() -> None:
    header, *_ = (line for line in shown(1_000, 2) if "measure number 0 ms" in line)
    assert "measure number 19 ms" in header


def test_many_rows_are_turned_a_few_at_a_time() -> None:
    lines = [line for line in shown(80, TURNED_ROWS_MAX + 1) if "measure number 7 ms" in line]
    assert [line.count(" 7.0 ") for line in lines] == [TURNED_ROWS_MAX, 1]


def test_a_claim_that_was_not_measured_is_told_with_its_bound() -> None:
    assert any(all(part in line for part in ("late by", "<= 2", "no")) for line in shown(80, 1))

"""A report in a terminal: its rows and its claims as tables that can be read there."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Console
from rich.measure import Measurement
from rich.table import Table

from drizzle_benchmarks.cells import cell
from drizzle_benchmarks.report import Claim, Report

TURNED_ROWS_MAX = 4
"""Rows that stand beside each other where a terminal is too narrow for one; more of them follow below."""


def show(report: Report, console: Console) -> None:
    """Print the rows, turned where that is easier to read, and below them the claims."""
    rows = _rows(report)
    if Measurement.get(console, console.options, rows).maximum < _width(rows, console):
        console.print(*_turned(report))
    else:
        console.print(rows)
    console.print(_claims(report.claims))


def _width(table: Table, console: Console) -> int:
    """Columns that it takes to show every cell in one line."""
    unbounded = console.options.update(width=10_000)
    return Measurement.get(console, unbounded, table).maximum


def _title(report: Report) -> str:
    return f"{report.name}: {cell(dict(report.settings))}"


def _rows(report: Report) -> Table:
    table = Table(title=_title(report))
    for name in report.rows[0]:
        table.add_column(name.replace("_", " "), justify="right")
    for row in report.rows:
        table.add_row(*(cell(value) for value in row.values()))
    return table


def _turned(report: Report) -> Iterator[Table]:
    for first in range(0, len(report.rows), TURNED_ROWS_MAX):
        table = Table(title=None if first else _title(report), show_header=False)
        table.add_column()
        shown = report.rows[first : first + TURNED_ROWS_MAX]
        for _ in shown:
            table.add_column(justify="right")
        for name in report.rows[0]:
            table.add_row(name.replace("_", " "), *(cell(row.get(name)) for row in shown))
        yield table


def _claims(claims: list[Claim]) -> Table:
    table = Table("claim", "measured", "bound", "unit", "holds", title="claims")
    for claim in claims:
        bound = f"{'>=' if claim.at_least else '<='} {claim.bound:g}"
        table.add_row(claim.name, cell(claim.measured), bound, claim.unit, cell(claim.holds))
    return table

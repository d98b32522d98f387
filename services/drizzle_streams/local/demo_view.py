"""What a person sees of a demo: a live table on a terminal, a line per second elsewhere, a report."""

from __future__ import annotations

import time
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from drizzle_streams.local.demo import DemoState

LINE_INTERVAL_S = 1.0


class DemoView:
    """Shows states as they come; `live` on a terminal, otherwise at most one line per second."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live = (
            Live(console=console, refresh_per_second=4, transient=True) if console.is_terminal else None
        )
        self._line_at = 0.0
        self._phase = ""
        self._killed = ""

    def __enter__(self) -> DemoView:
        """Begin to show."""
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Give the terminal back."""
        if self._live is not None:
            self._live.stop()

    def show(self, state: DemoState) -> None:
        """A new state of things."""
        if self._live is not None:
            self._live.update(Group(Text(f"Drizzle demo: {state.phase}", style="bold"), _table(state)))
            return
        now = time.monotonic()
        news = state.phase != self._phase or state.killed != self._killed
        if news or now >= self._line_at:
            self._line_at, self._phase, self._killed = now + LINE_INTERVAL_S, state.phase, state.killed
            self._console.print(_line(state), highlight=False, soft_wrap=True)


def _facts(state: DemoState) -> list[tuple[str, str]]:
    job, load, cluster = state.job, state.load, state.cluster
    latency = (job.get("batch_latency_ms") or {}).get("recent") or {}
    seconds = load.get("seconds") or 0
    rate = load.get("acknowledged", 0) / seconds if seconds else 0.0
    return [
        ("rate", f"{rate:,.0f} events/s"),
        ("batch latency", f"p50 {latency.get('p50', '-')} ms, p99 {latency.get('p99', '-')} ms"),
        (
            "frontier",
            f"batch {job.get('frontier', '-')}, lag {job.get('frontier_lag', {}).get('batches', '-')}",
        ),
        ("workers", str(len(cluster.get("workers", [])))),
        ("group size", str(job.get("group_size", "-"))),
        ("killed", state.killed or "nobody yet"),
    ]


def _table(state: DemoState) -> Table:
    table = Table(show_header=False, box=None, pad_edge=False)
    for name, value in _facts(state):
        table.add_row(name, value)
    return table


def _line(state: DemoState) -> str:
    return f"{state.phase}: " + " · ".join(f"{name} {value}" for name, value in _facts(state))


def print_report(console: Console, report: dict[str, Any]) -> None:
    """The outcome in words and numbers."""
    exact = report["exact"]
    table = Table(show_header=False, box=None, pad_edge=False)
    rows = [
        ("events sent", f"{report['sent']:,}"),
        ("views counted", f"{report['counted']:,} in {report['windows']} windows"),
        ("lost / duplicates", f"{report['lost']} / {report['duplicates']}"),
        ("killed with SIGKILL", report["killed"] or "nobody"),
        ("recovery", f"{report['recovery_seconds']} s"),
        ("batches, group size", f"{report['batches']:,}, {report['group_size']}"),
        ("batch latency, ms", _percentiles(report["batch_latency_ms"])),
        ("window latency, ms", _percentiles(report["latency_ms"])),
    ]
    for name, value in rows:
        table.add_row(name, value)
    console.print(table)
    verdict = (
        "exact: every count equals the oracle's" if exact else "NOT EXACT: counts differ from the oracle's"
    )
    console.print(verdict, style="bold green" if exact else "bold red")
    console.print(
        "batch latency: batch sealed → its output in the sink; "
        "window latency: window end → its final count in the sink",
        style="dim",
    )


def _percentiles(values: dict[str, float] | None) -> str:
    if not values:
        return "-"
    return ", ".join(f"{name} {values[name]:,.1f}" for name in ("p50", "p95", "p99", "max"))

"""What each command does; `cli` knows the options, this knows the rest."""

from __future__ import annotations

import argparse
import asyncio
import json
import selectors
import signal
import sys
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl
import uvloop

from drizzle_loadgen import discovery
from drizzle_loadgen.clock import Clock
from drizzle_loadgen.delivery import MIB, Bounds
from drizzle_loadgen.errors import UsageError
from drizzle_loadgen.events import RENDER_EVENTS_MAX, Workload, ads_table
from drizzle_loadgen.faults import Fault
from drizzle_loadgen.oracle import Coverage, Verdict, compare, expected_counts
from drizzle_loadgen.report import print_report, write_json
from drizzle_loadgen.run import RunResult, RunSettings, next_start_ms
from drizzle_loadgen.run import run as run_load
from drizzle_loadgen.settings import INGEST_TOKEN, bearer, minted
from drizzle_loadgen.sink import RedisSink, wait_exact
from drizzle_loadgen.surge import Surge
from drizzle_streams.protocol.tokens import TokenKind


def precise_loop() -> asyncio.AbstractEventLoop:
    """A loop whose timers ring within microseconds: those of epoll and uvloop may be a millisecond late."""
    return asyncio.SelectorEventLoop(selectors.SelectSelector())


def ads(options: argparse.Namespace) -> int:
    """Write the table of ads."""
    ads_table(options.seed).write_parquet(options.out)
    return 0


def file(options: argparse.Namespace) -> int:
    """Write events to a file."""
    if options.events < 0:
        raise UsageError(f"events: wanted 0 or more, found {options.events}")
    workload = Workload(options.seed, options.start_ms, options.rate, options.with_skew)
    with Path(options.out).open("wb") as out:
        out.writelines(
            workload.ndjson(first, min(RENDER_EVENTS_MAX, options.events - first))
            for first in range(0, options.events, RENDER_EVENTS_MAX)
        )
    return 0


def run(options: argparse.Namespace) -> int:
    """Post events to the sources and report."""
    start_ms = next_start_ms(Clock().now_ms()) if options.start_ms is None else options.start_ms
    settings = RunSettings(
        workload=Workload(
            options.seed,
            start_ms,
            options.rate,
            options.with_skew,
            Surge.parse(options.surge) if options.surge else None,
        ),
        seconds=options.seconds,
        stream=options.stream,
        block_ms=options.block_ms,
        bounds=_bounds(options),
        drain_timeout_s=options.drain_timeout,
        faults=tuple(Fault.parse(text) for text in options.fault),
    )
    with asyncio.Runner(loop_factory=precise_loop) as runner:
        result = runner.run(_run(settings, options))
    _show_run(result)
    if options.json:
        write_json(result.as_json(), options.json)
    return 1 if result.failed else 0


async def _run(settings: RunSettings, options: argparse.Namespace) -> RunResult:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    if options.discover:
        user = minted(TokenKind.USER, "loadgen", settings.seconds)
        sources = await discovery.discovered(options.discover, user)
    else:
        sources = discovery.fixed(options.sources.split(","))
    progress = partial(print, flush=True) if options.progress else None
    producer = bearer(INGEST_TOKEN) or minted(TokenKind.INGEST, settings.stream, settings.seconds)
    return await run_load(settings, sources, producer, stop, progress)


def _bounds(options: argparse.Namespace) -> Bounds:
    wanted = {
        "in-flight": options.in_flight,
        "outstanding-mib": options.outstanding_mib,
        "answer-timeout": options.answer_timeout,
        "give-up-after": options.give_up_after,
        "drain-timeout": options.drain_timeout,
    }
    for name, value in wanted.items():
        if not value > 0:
            raise UsageError(f"{name}: wanted more than 0, found {value}")
    return Bounds(
        in_flight_max=options.in_flight,
        outstanding_bytes_max=int(options.outstanding_mib * MIB),
        answer_timeout_s=options.answer_timeout,
        give_up_after_s=options.give_up_after,
    )


def _show_run(result: RunResult) -> None:
    figures = [
        ("sent", f"{result.pace.sent_events:,} events in {result.pace.sent_blocks:,} blocks"),
        ("acknowledged", f"{result.acknowledged:,} events in {result.wall_seconds:,.1f} s"),
        ("posted without an answer", f"{result.unanswered:,} events"),
        ("posts again", f"{result.total('retries'):,}"),
        ("refused by 429 / 5xx", f"{result.total('throttled'):,} / {result.total('refused'):,}"),
        ("order broken by a refusal", f"{result.total('overtaken'):,} blocks"),
        ("generator overload", f"{result.pace.overloads:,} times, {result.pace.overload_ms:,.0f} ms"),
    ]
    if result.stopped:
        figures.append(("stopped", result.stopped))
    latencies = [
        ("generator behind", result.pace.behind.percentiles()),
        ("due to first post", result.late("posted_late")),
        ("due to acknowledgement", result.late("acknowledged_late")),
    ]
    print_report("load", figures, latencies)


def check(options: argparse.Namespace) -> int:
    """Compare the sink with the truth."""
    workload, coverage = _recorded(options.run) if options.run else _told(options)
    judged = pl.col("window_start") >= options.windows_from
    expected = expected_counts(workload, coverage, options.window_ms).filter(judged)
    complete_until_ms = workload.due_ms(coverage.first_gap)
    warm_from_ms = workload.start_ms + options.warm_up * 1000.0

    def judge(found: pl.DataFrame) -> Verdict:
        shown = found.filter(judged)
        return compare(expected, shown, options.window_ms, complete_until_ms, warm_from_ms)

    async def wait() -> Verdict:
        async with RedisSink(options.redis, options.prefix, options.field) as sink:
            return await wait_exact(sink.read, judge, options.timeout)

    verdict = uvloop.run(wait())
    _show_verdict(verdict)
    if options.json:
        write_json(verdict.as_json(), options.json)
    return 0 if verdict.exact else 1


def _told(options: argparse.Namespace) -> tuple[Workload, Coverage]:
    workload = Workload(options.seed, options.start_ms, options.rate, options.with_skew)
    return workload, Coverage.of_first(options.events)


def _recorded(path: str) -> tuple[Workload, Coverage]:
    """Workload and coverage from the JSON of a run; `-` is standard input."""
    text = sys.stdin.read() if path == "-" else Path(path).read_text(encoding="utf-8")
    try:
        found: dict[str, Any] = json.loads(text)
        surge = Surge(**found["surge"]) if found["surge"] else None
        workload = Workload(found["seed"], found["start_ms"], found["rate"], found["skew"], surge)
        coverage = Coverage(
            found["events"],
            found["block_events"],
            tuple(found["acknowledged_blocks"]),
            tuple(found["acknowledged_beyond"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise UsageError(f"run {path}: wanted the JSON of `run --json`, found {error!r}") from error
    return workload, coverage


def _show_verdict(verdict: Verdict) -> None:
    figures = [
        ("exact", "yes" if verdict.exact else "NO"),
        ("windows", f"{verdict.windows:,} of {verdict.rows:,} (campaign, window) counts"),
        ("views counted", f"{verdict.counted:,} of {verdict.expected:,}"),
        ("lost / duplicates", f"{verdict.lost:,} / {verdict.duplicates:,}"),
        ("missing / extra / wrong", f"{verdict.missing:,} / {verdict.extra:,} / {verdict.wrong:,}"),
    ]
    figures += [
        (f"{off.campaign_id} at {off.window_start}", f"wanted {off.expected}, found {off.found}")
        for off in verdict.differences
    ]
    latencies = [
        ("window end to final count", verdict.latency),
        ("last view due to final count", verdict.last_view_latency),
    ]
    print_report("check", figures, latencies)

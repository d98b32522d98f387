"""A whole run against servers that misbehave, and the check of what came of it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from drizzle_loadgen import run as run_module
from drizzle_loadgen.clock import Clock
from drizzle_loadgen.delivery import Bounds
from drizzle_loadgen.discovery import Locate, fixed
from drizzle_loadgen.events import Workload
from drizzle_loadgen.oracle import expected_counts
from drizzle_loadgen.run import RunResult, RunSettings, next_start_ms, run
from tests.loadgen.misbehaving_source import (
    BROKEN,
    RESET_AFTER,
    RESET_BEFORE,
    THROTTLE,
    Behaviour,
    MisbehavingSource,
)
from tests.loadgen.naive import as_counts, naive_counts


def soon(rate: int = 2000) -> Workload:
    return Workload(9, int(Clock().now_ms()) + 100, rate)


def settings(seconds: float, workload: Workload | None = None, **more: Any) -> RunSettings:
    return RunSettings(workload or soon(), seconds, "ad-events", **more)


@pytest.fixture
async def sources() -> AsyncIterator[list[MisbehavingSource]]:
    trouble = {0: RESET_BEFORE, 5: THROTTLE, 6: BROKEN, 20: RESET_AFTER}
    started = [MisbehavingSource(trouble), MisbehavingSource({2: RESET_AFTER, 3: THROTTLE})]
    for source in started:
        await source.start()
    yield started
    for source in started:
        source.go_on.set()
        await source.stop()


def addresses(sources: list[MisbehavingSource]) -> list[Locate]:
    return fixed([source.url for source in sources])


def lines_taken(sources: list[MisbehavingSource]) -> list[bytes]:
    return [line for source in sources for body in source.taken for line in body.splitlines()]


def assert_oracle_knows_what_was_taken(result: RunResult, sources: list[MisbehavingSource]) -> None:
    expected = expected_counts(result.workload, result.coverage, 100)
    assert as_counts(expected, "expected") == naive_counts(9, lines_taken(sources), 100)


async def test_a_run_through_trouble_delivers_every_event_once(sources: list[MisbehavingSource]) -> None:
    lines: list[str] = []
    result = await run(settings(1.5), addresses(sources), {}, asyncio.Event(), lines.append)
    assert result.pace.sent_events == result.acknowledged == 3000
    assert (result.stopped, result.failed, result.unanswered) == (None, False, 0)
    assert result.coverage.first_gap == 3000
    whole = result.workload.ndjson(0, 3000).splitlines()
    assert sorted(lines_taken(sources)) == sorted(whole)
    for number, source in enumerate(sources):
        assert b"".join(source.taken) == b"".join(
            result.workload.ndjson(10 * block, 10) for block in range(number, 300, 2)
        )
    assert_oracle_knows_what_was_taken(result, sources)
    shown = result.as_json()
    assert (
        json.loads(json.dumps(shown)) | {"acknowledged_blocks": (150, 150), "acknowledged_beyond": ()}
        == shown
    )
    assert shown["throttled"] == 2
    assert shown["retries"] >= 6
    assert shown["acknowledged_late_ms"]["count"] == 300
    progress = json.loads(lines[0])
    assert list(progress) == [
        "seconds", "sent", "acknowledged", "behind_ms", "waiting_ms", "retries", "throttled",
    ]  # fmt: skip
    assert 0 < progress["acknowledged"] <= progress["sent"] < 3000


async def test_told_to_stop_it_ends_at_a_block_boundary_with_all_answers(
    sources: list[MisbehavingSource],
) -> None:
    stop = asyncio.Event()
    running = asyncio.create_task(run(settings(3600), addresses(sources), {}, stop))
    while sum(len(source.taken) for source in sources) < 40:  # noqa: ASYNC110 - a list sets no event
        await asyncio.sleep(0.005)
    stop.set()
    result = await asyncio.wait_for(running, 30)
    assert (result.stopped, result.failed) == ("by a signal", False)
    assert 400 <= result.acknowledged == result.pace.sent_events == len(lines_taken(sources)) < 7_200_000
    assert result.coverage.first_gap == result.acknowledged
    assert_oracle_knows_what_was_taken(result, sources)


async def test_told_to_stop_before_the_start_it_has_sent_nothing(sources: list[MisbehavingSource]) -> None:
    stop = asyncio.Event()
    stop.set()
    late = Workload(9, int(Clock().now_ms()) + 3_600_000, 1000)
    result = await asyncio.wait_for(run(settings(1, late), addresses(sources), {}, stop), 30)
    assert (result.acknowledged, result.stopped, result.wall_seconds) == (0, "by a signal", 0.0)
    assert result.as_json()["events_per_second"] == 0.0


async def test_a_source_that_refuses_for_good_ends_the_run_and_the_rest_is_known(
    sources: list[MisbehavingSource],
) -> None:
    await sources[1].stop()
    sources[1] = MisbehavingSource({10: Behaviour(413, take=False)})
    await sources[1].start()
    result = await asyncio.wait_for(run(settings(3600), addresses(sources), {}, asyncio.Event()), 60)
    assert result.failed
    assert result.stopped is not None
    assert "413" in result.stopped
    assert len(sources[1].taken) == 10
    assert result.acknowledged == len(lines_taken(sources))
    assert_oracle_knows_what_was_taken(result, sources)


async def test_answers_that_never_come_end_the_run_and_are_reported() -> None:
    source = MisbehavingSource({5: Behaviour(wait=True)})
    await source.start()
    bounds = Bounds(answer_timeout_s=60)
    result = await run(
        settings(0.1, bounds=bounds, drain_timeout_s=0.3), addresses([source]), {}, asyncio.Event()
    )
    source.go_on.set()
    await source.stop()
    assert result.failed
    assert result.stopped is not None
    assert "0.3 s after the last block" in result.stopped
    assert (result.acknowledged, result.unanswered) == (50, 10)
    assert result.as_json()["unanswered"] == 10


async def test_a_bound_that_is_met_is_reported_as_overload_and_loses_nothing() -> None:
    source = MisbehavingSource({3: Behaviour(wait=True)})
    await source.start()
    bounds = Bounds(outstanding_bytes_max=10_000, answer_timeout_s=60)
    running = asyncio.create_task(run(settings(0.3, bounds=bounds), addresses([source]), {}, asyncio.Event()))
    await asyncio.sleep(0.5)  # longer than the schedule: more than 10 kB are due by then
    source.go_on.set()
    result = await asyncio.wait_for(running, 30)
    await source.stop()
    assert result.pace.overloads >= 1
    assert result.pace.overload_ms > 100
    assert result.acknowledged == 600
    assert_oracle_knows_what_was_taken(result, [source])


async def test_what_goes_wrong_in_the_background_is_not_swallowed(monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(*_: object) -> None:
        raise RuntimeError("planted")

    monkeypatch.setattr(run_module, "strike_all", broken)
    source = MisbehavingSource()
    await source.start()
    with pytest.raises(RuntimeError, match="planted"):
        await run(settings(0.1), addresses([source]), {}, asyncio.Event())
    await source.stop()


@pytest.mark.parametrize(("now_ms", "start_ms"), [(0.0, 1000), (699.0, 1000), (701.0, 2000), (1000.0, 2000)])
def test_a_run_starts_at_a_full_second(now_ms: float, start_ms: int) -> None:
    assert next_start_ms(now_ms) == start_ms

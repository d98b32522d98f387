"""A stage's sink as its contract has it: opened once, only closed after a failure, closed for certain."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence

import polars as pl
import pytest

from drizzle_streams.connectors.base import SinkToken
from drizzle_streams.connectors.memory import MemoryResults
from drizzle_streams.core import actions as act
from drizzle_streams.core import events as ev
from drizzle_streams.errors import OutageError, StoreError
from drizzle_streams.model.ids import BatchId, JobId, PartitionId
from drizzle_streams.worker import outputs
from drizzle_streams.worker.cohorts import Output
from drizzle_streams.worker.jobs import JobRun
from drizzle_streams.worker.outputs import StageSink
from tests.worker.conftest import World
from tests.worker.worker_worlds import COHORT, REDUCE, compiled, until

SPEC = compiled(MemoryResults()).spec
ROWS = [(PartitionId(0), pl.DataFrame({"n": [1]}))]


class Recorder:
    """A sink that notes what is called, and does what the test has it do."""

    def __init__(self, *, opens: bool = True, writes: bool = True) -> None:
        self.calls: list[str] = []
        self.opens, self.writes = opens, writes
        self.gate = asyncio.Event()
        self.gate.set()

    async def open(self) -> None:
        self.calls.append("open")
        if not self.opens:
            raise StoreError("the system is away")

    async def write(self, writes: Sequence[tuple[SinkToken, pl.DataFrame]]) -> None:
        self.calls.append("write")
        await self.gate.wait()
        if not self.writes:
            raise StoreError("the disk is full")

    async def close(self) -> None:
        self.calls.append("close")


def staged(sink: Recorder) -> StageSink:
    return StageSink(sink, SPEC, SPEC.stage(REDUCE))


async def test_it_is_opened_once_however_many_write_first() -> None:
    sink = Recorder()
    live = staged(sink)
    await asyncio.gather(*(live.write([(BatchId(batch), ROWS)]) for batch in range(3)))
    await live.close()
    assert sink.calls == ["open", "write", "write", "write", "close"]


@pytest.mark.parametrize(
    ("sink", "calls", "says"),
    [
        (Recorder(opens=False), ["open", "close"], "the system is away"),
        (Recorder(writes=False), ["open", "write", "close"], "the disk is full"),
    ],
    ids=["open", "write"],
)
async def test_after_it_has_failed_nothing_but_close_is_called(
    sink: Recorder, calls: list[str], says: str
) -> None:
    live = staged(sink)
    for batch in range(3):
        with pytest.raises(StoreError, match=says):
            await live.write([(BatchId(batch), ROWS)])
    await live.close()
    assert sink.calls == calls


async def test_after_an_outage_the_same_is_tried_again() -> None:
    class Away(Recorder):
        outages = 2

        async def open(self) -> None:
            await super().open()
            self.may_be_away()

        async def write(self, writes: Sequence[tuple[SinkToken, pl.DataFrame]]) -> None:
            await super().write(writes)
            self.may_be_away()

        def may_be_away(self) -> None:
            self.outages -= 1
            if self.outages in (1, 0):
                raise OutageError("Redis is away")

    sink = Away()
    live = staged(sink)
    for _ in range(2):
        with pytest.raises(OutageError):
            await live.write([(BatchId(0), ROWS)])
    await live.write([(BatchId(0), ROWS)])
    await live.close()
    assert sink.calls == ["open", "open", "open", "write", "close"]


async def test_a_write_that_hangs_does_not_keep_its_sink_from_being_closed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(outputs, "SINK_CLOSE_S", 0.05)
    sink = Recorder()
    sink.gate.clear()
    live = staged(sink)
    writing = asyncio.create_task(live.write([(BatchId(0), ROWS)]))
    await until(lambda: "write" in sink.calls, "it writes")
    await live.close()
    assert sink.calls == ["open", "write", "close"]
    sink.gate.set()
    await writing


async def test_a_life_that_ends_closes_the_sinks_of_all_jobs_at_once(http_world: World) -> None:
    """Each close may take its whole time: one behind the other they would outlast the grace of a stop."""
    hand = await http_world.hand("a", load=False)
    barrier = asyncio.Barrier(2)

    class Waits(Recorder):
        async def close(self) -> None:
            async with barrier:
                await super().close()

    sinks = [Waits(), Waits()]
    for number, sink in enumerate(sinks):
        job = JobRun(SPEC, hand.bench)
        job.sinks = {REDUCE: staged(sink)}
        hand.performer.jobs[JobId(f"job-{number}")] = job
    await hand.performer.close()
    assert [sink.calls for sink in sinks] == [["close"], ["close"]]


async def test_a_sink_that_exits_is_closed_like_any_that_failed(http_world: World) -> None:
    class Exits(Recorder):
        async def write(self, writes: Sequence[tuple[SinkToken, pl.DataFrame]]) -> None:
            await super().write(writes)
            sys.exit("the sink ended")

    hand = await http_world.hand("a", load=False)
    sink = Exits()
    job = hand.performer.jobs[JobId(SPEC.job)] = JobRun(SPEC, hand.bench)
    job.sinks = {REDUCE: staged(sink)}
    cohort = job.new_cohort(REDUCE, COHORT)
    cohort.outputs[BatchId(0)] = Output(ROWS, 0.0)
    hand.performer.perform(act.WriteOutput(SPEC.job, REDUCE, COHORT, BatchId(0), BatchId(0)))
    assert "the sink ended" in (await hand.events.next(ev.OutputFailed)).error.message
    await job.close()
    assert sink.calls == ["open", "write", "close"]

"""How long a batch may wait for posts that are coming in: some milliseconds, and none when it is late."""

from __future__ import annotations

import pytest

from drizzle_streams.core import actions as act
from drizzle_streams.core.machine import Effects
from drizzle_streams.core.source_job import POSTS_AWAITED_MS, POSTS_AWAITED_SHARE, SourceJob
from drizzle_streams.model.ids import (
    NO_BATCH,
    BatchId,
    Generation,
    GroupId,
    JobId,
    SourceId,
    StageId,
    StreamId,
    WorkerId,
)
from drizzle_streams.model.job import JobSpec, StageSpec
from drizzle_streams.model.placement import Placement, StreamLayout
from drizzle_streams.protocol import messages as msg

JOB, STREAM, READS, FIRST = JobId("j"), StreamId("posted"), StageId(0), GroupId(0)
SOURCE, WORKER = SourceId("s"), WorkerId("w")
STARTS_S = 100.0


def waits_s(interval_ms: float, late_s: float) -> float:
    """How long the second batch of a group may wait, if it is sealed that much after its time."""
    spec = JobSpec(JOB, (StageSpec(READS, 1, stream=STREAM),), born=Generation(1))
    layouts = (StreamLayout(STREAM, (SOURCE,), (BatchId(0),)),)
    job, out = SourceJob(SOURCE, JOB), Effects()
    placed = Placement(((WORKER,),))
    job.assign(msg.Assign(spec, Generation(1), layouts, placed, ((BatchId(0),),), NO_BATCH, ()), out)
    starts_ms = 1000.0 * STARTS_S - interval_ms
    job.launch(msg.Launch(JOB, Generation(1), FIRST, BatchId(0), BatchId(9), starts_ms, interval_ms, 10))
    job.seal(job.readings[READS], STARTS_S + late_s, out)
    seals = [start for start in out.starts if isinstance(start, act.SealBatches)]
    assert [seal.first for seal in seals] == [0]
    return seals[0].waits_s


def test_a_batch_waits_a_share_of_its_interval_but_never_long() -> None:
    assert waits_s(20.0, 0.0) == pytest.approx(20.0 * POSTS_AWAITED_SHARE / 1000.0)
    assert waits_s(50.0, 0.0) == waits_s(5_000.0, 0.0) == pytest.approx(POSTS_AWAITED_MS / 1000.0)


@pytest.mark.parametrize(
    ("late_ms", "left_ms"), [(2.0, POSTS_AWAITED_MS - 2.0), (POSTS_AWAITED_MS, 0.0), (500.0, 0.0)]
)
def test_what_it_is_late_already_it_has_waited(late_ms: float, left_ms: float) -> None:
    assert waits_s(50.0, late_ms / 1000.0) == pytest.approx(left_ms / 1000.0, abs=1e-6)

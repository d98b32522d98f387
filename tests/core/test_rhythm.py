"""When checkpoints are taken: as stated, or by Young and Daly within bounds, in powers of two."""

from __future__ import annotations

from dataclasses import replace

import pytest

from drizzle_streams.core import rhythm as r
from drizzle_streams.core.interval import Interval
from drizzle_streams.core.rhythm import Because, Rhythm
from drizzle_streams.core.tuning.model import checkpoint_interval_s
from drizzle_streams.model.ids import BatchId, JobId, StageId
from drizzle_streams.model.job import JobSpec
from drizzle_streams.model.snapshot import SnapshotRef

STATED = JobSpec(JobId("j"), (), batch_interval_ms=50.0, checkpoint_interval_ms=500.0)
AUTO = replace(STATED, checkpoint_auto=True)


def rhythm_of(spec: JobSpec) -> Rhythm:
    return Rhythm(spec, Interval(False, spec.batch_interval_ms))


def measured(rhythm: Rhythm, seconds: float, times: int = 20) -> Rhythm:
    """So many checkpoints that took so long, the slower of two snapshots each."""
    for batch in map(BatchId, range(times)):
        rhythm.stored(SnapshotRef(StageId(1), (), batch, ()), seconds)
        rhythm.stored(SnapshotRef(StageId(2), (), batch, ()), seconds / 3)
        rhythm.committed(batch)
    return rhythm


def test_what_the_job_states_holds() -> None:
    rhythm = measured(rhythm_of(STATED), 3.0)
    rhythm.decide(100.0, 2, 0.5)
    assert (rhythm.every, rhythm.because) == (10, Because.STATED)
    assert rhythm.cost_s == pytest.approx(3.0), "measured all the same, for people"
    assert rhythm.optimum_s is not None


def test_before_anything_is_measured_the_stated_one_is_begun_with() -> None:
    rhythm = rhythm_of(AUTO)
    rhythm.decide(100.0, 2, None)
    assert (rhythm.every, rhythm.because) == (8, Because.UNMEASURED)


def test_in_the_middle_it_is_young_and_dalys_interval() -> None:
    """So many losses that neither bound is met."""
    rhythm = measured(rhythm_of(AUTO), 0.05)
    for _ in range(400):
        rhythm.failed()
    rhythm.decide(100.0, 3, 0.5)
    assert rhythm.because is Because.OPTIMUM
    assert rhythm.optimum_s is not None
    assert rhythm.optimum_s == checkpoint_interval_s(0.05, rhythm.failures_per_s, rhythm.catch_up)
    assert rhythm.optimum_s / 2**0.8 <= rhythm.every * 0.05 <= rhythm.optimum_s * 2**0.8


def test_nothing_fails_means_as_seldom_as_is_allowed() -> None:
    rhythm = measured(rhythm_of(AUTO), 0.05)
    rhythm.decide(100.0, 3, 0.2)
    assert rhythm.because is Because.MAXIMUM
    assert rhythm.every * 0.05 == pytest.approx(r.AUTO_S_MAX, rel=0.3)


def test_a_promise_on_recoveries_outweighs_what_checkpoints_cost() -> None:
    tuning = replace(AUTO.tuning, recovery_objective_ms=4_000.0)
    rhythm = measured(rhythm_of(replace(AUTO, tuning=tuning)), 0.9)
    rhythm.decide(100.0, 1, 0.5)  # alone at half use: a second of work takes a second to catch up
    assert rhythm.because is Because.RECOVERY
    assert rhythm.every == 32, "1.6 s: two intervals are replayed within four seconds"


def test_dear_checkpoints_are_rare_even_where_much_fails() -> None:
    rhythm = measured(rhythm_of(AUTO), 0.5)
    for _ in range(100_000):
        rhythm.failed()
    rhythm.decide(100.0, 3, 0.5)
    assert rhythm.because is Because.COST
    assert rhythm.every * 0.05 >= r.COST_MULTIPLE * 0.5 / 2**0.8


def test_it_does_not_swing() -> None:
    """Around the middle between two powers of two nothing changes."""
    rhythm = measured(rhythm_of(AUTO), 0.05)
    for _ in range(400):
        rhythm.failed()
    rhythm.decide(100.0, 3, 0.5)
    chosen = rhythm.every
    for seconds in (0.06, 0.045, 0.055, 0.05) * 5:
        measured(rhythm, seconds, times=3)
        rhythm.decide(100.0, 3, 0.5)
        assert rhythm.every == chosen


def test_what_never_became_whole_is_forgotten() -> None:
    rhythm = rhythm_of(AUTO)
    for batch in range(1_000):
        rhythm.stored(SnapshotRef(StageId(1), (), BatchId(batch), ()), 0.1)
        if batch % 10 == 0:
            rhythm.committed(BatchId(batch))
    assert len(rhythm._longest_s) < 10

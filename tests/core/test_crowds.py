"""Which links end in a crowd, as a job is placed."""

from __future__ import annotations

from drizzle_streams.core.crowds import crowds
from drizzle_streams.model.ids import COORDINATOR, JobId, NodeId, StageId, WorkerId
from drizzle_streams.model.job import JobSpec, StageSpec
from drizzle_streams.model.placement import Placement

MAPS = tuple(WorkerId(f"worker-{number}") for number in range(5))
REDUCES = MAPS[:2]
SPEC = JobSpec(
    JobId("j"),
    (StageSpec(StageId(0), 5), StageSpec(StageId(1), 4, inputs=(StageId(0),))),
    50.0,
)
PLACED = Placement((MAPS, (*REDUCES, *REDUCES)))


def test_who_reduces_is_in_a_crowd_with_all_who_map() -> None:
    told = dict(crowds(SPEC, PLACED, MAPS[0]))
    assert told == {COORDINATOR: 5} | {NodeId(worker): 5 for worker in MAPS[1:]}


def test_who_maps_is_in_one_with_those_who_reduce_and_with_nobody_else() -> None:
    told = dict(crowds(SPEC, PLACED, MAPS[4]))
    assert told == {COORDINATOR: 5} | {NodeId(worker): 5 for worker in REDUCES}


def test_one_stage_has_only_its_coordinator() -> None:
    spec = JobSpec(JobId("j"), (StageSpec(StageId(0), 5),), 50.0)
    assert crowds(spec, Placement((MAPS,)), MAPS[1]) == [(COORDINATOR, 5)]

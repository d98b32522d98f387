"""The simulated job: sums per key, in two shuffles, with values that an oracle can recompute.

Stage 0 reads (key, value) records and sums them per key. Stage 1 keeps a running sum per key
and hands on what changed per group (key modulo GROUPS). Stage 2 keeps a running sum per
group and writes it. So a record that is lost, doubled or taken from another batch shows.
With `joins` stage 1 is like a join: it keeps nothing, what it hands on is the same.
"""

from __future__ import annotations

from collections.abc import Iterable

from drizzle_streams.model.ids import JobId, StageId, StreamId
from drizzle_streams.model.job import JobSpec, Scheduling, StageSpec, owner_of

JOB = JobId("sums")
STREAM = StreamId("numbers")
KEYS = 12
GROUPS = 5
STAGE1_PARTITIONS = 3
STAGE2_PARTITIONS = 2
KEY_GROUPS = 60
"""So many that every key and every group has a key group of its own."""

Sums = dict[int, int]
Record = tuple[int, int]


def spec(
    scheduling: Scheduling = Scheduling.GROUP,
    group_size: int = 6,
    every_ms: float = 400.0,
    *,
    resizable: bool = False,
    joins: bool = False,
) -> JobSpec:
    """The job as it is submitted; the stream's partitions are laid out by the coordinator."""
    return JobSpec(
        job=JOB,
        stages=(
            StageSpec(StageId(0), 0, stream=STREAM),
            _join(1, STAGE1_PARTITIONS) if joins else _reduce(1, STAGE1_PARTITIONS, resizable=resizable),
            _reduce(2, STAGE2_PARTITIONS, resizable=resizable),
        ),
        key_groups=KEY_GROUPS,
        batch_interval_ms=50.0,
        scheduling=scheduling,
        group_size=group_size,
        checkpoint_interval_ms=every_ms,
    )


def sum_records(records: Iterable[Record]) -> Sums:
    """Stage 0 and the inner step of stage 1: sums per key."""
    sums: Sums = {}
    for key, value in records:
        sums[key] = sums.get(key, 0) + value
    return sums


def add(left: Sums, right: Sums) -> Sums:
    """A new version of a running sum; the old one stays as it is."""
    return sum_records([*left.items(), *right.items()])


def by_group(sums: Sums) -> Sums:
    """What stage 1 hands on."""
    return sum_records((key % GROUPS, value) for key, value in sums.items())


def partition_of(stage: int, key: int, of: int) -> int:
    """Which of so many partitions of a stage a key of its input belongs to."""
    return owner_of(key * KEY_GROUPS // (KEYS if stage == 1 else GROUPS), of, KEY_GROUPS)


def for_partitions(stage: int, sums: Sums, partitions: Iterable[int], of: int) -> Sums:
    """A block's rows for some of the partitions of the stage below."""
    wanted = set(partitions)
    return {key: value for key, value in sums.items() if partition_of(stage, key, of) in wanted}


def _reduce(stage: int, partitions: int, *, resizable: bool) -> StageSpec:
    return StageSpec(
        StageId(stage),
        partitions,
        inputs=(StageId(stage - 1),),
        stateful=True,
        writes_output=stage == 2,
        partitions_least=1 if resizable else 0,
    )


def _join(stage: int, partitions: int) -> StageSpec:
    return StageSpec(StageId(stage), partitions, inputs=(StageId(stage - 1),))

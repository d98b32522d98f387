"""What a job is to the machines: stages, partitions, intervals; never records or functions.

The user's program travels beside the `JobSpec` as opaque bytes, so that core can plan,
schedule and recover without importing a data library (design law 8).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from drizzle_streams.model.ids import Generation, JobId, PartitionId, StageId, StreamId
from drizzle_streams.model.tuning import AS_STATED, Tuning


class Scheduling(StrEnum):
    """Who decides when a task starts (Drizzle, section 3; figure 5b compares the three)."""

    GROUP = "group"
    PRESCHEDULED = "prescheduled"
    BARRIER = "barrier"


@dataclass(frozen=True, slots=True)
class StageSpec:
    """One stage: tasks of the same program, cut from the next stage by a shuffle.

    A stage with a `stream` reads that stream, one partition per stream partition;
    otherwise `inputs` names the stages whose blocks it awaits, all partitions of each.
    `chunks`: the stream is files, cut into so many (`model.files`); None for one that is posted.
    `partitions_least`: partitions may be split and merged, but to no fewer; 0: the number is fixed. `laid`:
    the generation since which the stage has its present number, see `core.resizing`.
    """

    stage: StageId
    partitions: int
    inputs: tuple[StageId, ...] = ()
    stream: StreamId | None = None
    stateful: bool = False
    writes_output: bool = False
    chunks: int | None = None
    partitions_least: int = 0
    laid: Generation = Generation(0)


@dataclass(frozen=True, slots=True)
class JobSpec:
    """A job as the coordinator plans it. Units are in the names.

    `group_size` is what every group has, or what the first one has where `tuning` chooses.
    `pipelined`: a group is launched while the one before it runs; without, only when that is done.
    `speculation`: copies of straggling tasks may run elsewhere, and slow workers lose partitions for a while.
    `batch_interval_ms` holds, or is what is begun with where `interval_auto` has it chosen (`core.interval`).
    `checkpoint_interval_ms` holds, or is what is begun with where `checkpoint_auto` has it chosen.
    `partitions` of a stage that reads a stream is 0 until the coordinator has laid
    the stream out over its sources (`with_stream_partitions`).
    """

    job: JobId
    stages: tuple[StageSpec, ...]
    batch_interval_ms: float = 50.0
    scheduling: Scheduling = Scheduling.GROUP
    group_size: int = 20
    checkpoint_interval_ms: float = 1000.0
    key_groups: int = 1024
    start_from: str = "earliest"
    born: Generation = Generation(0)
    tuning: Tuning = AS_STATED
    replanning: bool = True
    speculation: bool = True
    checkpoint_auto: bool = False
    pipelined: bool = True
    interval_auto: bool = False

    @property
    def run(self) -> str:
        """Names this run of the job for whatever outlives processes: sink tokens, snapshots, bounds.

        A job that is stopped and submitted again under its old name is another run.
        """
        return f"{self.job}@{self.born}"

    def stage(self, stage: StageId) -> StageSpec:
        """The stage with that id; ids are dense, in topological order."""
        return self.stages[stage]

    def downstream(self, stage: StageId) -> tuple[StageSpec, ...]:
        """The stages that await blocks of `stage`."""
        return tuple(s for s in self.stages if stage in s.inputs)

    def streams(self) -> tuple[StreamId, ...]:
        """The streams read, in stage order, each once."""
        found = (s.stream for s in self.stages if s.stream is not None)
        return tuple(dict.fromkeys(found))


def key_group_range(partition: int, partitions: int, key_groups: int) -> tuple[int, int]:
    """The half-open range of key groups that a partition owns (Flink's assignment).

    Ranges are contiguous, cover all key groups and differ in length by at most one,
    so a partition can be split or merged without hashing any key again.
    """
    return (partition * key_groups // partitions, (partition + 1) * key_groups // partitions)


def owner_of(key_group: int, partitions: int, key_groups: int) -> int:
    """The partition that owns a key group: the inverse of `key_group_range`."""
    return ((key_group + 1) * partitions - 1) // key_groups


def relaid(spec: JobSpec, before: JobSpec) -> frozenset[StageId]:
    """The stages whose partitions are other ranges of key groups than those of the same numbers before."""
    stages = zip(spec.stages, before.stages, strict=True)
    return frozenset(now.stage for now, earlier in stages if now.laid != earlier.laid)


def overlapping(partition: int, of: int, other: int, key_groups: int) -> tuple[PartitionId, ...]:
    """Which of `other` partitions of a stage hold key groups that `partition` holds where there are `of`."""
    first, end = key_group_range(partition, of, key_groups)
    if first == end:
        return ()
    found = range(owner_of(first, other, key_groups), owner_of(end - 1, other, key_groups) + 1)
    return tuple(PartitionId(p) for p in found)

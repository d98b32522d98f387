"""How many partitions a shuffle has: split when workers come, merged when few are left.

A partition is a range of key groups (`model.job.key_group_range`), so another number of partitions
is another way to cut the same state; no key is hashed again. The number changes only at a boundary
(`core.boundary`), by these rules:

- Batch B of the boundary is the committed checkpoint, and no source has sealed anything beyond B, or
  will before the next launch: each has said so (`Halted`). So nobody, not even a worker that was
  declared lost and wakes up, can have data of a later batch: every batch is computed and written in
  one layout only, and a token of the sink means the same rows for ever.
- The new number, the new owners and the checkpoint are persisted in one write. Recovery never goes
  behind that checkpoint: there is none to fall back to until the next one is committed.
- All partitions of the stage are adopted anew, each from the former owners and snapshots whose key
  groups overlap with its own. Who stays the owner of a range takes it over from itself.
- What is said of partitions in an older generation than the stage's `laid` speaks of other ranges
  and counts no more.

Numbers are doubled and halved, so that ranges nest. Between `PARTITIONS_PER_WORKER_MIN` and `_MAX`
nothing changes, and merging waits until workers have not changed for `MERGE_AFTER_S`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace

from drizzle_streams.model.ids import (
    NO_BATCH,
    BatchId,
    Generation,
    GroupId,
    PartitionId,
    SourceId,
    StageId,
    WorkerId,
)
from drizzle_streams.model.job import JobSpec, StageSpec, overlapping
from drizzle_streams.protocol.messages import Halted

PARTITIONS_PER_WORKER_MIN = 2
"""Fewer per worker, and the shares of workers differ too much: partitions are split."""

PARTITIONS_PER_WORKER_MAX = 8
"""More per worker only cost: what was split before is merged again."""

PARTITIONS_MAX = 256
"""Partitions that a stage is split into at most; fewer where there are fewer key groups."""

MERGE_AFTER_S = 30.0
"""How long workers must not have changed before partitions are merged: who was lost may come back."""

Policy = Callable[[StageSpec, int, int, bool], int]
"""(stage, workers, partitions at most, whether they may be merged) -> the number it should have."""


def wanted_partitions(stage: StageSpec, workers: int, most: int, may_merge: bool) -> int:
    """Doubled until every worker has enough of them, halved while all have too many."""
    count = stage.partitions
    while count < workers * PARTITIONS_PER_WORKER_MIN and count * 2 <= most:
        count *= 2
    while may_merge and count > workers * PARTITIONS_PER_WORKER_MAX and _may_halve(count, stage):
        count //= 2
    return count


def _may_halve(count: int, stage: StageSpec) -> bool:
    return count % 2 == 0 and count // 2 >= stage.partitions_least


@dataclass(frozen=True, slots=True)
class Before:
    """A stage before its number of partitions changed: how many there were, and who held them."""

    of: int
    holders: Mapping[int, WorkerId]

    def heirs(self, count: int, key_groups: int) -> dict[int, WorkerId]:
        """Who holds the beginning of each of `count` partitions: nothing moves that need not."""
        found: dict[int, WorkerId] = {}
        for partition in range(count):
            for old in overlapping(partition, count, self.of, key_groups)[:1]:
                if old in self.holders:
                    found[partition] = self.holders[old]
        return found

    def formers(self, partition: int, count: int, key_groups: int) -> dict[WorkerId, list[PartitionId]]:
        """Who held what overlaps with one of `count` partitions, in the numbers of before."""
        found: dict[WorkerId, list[PartitionId]] = {}
        for old in overlapping(partition, count, self.of, key_groups):
            if old in self.holders:
                found.setdefault(self.holders[old], []).append(old)
        return found


@dataclass(slots=True)
class Resizing:
    """For one job: the numbers that are wanted, and whether sources stand still for them."""

    spec: JobSpec
    policy: Policy = wanted_partitions
    wanted: dict[StageId, int] = field(default_factory=dict[StageId, int])
    resized: int = 0
    _workers: int = 0
    _since: float = 0.0
    _halted: dict[SourceId, Halted] = field(default_factory=dict[SourceId, Halted])

    def look(self, workers: int, now: float) -> str:
        """Decide what the next boundary changes for so many workers; why, or nothing."""
        if workers != self._workers:
            self._workers, self._since = workers, now
        may_merge = now - self._since >= MERGE_AFTER_S
        most = min(PARTITIONS_MAX, self.spec.key_groups)
        self.wanted = {
            stage.stage: count
            for stage in self.spec.stages
            if stage.partitions_least
            and (count := self.policy(stage, workers, most, may_merge)) != stage.partitions
        }
        return self.reason

    @property
    def reason(self) -> str:
        """What is wanted, for people; empty where nothing is."""
        return "; ".join(self._change(stage, count) for stage, count in self.wanted.items())

    def _change(self, stage: StageId, count: int) -> str:
        before = self.spec.stage(stage).partitions
        verb = "split" if count > before else "merge"
        return f"stage {stage}: {before} partitions {verb} into {count}"

    def begin(self) -> None:
        """A cut is said, or taken back: what sources said of an earlier one is void."""
        self._halted.clear()

    def heard(self, halted: Halted) -> None:
        """A source obeys a cut."""
        self._halted[halted.source] = halted

    def sealed(self, generation: Generation, group: GroupId) -> BatchId:
        """The last batch that a source had sealed when it halted; a boundary must not lie before it."""
        said = [
            one.sealed
            for one in self._halted.values()
            if (one.generation, one.group) == (generation, group) and self.wanted
        ]
        return max(said, default=NO_BATCH)

    def stands(
        self, batch: BatchId, generation: Generation, group: GroupId, sources: Iterable[SourceId]
    ) -> bool:
        """Whether every source has halted at the boundary, with nothing sealed beyond it."""
        said = [self._halted.get(source) for source in sources]
        return all(
            one is not None
            and (one.generation, one.group, one.last) == (generation, group, batch)
            and one.sealed <= batch
            for one in said
        )

    def take(self, generation: Generation) -> JobSpec:
        """The job with the numbers that were wanted, from this generation on."""
        stages = tuple(
            replace(stage, partitions=self.wanted[stage.stage], laid=generation)
            if stage.stage in self.wanted
            else stage
            for stage in self.spec.stages
        )
        self.wanted = {}
        return replace(self.spec, stages=stages)

"""Recovery as a pure function: from facts to a plan (Drizzle section 3.3, D-Streams section 5).

What is lost is rebuilt, nothing else: survivors keep state, blocks and pace. For every
partition the plan says who owns it and from which batch its owner still needs input:

- unmoved: from the batch after what its owner holds;
- moved, stateful: restore the state at the last checkpoint, replay from the batch after it. A
  former owner that lives and stands at just that batch has the same state and is asked first;
- moved, stateless: recompute from the batch after the checkpoint, so that every owner always
  holds all blocks behind which a later recovery could fall back; with nobody below it, from
  the batch after what is done.

Surviving blocks are reused: each adoption carries a pre-filled list of who holds which
blocks (section 3.3, case a), and owners of retained blocks announce them to the new owners
(case b). The same function serves the loss of workers, a new worker, and a new coordinator.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from drizzle_streams.core.late_sources import FirstBatches
from drizzle_streams.core.placing import place
from drizzle_streams.core.resizing import Before
from drizzle_streams.model.ids import BatchId, PartitionId, StageId, WorkerId
from drizzle_streams.model.job import JobSpec, StageSpec
from drizzle_streams.model.placement import Placement
from drizzle_streams.model.snapshot import Checkpoint, SnapshotRef
from drizzle_streams.protocol.parts import Adoption, Available, Former


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known. `holders` are living owners whose state is intact, `held` their versions.

    `firsts`: the first batch of partitions that joined while the job ran.
    `before`: stages that have another number of partitions from here on; nobody holds those yet.
    """

    spec: JobSpec
    workers: Sequence[tuple[WorkerId, int]]
    holders: Mapping[tuple[int, int], WorkerId]
    held: Sequence[Sequence[BatchId]]
    done: Sequence[Sequence[BatchId]]
    checkpoint: Checkpoint
    before: Mapping[StageId, Before] = field(default_factory=dict[StageId, Before])
    firsts: FirstBatches = field(default_factory=dict[tuple[StageId, PartitionId], BatchId])

    def first_of(self, stage: int, partition: int) -> BatchId:
        """The first batch that the partition is part of."""
        return self.firsts.get((StageId(stage), PartitionId(partition)), BatchId(0))

    def former(self) -> dict[tuple[int, int], WorkerId]:
        """Who would keep each partition if it could: its holder, or that of the same key groups."""
        found = dict(self.holders)
        for stage, before in self.before.items():
            heirs = before.heirs(self.spec.stage(stage).partitions, self.spec.key_groups)
            found |= {(stage, partition): worker for partition, worker in heirs.items()}
        return found


@dataclass(frozen=True, slots=True)
class Plan:
    """A new generation, without its number: `needed[stage][partition]`, adoptions by worker."""

    placement: Placement
    needed: tuple[tuple[BatchId, ...], ...]
    adoptions: Mapping[WorkerId, tuple[Adoption, ...]]
    moved: int
    replayed_batches: int


def plan_recovery(facts: Facts) -> Plan:
    """Who owns what, from where, restored from which snapshots, with which blocks available."""
    placement = place(facts.spec, facts.workers, facts.former())
    needed = _needed(facts, placement)
    adoptions = {
        worker: tuple(
            adoption
            for stage in facts.spec.stages
            for adoption in _adoptions(facts, placement, needed, stage, worker)
        )
        for worker, _ in facts.workers
    }
    moved = [
        (stage.stage, p)
        for stage in facts.spec.stages
        for p in range(stage.partitions)
        if _moved(facts, placement, stage.stage, p)
    ]
    replayed = max(
        (facts.done[stage][p] - needed[stage][p] + 1 for stage, p in moved),
        default=0,
    )
    return Plan(placement, needed, adoptions, len(moved), max(0, replayed))


def _moved(facts: Facts, placement: Placement, stage: int, partition: int) -> bool:
    return facts.holders.get((stage, partition)) != placement.owners[stage][partition]


def _needed(facts: Facts, placement: Placement) -> tuple[tuple[BatchId, ...], ...]:
    return tuple(
        tuple(_needed_from(facts, placement, stage, p) for p in range(stage.partitions))
        for stage in facts.spec.stages
    )


def _needed_from(facts: Facts, placement: Placement, stage: StageSpec, partition: int) -> BatchId:
    if not _moved(facts, placement, stage.stage, partition):
        return BatchId(facts.held[stage.stage][partition] + 1)
    if stage.stateful or facts.spec.downstream(stage.stage):
        return max(BatchId(facts.checkpoint.batch + 1), facts.first_of(stage.stage, partition))
    return BatchId(facts.done[stage.stage][partition] + 1)


def _adoptions(
    facts: Facts,
    placement: Placement,
    needed: tuple[tuple[BatchId, ...], ...],
    stage: StageSpec,
    worker: WorkerId,
) -> list[Adoption]:
    """A worker's newly owned partitions of a stage: one cohort per first batch."""
    by_first: dict[BatchId, list[PartitionId]] = {}
    for partition in placement.held_by(worker, stage.stage):
        if _moved(facts, placement, stage.stage, partition):
            by_first.setdefault(needed[stage.stage][partition], []).append(partition)
    return [
        Adoption(
            stage=stage.stage,
            partitions=tuple(partitions),
            first=first,
            snapshots=_snapshots(facts, stage, partitions),
            available=tuple(_available(facts, placement, stage, first)),
            formers=_formers(facts, stage, partitions, BatchId(first - 1)),
            done=min(facts.done[stage.stage][p] for p in partitions),
        )
        for first, partitions in sorted(by_first.items())
    ]


def _snapshots(facts: Facts, stage: StageSpec, partitions: list[PartitionId]) -> tuple[SnapshotRef, ...]:
    if not stage.stateful:
        return ()
    place = (stage.partitions, facts.spec.key_groups)
    refs = (ref for p in partitions for ref in facts.checkpoint.refs(stage.stage, p, *place))
    return tuple(dict.fromkeys(refs))


def _formers(
    facts: Facts, stage: StageSpec, partitions: list[PartitionId], at: BatchId
) -> tuple[Former, ...]:
    """Living workers that owned some of the partitions and were last known to stand at just that batch."""
    before = facts.before.get(stage.stage)
    if before is not None:
        return _formers_before(facts, stage, before, partitions)
    found: dict[WorkerId, list[PartitionId]] = {}
    for partition in partitions:
        owner = facts.holders.get((stage.stage, partition))
        if stage.stateful and owner is not None and facts.held[stage.stage][partition] == at:
            found.setdefault(owner, []).append(partition)
    return tuple(Former(worker, tuple(held)) for worker, held in found.items())


def _formers_before(
    facts: Facts, stage: StageSpec, before: Before, partitions: list[PartitionId]
) -> tuple[Former, ...]:
    """The same where the number of partitions changes: all of them stand at the checkpoint."""
    found: dict[WorkerId, set[PartitionId]] = {}
    for partition in partitions if stage.stateful else ():
        formers = before.formers(partition, stage.partitions, facts.spec.key_groups)
        for worker, held in formers.items():
            found.setdefault(worker, set()).update(held)
    return tuple(Former(worker, tuple(sorted(held)), before.of) for worker, held in found.items())


def _available(facts: Facts, placement: Placement, stage: StageSpec, first: BatchId) -> list[Available]:
    """The pre-filled dependency list: blocks that living owners are known to hold."""
    found: dict[tuple[StageId, WorkerId, BatchId, BatchId], list[PartitionId]] = {}
    for upstream in stage.inputs:
        for p in range(facts.spec.stages[upstream].partitions):
            owner = facts.holders.get((upstream, p))
            last, since = facts.held[upstream][p], max(first, facts.first_of(upstream, p))
            if owner is not None and owner == placement.owners[upstream][p] and last >= since:
                found.setdefault((upstream, owner, since, last), []).append(PartitionId(p))
    return [
        Available(upstream, tuple(partitions), owner, since, last)
        for (upstream, owner, since, last), partitions in found.items()
    ]

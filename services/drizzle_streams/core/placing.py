"""Where partitions go: balanced by slots, sticky, moving as few as possible (section 3.1, locality).

Pure and deterministic: the same members and the same former owners give the same placement.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from drizzle_streams.model.ids import PartitionId, WorkerId
from drizzle_streams.model.job import JobSpec
from drizzle_streams.model.placement import Placement

Former = Mapping[tuple[int, int], WorkerId]
"""(stage, partition) -> the living worker that holds it now."""


def place(spec: JobSpec, workers: Sequence[tuple[WorkerId, int]], former: Former) -> Placement:
    """A placement of all partitions over `workers` (id, slots); at least one with slots is needed.

    Each worker gets its share of every stage, rounded; who holds a partition keeps it while
    its share allows. Remainders go round over stages so that no worker gets all of them.
    """
    owners: list[tuple[WorkerId, ...]] = []
    turn = 0
    for stage in spec.stages:
        quota = _quota(stage.partitions, workers, turn)
        turn += stage.partitions
        owners.append(_place_stage(stage.stage, stage.partitions, quota, former))
    return Placement(tuple(owners))


def _quota(partitions: int, workers: Sequence[tuple[WorkerId, int]], turn: int) -> dict[WorkerId, int]:
    """How many partitions each worker gets, proportional to its slots, summing to `partitions`.

    A worker with 0 slots gets none: it is a member and holds nothing for now.
    """
    takers = [worker for worker, size in workers if size]
    slots = sum(size for _, size in workers)
    quota = {worker: partitions * size // slots for worker, size in workers}
    left = partitions - sum(quota.values())
    for i in range(left):
        quota[takers[(turn + i) % len(takers)]] += 1
    return quota


def _place_stage(
    stage: int, partitions: int, quota: dict[WorkerId, int], former: Former
) -> tuple[WorkerId, ...]:
    room = dict(quota)
    owners: dict[int, WorkerId] = {}
    for partition in range(partitions):
        owner = former.get((stage, partition))
        if owner is not None and room.get(owner, 0) > 0:
            owners[partition] = owner
            room[owner] -= 1
    free = [worker for worker, left in room.items() for _ in range(left)]
    homeless = [PartitionId(p) for p in range(partitions) if p not in owners]
    owners.update(zip(homeless, free, strict=True))
    return tuple(owners[p] for p in range(partitions))

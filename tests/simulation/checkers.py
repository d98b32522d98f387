"""What must hold after the faults: progress, exact values, and nothing that grows for ever."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import pytest

from tests.simulation.disks import BrokenPromiseError
from tests.simulation.values import by_group, sum_records
from tests.simulation.world import World


def demand_progress(world: World, batches: int = 30, within_s: float = 15.0) -> None:
    """After healing, batches go through again, all partitions of them."""
    target = world.written + batches
    if not world.run(within_s, until=lambda: world.written >= target):
        raise BrokenPromiseError(
            f"no progress: batch {world.written} of {target} is written {within_s} s after healing; "
            + describe(world)
        )


def demand_everything(world: World, within_s: float = 10.0) -> None:
    """When producers stop, every record that a source took is in the sink's sums, once."""
    world.producing = False
    world.run(0.1)

    total = by_group(
        sum_records(record for disk in world.disks.values() for log in disk.logs for record in log)
    )
    if not world.run(within_s, until=lambda: world.sink.totals == total):
        raise BrokenPromiseError(f"sums differ: {world.sink.totals} instead of {total}; {describe(world)}")


def demand_flatness(world: World) -> None:
    """Everything older than the last checkpoint is gone everywhere (law 5)."""
    world.run(2.0)
    job = world.job_state
    lag = job.group.last - job.checkpoints.committed.batch
    if lag > 100:
        raise BrokenPromiseError(f"checkpoints fell {lag} batches behind; {describe(world)}")
    for life in world.of_kind("worker"):
        performer = life.performer
        for what, kept in (("blocks", performer.blocks), ("fragments", performer.fragments)):
            if len(kept) > 40 * (lag + 20):
                raise BrokenPromiseError(f"{life.id} keeps {len(kept)} {what}; {describe(world)}")
        for state in life.machine.role.jobs.values():
            if any(len(table) > lag + 40 for table in state.arrivals):
                raise BrokenPromiseError(f"{life.id} keeps arrivals of {[len(t) for t in state.arrivals]}")
            if len(state.fetching) > 8:
                raise BrokenPromiseError(f"{life.id} still fetches {state.fetching}")
    for name, disk in world.disks.items():
        for stored in disk.bounds.values():
            if len(stored) > lag + 60:
                raise BrokenPromiseError(f"{name} keeps bounds of {len(stored)} batches")
    if len(world.snapshots.parts) > 120:
        raise BrokenPromiseError(f"{len(world.snapshots.parts)} snapshot parts are kept")
    if len(world.ledger.records) > 5:
        raise BrokenPromiseError(f"the ledger keeps {sorted(world.ledger.records)}")


def describe(world: World) -> str:
    """The state of everybody, for a person who reads a failed seed."""
    lines = [f"at {world.now - 1000:.2f}"]
    role = world.coordinator.machine.role
    lines += [
        f"coordinator: {job.phase} generation {job.generation} group {job.group} frontier "
        f"{job.progress.frontier} done {job.progress.done} held {job.progress.held} checkpoint "
        f"{job.checkpoints.committed.batch} wants {job.wants_plan!r} awaiting {job.awaiting_until} "
        f"placement {job.placement.owners} pending {sorted(job.checkpoints.pending)}"
        for job in role.jobs.values()
    ]
    for life in world.of_kind("worker"):
        for job in life.machine.role.jobs.values():
            cohorts = [
                (
                    c.stage,
                    c.partitions,
                    c.computed,
                    c.done,
                    "open" if c.open else "closed",
                    c.running,
                    c.writing,
                )
                for c in job.cohorts.values()
            ]
            missing = [job.overdue(c) for c in job.cohorts.values()]
            lines.append(
                f"{life.id}: generation {job.generation} launched {job.launched} loaded {job.loaded} "
                f"cohorts {cohorts} missing {missing} fetching {job.fetching}"
            )
    for life in world.of_kind("source"):
        for job in life.machine.role.jobs.values():
            readings = [(r.sealed, r.taken, r.sealing, len(r.batches)) for r in job.readings.values()]
            launches = [(launch.first, launch.last) for launch in job.launches]
            lines.append(f"{life.id}: generation {job.generation} readings {readings} launches {launches}")
    return "\n".join(lines)


def demand_caught(
    *runs: Callable[[int], object],
    seeds: Iterable[int],
    by: tuple[type[Exception], ...] = (BrokenPromiseError,),
) -> None:
    """Of a planted bug: some run with some seed shows it."""
    for run in runs:
        for seed in seeds:
            try:
                run(seed)
            except by:
                return
    pytest.fail("no run caught the planted bug")

"""Handing state over: who takes partitions over asks their former owner before the snapshot store.

    GET /states?run=&job=&stage=&partitions=&of=&batch=

A planned move happens at a batch where everybody stands and of which the checkpoint is committed.
So the former owner has just the state that the checkpoint has, in memory, and gives it in one
piece. Rules:

- The state that a worker gave up is kept aside (a reference: state is immutable) until a checkpoint
  lies behind it, `PARTED_STATES_MAX` at most. Before it heard of the new generation it still holds it.
- Only that very batch of that very run is given; anything else is 404. A batch's state is the same
  in every generation (law 4), so who asks needs not be told apart by generation.
- Partitions are named in the numbers that their former owner knew them by, `of` so many. Where they were
  split or merged, who takes over cuts its own out of them; who stays the owner asks itself, without a call.
- Whatever goes wrong here is no fault: the checkpoint has the same state.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

from drizzle_streams.core.actions import OpenCohort
from drizzle_streams.core.arrivals import mask_of
from drizzle_streams.engine.state import StageState, united
from drizzle_streams.errors import DrizzleError, ProtocolError, UnreachableError, explain
from drizzle_streams.model.ids import BatchId, JobId, NodeId, PartitionId, StageId
from drizzle_streams.protocol.parts import Former
from drizzle_streams.transport.base import NotFoundError
from drizzle_streams.worker.bench import Bench
from drizzle_streams.worker.bundles import pack_share, unpack_share
from drizzle_streams.worker.counters import Refusal
from drizzle_streams.worker.jobs import JobRun
from drizzle_streams.worker.programs import LoadedStage
from drizzle_streams.worker.serving import mask_of_text, number_of_text
from drizzle_streams.worker.snapshots import numbers_before

log = logging.getLogger("drizzle.worker")

STATES_PATH = "/states"
STATE_BYTES_MAX = 256 * 1024 * 1024
"""The longest state that is taken over from a worker; a larger one comes from the checkpoint."""
HANDOVER_S_MAX = 3.0
"""A former owner that has not answered by then is not waited for."""


class Handing:
    """Answers questions for state; `jobs` is the performer's own table."""

    def __init__(self, bench: Bench, jobs: Mapping[JobId, JobRun]) -> None:
        self._bench = bench
        self._jobs = jobs

    async def fetch(self, params: Mapping[str, str]) -> bytes:
        """The handler of `STATES_PATH`. Raises `ProtocolError` and `NotFoundError`; both are counted."""
        refused = self._bench.counters.fetches_refused
        try:
            stage = StageId(number_of_text(params, "stage"))
            batch = BatchId(number_of_text(params, "batch"))
            of = number_of_text(params, "of")
            partitions = mask_of_text(params, "partitions")
        except ProtocolError:
            refused[Refusal.GARBAGE] += 1
            raise
        job = self._jobs.get(JobId(params.get("job", "")))
        found: list[StageState] = []
        if job is not None and job.spec.run == params.get("run", ""):
            await job.all_parted()
            found = _held(job, stage, Former(self._bench.role.settings.worker, partitions, of), batch)
        if {partition for state in found for partition in state.partitions}.issuperset(partitions):
            parts = await self._bench.threads.background(_encoded, found, partitions)
            return pack_share(parts)
        refused[Refusal.NOT_HELD] += 1
        raise NotFoundError(
            explain(
                f"state of job {params.get('job', '')[:100]!r}, stage {stage}, batch {batch}",
                wanted="partitions that were owned here at that batch",
                found="none, or not all of them",
                remedy="It is restored from the checkpoint.",
            )
        )


async def taken_over(
    job: JobRun, stage: LoadedStage, action: OpenCohort
) -> tuple[list[StageState], tuple[PartitionId, ...]]:
    """States that former owners gave, and the partitions that are left to restore."""
    states: list[StageState] = []
    count = stage.stage.partitions
    of = next((former.of for former in action.formers if former.of), count)
    left = set(numbers_before(stage, action.partitions, of))
    for former in action.formers:
        wanted = tuple(sorted(left.intersection(former.partitions)))
        if not wanted:
            continue
        try:
            states.append(await _asked(job, stage, action, Former(former.worker, wanted, of)))
            left -= set(wanted)
            job.bench.counters.states_taken_over += 1
        except DrizzleError as error:
            job.bench.counters.states_not_taken_over += 1
            reason = {"job": action.job, "stage": action.stage, "from": former.worker, "reason": str(error)}
            log.info("state comes from the checkpoint", extra=reason)
    if of == count:
        return states, tuple(sorted(left.intersection(action.partitions)))
    whole = [p for p in action.partitions if left.isdisjoint(numbers_before(stage, (p,), of))]
    rest = tuple(p for p in action.partitions if p not in whole)
    if not whole:
        return [], rest
    return [await job.bench.threads.background(_laid_out, stage, states, whole)], rest


def _laid_out(
    stage: LoadedStage, states: Sequence[StageState], partitions: Sequence[PartitionId]
) -> StageState:
    """In a thread: what was held under other numbers, as these partitions."""
    return united(states).laid_out(stage.executor.layout, partitions)


async def _asked(job: JobRun, stage: LoadedStage, action: OpenCohort, former: Former) -> StageState:
    bench = job.bench
    if former.worker == bench.role.settings.worker:
        return await _own(job, action, former)
    address = bench.addresses.get(NodeId(former.worker))
    if address is None:
        raise UnreachableError(f"{former.worker} has no address here")
    params = {
        "run": job.spec.run,
        "job": action.job,
        "stage": str(action.stage),
        "partitions": f"{mask_of(former.partitions):x}",
        "of": str(former.of),
        "batch": str(action.batch),
    }
    data = await bench.transport.fetch(address, STATES_PATH, params, HANDOVER_S_MAX, STATE_BYTES_MAX)
    return await bench.threads.background(_decoded, stage, former, action.batch, data)


async def _own(job: JobRun, action: OpenCohort, former: Former) -> StageState:
    """What this worker gave up itself a moment ago; raises `NotFoundError`."""
    await job.all_parted()
    found = _held(job, action.stage, former, action.batch)
    if not {partition for state in found for partition in state.partitions}.issuperset(former.partitions):
        raise NotFoundError(f"batch {action.batch} of {former.partitions} is not held here any more")
    return await job.bench.threads.background(_kept, found, former.partitions)


def _held(job: JobRun, stage: StageId, former: Former, batch: BatchId) -> list[StageState]:
    """States at that batch, each partition once: of cohorts, and what was kept aside."""
    of_cohorts = [c.state for c in job.cohorts.values() if c.stage == stage and c.state is not None]
    aside = [state for of_stage, state in reversed(job.parted) if of_stage == stage]
    left, found = set[int](former.partitions), list[StageState]()
    for state in of_cohorts + aside:
        mine = left.intersection(state.partitions)
        if (state.version, state.layout.partitions) == (batch, former.of) and mine:
            found.append(state)
            left -= mine
    return found


def _encoded(states: Sequence[StageState], partitions: Sequence[PartitionId]) -> list[bytes]:
    """In a thread: the share of those partitions as one full snapshot."""
    return list(_kept(states, partitions).snapshot_since(None)[1])


def _kept(states: Sequence[StageState], partitions: Sequence[PartitionId]) -> StageState:
    """The share of those partitions, of which some states may hold the same ones."""
    left, kept = set[int](partitions), list[StageState]()
    for state in states:
        mine = sorted(left.intersection(state.partitions))
        kept.append(state.keep(mine) if len(mine) < len(state.partitions) else state)
        left -= set(mine)
    return united(kept)


def _decoded(stage: LoadedStage, former: Former, batch: BatchId, data: bytes) -> StageState:
    """In a thread; raises `CorruptError`."""
    executor = stage.executor
    if former.of != stage.stage.partitions:
        executor = executor.resized(former.of)
    return executor.restore(former.partitions, batch, unpack_share(data))

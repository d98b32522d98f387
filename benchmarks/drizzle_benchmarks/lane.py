"""One worker's computing for one job, in this process: the product's own calls, without a cluster.

A batch is what a worker does in its threads (`worker.execution.execute`): parse, steps, partial, cut and
encode shares; decode, merge, state, windows, results, rows by partition. Beside the batches runs what runs
beside them in a worker: merging of state and snapshots, on its threads for upkeep. Blocks go through
the codec as if from another worker. Left out is what no size of state or table changes: event loop,
messages, Redis, the sink's write.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise

from drizzle_streams.core.actions import OpenCohort
from drizzle_streams.engine.compaction import Compacted, Compaction
from drizzle_streams.engine.records import InputEntry
from drizzle_streams.engine.state import StageState
from drizzle_streams.errors import DrizzleError, explain
from drizzle_streams.model.ids import BatchId, CohortId, Generation, JobId, PartitionId, StageId, WorkerId
from drizzle_streams.model.job import JobSpec
from drizzle_streams.model.snapshot import SnapshotRef
from drizzle_streams.model.task import TaskError
from drizzle_streams.protocol.jobfile import unpack_job
from drizzle_streams.stores.memory import MemorySnapshotStore
from drizzle_streams.worker.blocks import ShareKey
from drizzle_streams.worker.bundles import unpack_share
from drizzle_streams.worker.execution import BlockInput, Result, Work, execute
from drizzle_streams.worker.programs import LoadedStage, load_stages
from drizzle_streams.worker.snapshots import SnapshotLine, SnapshotNames, restored
from drizzle_streams.worker.threads import Threads

PARTITIONS = 4
"""Of the stream and of the shuffle; all of them on this one worker."""
MAP, REDUCE = StageId(0), StageId(1)
GENERATION = Generation(1)
SLOTS = 1


@dataclass(frozen=True, slots=True)
class Stored:
    """A snapshot that was taken: how long that took beside the batches, bytes written, all its bytes."""

    ref: SnapshotRef
    seconds: float
    written: int

    @property
    def bytes(self) -> int:
        """What a restore would read."""
        return sum(part.bytes for part in self.ref.parts)


@dataclass(slots=True)
class Lane:
    """A job's two stages on one worker, from its bytes; `state` is the second one's, after the last batch."""

    data: bytes
    threads: Threads = field(default_factory=lambda: Threads(SLOTS))
    store: MemorySnapshotStore = field(default_factory=MemorySnapshotStore)
    batch: int = -1
    merges: int = 0
    snapshots: list[Stored] = field(default_factory=list[Stored])
    _ends: dict[int, int] = field(default_factory=dict[int, int])
    _merging: asyncio.Task[tuple[Compaction, Compacted]] | None = None
    _storing: asyncio.Task[None] | None = None
    _unasked: BatchId | None = None
    stages: tuple[LoadedStage, ...] = ()
    state: StageState = field(init=False)
    _line: SnapshotLine = field(init=False)

    def __post_init__(self) -> None:
        loaded = load_stages(_laid_out(unpack_job(self.data).spec), self.data)
        if isinstance(loaded, TaskError):
            raise _failed("loading the job", loaded)
        self.stages = loaded
        self.state = loaded[REDUCE].executor.empty_state(range(PARTITIONS))
        names = SnapshotNames(REDUCE, WorkerId("bench"), CohortId(1))
        self._line = SnapshotLine(JobId(loaded[REDUCE].spec.run), names, self.store, self.threads)

    async def run(self, payloads: Sequence[tuple[int, bytes]], form: str = "ndjson") -> float:
        """The next batch, of (records, payload) by partition; the seconds that it took."""
        entries = [self._entry(partition, *one, form) for partition, one in enumerate(payloads)]
        self.batch += 1
        merged = await self._merged()
        started = time.perf_counter()
        if self._unasked is not None:
            self.state, self._unasked = self.state.forget_changes(self._unasked), None
        every = tuple(PartitionId(partition) for partition in range(PARTITIONS))
        share = ShareKey(REDUCE, every, every)
        reading = Work(self.stages[MAP], BatchId(self.batch), every, entries=entries, shares=[share])
        mapped = _checked(await self.threads.task(execute, reading, None))
        blocks = [BlockInput(one, frozenset(every), None) for one in unpack_share(mapped.shares[0][1])]
        work = Work(self.stages[REDUCE], BatchId(self.batch), every, blocks=blocks)
        compact = self._merging is None
        result = _checked(await self.threads.task(execute, work, self.state, merged, compact=compact))
        seconds = time.perf_counter() - started
        if result.state is not None:
            self.state = result.state
        if result.compaction is not None:
            self._merging = asyncio.create_task(self._merge(result.compaction))
        return seconds

    def begin_snapshot(self) -> bool:
        """Have the state stored beside the batches; False while the one before is still being stored."""
        if self._storing is not None and not self._storing.done():
            return False
        if self._storing is not None:
            self._storing.result()  # raises what it raised
        self._line.admit()
        self._storing = asyncio.create_task(self._store(self.state))
        return True

    async def settle(self) -> None:
        """Until nothing runs beside the batches any more and no merge of state is due."""
        if self._storing is not None:
            await self._storing
        while True:
            if self._merging is not None:
                await asyncio.wait({self._merging})
            merged = await self._merged()
            if merged is not None:
                self.state = self.state.compacted(*merged)
            work = self.state.compaction()
            if work is None:
                return
            self._merging = asyncio.create_task(self._merge(work))

    async def rest(self) -> None:
        """Until nothing runs beside the batches; what is merged is taken in by the next one."""
        beside = {one for one in (self._merging, self._storing) if one is not None}
        if beside:
            await asyncio.wait(beside)

    async def restore(self) -> tuple[float, StageState]:
        """Restore the newest snapshot as a worker that opens a cohort does: seconds, and the state."""
        ref = self.snapshots[-1].ref
        job, every = self.stages[REDUCE].spec.job, tuple(ref.partitions)
        action = OpenCohort(job, REDUCE, CohortId(2), every, ref.batch, (ref,))
        started = time.perf_counter()
        state = await restored(action, self.stages[REDUCE], self.store, self.threads)
        return time.perf_counter() - started, state

    async def _merged(self) -> tuple[Compaction, Compacted] | None:
        if self._merging is None or not self._merging.done():
            return None
        done, self._merging = self._merging, None
        self.merges += 1
        return await done

    async def _merge(self, work: Compaction) -> tuple[Compaction, Compacted]:
        return work, await self.threads.upkeep(work.run)

    async def _store(self, state: StageState) -> None:
        started = time.perf_counter()
        ref, written = await self._line.take(state, GENERATION)
        self.snapshots.append(Stored(ref, time.perf_counter() - started, written))
        self._unasked = self._line.unasked
        kept = {part.key for stored in self.snapshots[-2:] for part in stored.ref.parts}
        await self.store.delete([key for key in self.store.parts if key not in kept])

    def _entry(self, partition: int, records: int, payload: bytes, form: str) -> InputEntry:
        offset = self._ends.get(partition, 0)
        self._ends[partition] = offset + records
        return InputEntry(partition, offset, records, form, payload)

    async def close(self) -> None:
        """Wait for what still runs, and end the threads."""
        if self._merging is not None:
            await self._merging
        if self._storing is not None:
            await self._storing
        self.threads.close()


def portions(records: int) -> list[int]:
    """Records of a batch by partition, as even as they come."""
    ends = [records * part // PARTITIONS for part in range(PARTITIONS + 1)]
    return [end - begin for begin, end in pairwise(ends)]


def p50_and_p99(seconds: Sequence[float]) -> dict[str, float]:
    """Times as milliseconds: the median, and what one of a hundred exceeds."""
    ordered = sorted(seconds)
    return {
        name: round(ordered[min(len(ordered) - 1, int(share * len(ordered)))] * 1000.0, 3)
        for name, share in (("p50", 0.50), ("p99", 0.99))
    }


def _laid_out(spec: JobSpec) -> JobSpec:
    """The spec as a coordinator completes it: the stream has its partitions."""
    stages = (one if one.stream is None else replace(one, partitions=PARTITIONS) for one in spec.stages)
    return replace(spec, stages=tuple(stages))


def _checked(result: Result | TaskError) -> Result:
    if isinstance(result, TaskError):
        raise _failed(f"batch {result.batch}", result)
    return result


def _failed(thing: str, error: TaskError) -> DrizzleError:
    remedy = "This is a fault in Drizzle or in the benchmark: report it with this traceback."
    return DrizzleError(
        explain(thing, wanted="a result", found=f"{error.message}\n{error.traceback}", remedy=remedy)
    )

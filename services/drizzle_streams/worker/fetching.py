"""Pulling what did not ride along: blocks from other workers, records from sources.

Rules:
- At most `AT_ONCE_MAX` fetches run; the others wait, the oldest batch first. When this worker's
  memory for blocks and fragments is full only one runs at a time: the oldest batch's, since the
  tasks that make room may be waiting for just that.
- A fetch ends in one event. That the other side does not hold what was asked for is an answer
  (nothing fetched), not a failure; only an unreachable or broken peer is one. Nothing is
  judged here (law 6).
- A peer that is busy is asked again a few times. Everything else is the machine's to repeat.
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from itertools import count
from urllib.parse import quote

from drizzle_streams.core import actions as act
from drizzle_streams.core import events as ev
from drizzle_streams.errors import BackPressureError, CorruptError, DrizzleError, UnreachableError, explain
from drizzle_streams.model.ids import BatchId, NodeId, PartitionId, StreamId
from drizzle_streams.transport.base import NotFoundError
from drizzle_streams.worker.bench import Bench
from drizzle_streams.worker.bundles import unpack_answer, unpack_share
from drizzle_streams.worker.chunks import named_chunks
from drizzle_streams.worker.fragments import Input, input_of
from drizzle_streams.worker.jobs import JobRun
from drizzle_streams.worker.serving import ANSWER_BYTES_MAX, BLOCKS_PATH, question

AT_ONCE_MAX = 8
"""Fetches under way."""
WAITING_MAX = 4_096
"""Fetches that wait for their turn; a further one fails and is asked for again later."""
FETCH_S = 10.0
BUSY_ATTEMPTS_MAX = 4
BUSY_PAUSE_S = 0.05
"""How often a busy peer is asked, and the first pause; it doubles."""
INPUT_BYTES_MAX = 128 * 1024 * 1024
"""Encoded records of one partition and batch."""


class Fetching:
    """The fetches of one life of a worker."""

    def __init__(self, bench: Bench) -> None:
        self.running = 0
        self._bench = bench
        self._numbers = count()
        self._waiting: list[tuple[BatchId, int, Callable[[], Awaitable[None]]]] = []

    @property
    def waiting(self) -> int:
        """Fetches that wait for their turn."""
        return len(self._waiting)

    def close(self) -> None:
        """Start none of those that wait."""
        self._waiting.clear()

    def blocks(self, job: JobRun, action: act.FetchBlocks) -> None:
        """Pull blocks; ends in BlocksFetched or FetchFailed."""
        failed = partial(ev.FetchFailed, action)
        self._start(job, action.first, lambda: self._ended(job, self._blocks(job, action), failed), failed)

    def input(self, job: JobRun, action: act.FetchInput) -> None:
        """Pull records; ends in InputFetched or InputFetchFailed."""
        failed = partial(ev.InputFetchFailed, action)
        batch = action.fragment.batch
        self._start(job, batch, lambda: self._ended(job, self._input(job, action), failed), failed)

    def _start(
        self,
        job: JobRun,
        batch: BatchId,
        work: Callable[[], Awaitable[None]],
        failed: Callable[[str], ev.Event],
    ) -> None:
        if len(self._waiting) >= WAITING_MAX:
            job.post(failed(f"{WAITING_MAX} fetches wait already"))
            return
        heapq.heappush(self._waiting, (batch, next(self._numbers), work))
        self._go_on()

    def _go_on(self) -> None:
        while self._waiting and self.running < (1 if self._bench.full else AT_ONCE_MAX):
            _, _, work = heapq.heappop(self._waiting)
            self.running += 1
            self._bench.tasks.start(self._run(work), "fetch")

    async def _run(self, work: Callable[[], Awaitable[None]]) -> None:
        try:
            await work()
        finally:
            self.running -= 1
            self._go_on()

    async def _ended(self, job: JobRun, work: Awaitable[ev.Event], failed: Callable[[str], ev.Event]) -> None:
        try:
            event = await work
        except DrizzleError as error:
            self._bench.counters.fetches_failed += 1
            event = failed(str(error))
        job.post(event)

    # --- blocks ---------------------------------------------------------------------------

    async def _blocks(self, job: JobRun, action: act.FetchBlocks) -> ev.Event:
        present: list[tuple[BatchId, float]] = []
        following: BatchId | None = action.first
        while following is not None and not job.forgotten:
            params = question(job.spec, action, following)
            try:
                data = await self._get(NodeId(action.sender), BLOCKS_PATH, params, ANSWER_BYTES_MAX)
            except NotFoundError:
                break
            fetched, following = await self._bench.threads.background(_unpacked, data, following)
            for batch, sealed_at_ms, blocks in fetched:
                if not job.forgotten:
                    self._bench.fragments.put_blocks(_fragment(action, batch), blocks)
                    present.append((batch, sealed_at_ms))
        return ev.BlocksFetched(action, tuple(present))

    # --- input ----------------------------------------------------------------------------

    async def _input(self, job: JobRun, action: act.FetchInput) -> ev.Event:
        files = job.spec.stage(action.fragment.downstream).chunks is not None
        content: Input = named_chunks(action.bounds) if files else {}
        for bound in action.bounds:
            if files or not bound.records:
                continue
            stream, local = self._place(job, action, bound.partition)
            params = {"partition": str(local), "first": str(bound.first), "end": str(bound.end)}
            path = f"/streams/{quote(stream, safe='')}/records"
            data = await self._get(NodeId(action.source), path, params, INPUT_BYTES_MAX)
            content |= await self._bench.threads.background(input_of, (bound,), data)
        if not job.forgotten:
            self._bench.fragments.put_input(action.fragment, content)
        return ev.InputFetched(action)

    def _place(self, job: JobRun, action: act.FetchInput, partition: PartitionId) -> tuple[StreamId, int]:
        """The stream that the stage reads, and the partition's number in its source's own log."""
        stream = job.spec.stage(action.fragment.downstream).stream
        known = self._bench.role.jobs.get(job.spec.job)
        layout = known.layouts.get(stream) if known is not None and stream is not None else None
        if stream is None or layout is None:
            raise UnreachableError(f"stream {stream} of job {job.spec.job} has no layout here")
        return stream, layout.local(partition)

    async def _get(self, node: NodeId, path: str, params: Mapping[str, str], bytes_max: int) -> bytes:
        address = self._bench.addresses.get(node)
        if address is None:
            raise UnreachableError(
                explain(str(node), wanted="its address", found="none", remedy="The coordinator tells it.")
            )
        for attempt in range(1, BUSY_ATTEMPTS_MAX):
            try:
                return await self._bench.transport.fetch(address, path, params, FETCH_S, bytes_max)
            except BackPressureError:
                await asyncio.sleep(BUSY_PAUSE_S * 2 ** (attempt - 1))
        return await self._bench.transport.fetch(address, path, params, FETCH_S, bytes_max)


Unpacked = tuple[BatchId, float, tuple[bytes, ...]]


def _unpacked(data: bytes, first: BatchId) -> tuple[list[Unpacked], BatchId | None]:
    """In a thread: checked shares by batch, and where to ask on; raises `CorruptError`."""
    served, following = unpack_answer(data)
    if following is not None and following <= first:
        raise CorruptError(f"an answer that goes on at batch {following} after {first}")
    return [(one.batch, one.sealed_at_ms, unpack_share(one.share)) for one in served], following


def _fragment(action: act.FetchBlocks, batch: BatchId) -> act.Fragment:
    return act.Fragment(
        action.job,
        action.downstream,
        action.stage,
        batch,
        NodeId(action.sender),
        action.partitions,
        action.wanted,
    )

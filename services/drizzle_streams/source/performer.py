"""Does what the source machine starts: opens, seals, trims, lets go; in order per job, off the loop.

The order of a seal is a promise (law 4): where batches end is read off the log, the records
are forced to the disk as the durability wants, then the bounds; only then is the machine told,
which offers the batches. A full disk is a seal that is tried again; a broken one ends the service.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from drizzle_streams.core import actions as act
from drizzle_streams.core import events as ev
from drizzle_streams.errors import DrizzleError, ProtocolError, StoreError, explain
from drizzle_streams.model.bounds import Bounds
from drizzle_streams.model.ids import BatchId, JobId, NodeId, Offset, PartitionId, StageId
from drizzle_streams.protocol.messages import Message, Offer
from drizzle_streams.source.chains import NEEDED_WAITING_MAX, Chains, Work
from drizzle_streams.source.files import WriteRefusedError
from drizzle_streams.source.log import StreamLog
from drizzle_streams.source.offers import INLINE_OFFER_BYTES_MAX, OfferPayloads
from drizzle_streams.source.runs import Reading, RunKey, Runs

log = logging.getLogger("drizzle.source")

BATCH_BYTES_MAX = 16 * 1024 * 1024
"""Entries that one batch takes of one partition: a worker pulls them in one answer."""

Tell = Callable[[str, str, str], None]
"""Adds a line to the story: (kind, text, job)."""
Sealed = Callable[[ev.BatchesSealed], None]


class SourcePerformer:
    """See `runtime.driver.Performer`. `post` is the driver's, set before it runs.

    `on_failure` ends the service: what was promised can no longer be kept.
    """

    def __init__(
        self, runs: Runs, *, tell: Tell, on_sealed: Sealed, on_failure: Callable[[BaseException], None]
    ) -> None:
        self._runs = runs
        self._tell = tell
        self._on_sealed = on_sealed
        self._on_failure = on_failure
        self._chains = Chains(on_failure)
        self._wanted: dict[tuple[JobId, StageId], act.OpenStream] = {}
        self.offers = OfferPayloads()
        self.post: Callable[[ev.Event], None] = _unwired

    @property
    def waiting(self) -> int:
        """Pieces of work that wait for the disk."""
        return len(self._chains)

    async def close(self) -> None:
        """End what is under way."""
        await self._chains.close()

    def perform(self, action: act.Start) -> None:
        """Have it done after whatever waits for that job."""
        match action:
            case act.OpenStream():
                self._must(action.job, lambda: self._open(action))
            case act.SealBatches():
                if not self._chains.add(action.job, lambda: self._seal(action)):
                    self._failed_to_seal(action, "too much waits for the disk")
            case act.TrimInput():
                # At the bound it is left out: the next checkpoint's says all of it and more.
                self._chains.add(action.job, lambda: self._trim(action))
            case act.ReleaseInput():
                self._must(action.job, lambda: self._release(action))
            case _:
                raise TypeError(f"{type(action).__name__} is not a source's to do")

    def _must(self, job: JobId, work: Work) -> None:
        """Nobody asks for it again: where even this finds no room the disk is beyond hope."""
        if not self._chains.add(job, work, needed=True):
            self._on_failure(
                StoreError(
                    explain(
                        f"work of job {job} on the disk",
                        wanted=f"at most {NEEDED_WAITING_MAX} pieces that wait",
                        found="one more: the disk has not answered for minutes",
                        remedy="See to the disk, then start the source again: it recovers what was offered.",
                    )
                )
            )

    def attach(self, to: NodeId, message: Message) -> bytes | None:  # noqa: ARG002 - the protocol's
        """An offer's records ride along if they are few: entries in the order of the bounds."""
        if not isinstance(message, Offer):
            return None
        return self.offers.payload((message.job, message.stage), message.bounds)

    def absorb(self, sender: NodeId, message: Message, payload: bytes) -> bool:  # noqa: ARG002 - the protocol's
        """No payload is for a source."""
        return False

    # --- in order, per job ----------------------------------------------------------------

    async def _open(self, action: act.OpenStream) -> None:
        self._wanted[action.job, action.stage] = action
        try:
            await self._reading(action.job, action.stage)
        except StoreError:
            raise
        except DrizzleError as error:  # too many streams, say: each seal tries again
            self._tell("StreamRefused", str(error), action.job)
            log.warning("a stream cannot be opened", extra={"job": action.job, "reason": str(error)})
        else:
            self._tell("StreamOpened", f"{action.stream}, partitions {list(action.partitions)}", action.job)

    async def _reading(self, job: JobId, stage: StageId) -> Reading:
        wanted = self._wanted.get((job, stage))
        if wanted is None:
            raise ProtocolError(f"job {job}: stage {stage} was never opened here")
        reading = self._runs.get(job, stage)
        of = 0 if wanted.chunks is None else wanted.of
        key = RunKey(job, wanted.born, stage, wanted.stream, wanted.chunks, of)
        if reading is not None and reading.key == key and set(reading.local) == set(wanted.partitions):
            return reading
        return await self._runs.open(key, wanted.partitions, wanted.start_from)

    async def _seal(self, action: act.SealBatches) -> None:
        try:
            reading = await self._reading(action.job, action.stage)
            records = reading.log if isinstance(reading.log, StreamLog) else None  # files have no log
            if records is not None:
                await records.arrivals.settled(action.waits_s)
            bounds = _cut(reading, action)
            await reading.bounds.append(bounds, behind=None if records is None else records.sync)
        except WriteRefusedError as error:
            self._failed_to_seal(action, str(error))
            return
        except StoreError:
            raise
        except DrizzleError as error:
            self._failed_to_seal(action, str(error))
            return
        reading.take(bounds)
        for batch in range(action.first, action.last + 1):
            mine = tuple(bound for bound in bounds if bound.batch == batch)
            entries = {} if records is None else await _entries(records, reading, mine)
            self.offers.keep((action.job, action.stage), BatchId(batch), entries)
        place = (action.job, action.stage, action.first, action.last)
        sealed = ev.BatchesSealed(*place, bounds, reading.backlog, reading.ended)
        self._on_sealed(sealed)
        self.post(sealed)

    def _failed_to_seal(self, action: act.SealBatches, reason: str) -> None:
        log.warning(
            "a batch could not be sealed: it is tried again",
            extra={"job": action.job, "batch": action.first, "reason": reason},
        )
        self.post(ev.SealFailed(action.job, action.stage, action.first, reason))

    async def _trim(self, action: act.TrimInput) -> None:
        reading = self._runs.get(action.job, action.stage)
        if reading is None:
            return
        try:
            await self._runs.trim(reading, action.through, action.before)
        except WriteRefusedError as error:
            log.warning(
                "bounds could not be rewritten: the next checkpoint tries again",
                extra={"job": action.job, "reason": str(error)},
            )

    async def _release(self, action: act.ReleaseInput) -> None:
        for key in [key for key, wanted in self._wanted.items() if _of(wanted, action)]:
            del self._wanted[key]
        if await self._runs.release(action.job, action.born):
            self._tell("RunReleased", f"{action.job}@{action.born}", action.job)
        self.offers.forget_job(action.job)


def _of(wanted: act.OpenStream, action: act.ReleaseInput) -> bool:
    return wanted.job == action.job and wanted.born == action.born


def _cut(reading: Reading, action: act.SealBatches) -> tuple[Bounds, ...]:
    """Where each batch ends in each partition, as of now."""
    starts = {
        partition: reading.start(reading.local[partition]) if first is None else first
        for partition, first in action.firsts
    }
    bounds: list[Bounds] = []
    for batch in range(action.first, action.last + 1):
        for partition, start in starts.items():
            number = reading.local[partition]
            end = Offset(reading.log.cut(number, start, action.records_max, BATCH_BYTES_MAX))
            bounds.append(Bounds(BatchId(batch), partition, start, end))
            starts[partition] = end
    return tuple(bounds)


async def _entries(log: StreamLog, reading: Reading, bounds: tuple[Bounds, ...]) -> dict[PartitionId, bytes]:
    """The entries of each bound that may ride along, as the log encodes them."""
    found: dict[PartitionId, bytes] = {}
    for bound in bounds:
        if bound.records:
            try:
                entries = await log.read_encoded([reading.range_of(bound)], INLINE_OFFER_BYTES_MAX)
            except ProtocolError:
                continue  # more than may ride along: its worker pulls it
            found[bound.partition] = entries
    return found


def _unwired(event: Any) -> None:
    raise RuntimeError(f"{type(event).__name__} came before the driver was there")

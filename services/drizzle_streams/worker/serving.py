"""Blocks for other workers: the door through which they pull what was too large to ride along.

    GET /blocks?run=&job=&downstream=&stage=&partitions=&of=&wanted=&wanted_of=&first=&last=

Partitions are bit masks in hexadecimal; `of` and `wanted_of` say of how many. Where there are others here,
one of both has yet to hear that they were split or merged: nothing is held then. The answer (`bundles`)
holds the batches of the range that are here, oldest first, up to `SERVED_BYTES_MAX`; it says where to ask
on. None here is 404.

A fetch names the run of the job. An older generation of the same run may fetch: a block is the
same in every generation (law 4), and whoever asks may hear of the new one a moment later. Another
run's blocks are other data, so those are refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from drizzle_streams.core.actions import FetchBlocks
from drizzle_streams.core.arrivals import mask_of, partitions_of
from drizzle_streams.errors import ProtocolError, explain
from drizzle_streams.model.ids import BatchId, JobId, PartitionId, StageId
from drizzle_streams.model.job import JobSpec
from drizzle_streams.transport.base import NotFoundError
from drizzle_streams.worker.bench import Bench
from drizzle_streams.worker.blocks import ShareKey
from drizzle_streams.worker.bundles import Served, pack_answer
from drizzle_streams.worker.counters import Refusal
from drizzle_streams.worker.execution import encode_share
from drizzle_streams.worker.jobs import JobRun

BLOCKS_PATH = "/blocks"
SERVED_BYTES_MAX = 32 * 1024 * 1024
"""Bytes of blocks in one answer, unless the first batch alone is longer."""
ANSWER_BYTES_MAX = 256 * 1024 * 1024
"""The longest answer that a fetch takes: a single batch may be that long."""
BATCHES_MAX = 8_192
"""Batches in one question."""

NUMBER_DIGITS_MAX = 18
MASK_DIGITS_MAX = 1_024  # 4,096 partitions
HEX_DIGITS = frozenset("0123456789abcdef")


@dataclass(frozen=True, slots=True)
class Question:
    """What a fetch asks for."""

    run: str
    job: JobId
    stage: StageId
    key: ShareKey
    of: int
    wanted_of: int
    first: BatchId
    last: BatchId

    def fits(self, spec: JobSpec) -> bool:
        """Whether the job has such stages, and just as many partitions of them."""
        if not max(self.stage, self.key.downstream) < len(spec.stages):
            return False
        inside = max(self.key.partitions) < self.of and max(self.key.wanted) < self.wanted_of
        return (
            inside
            and max(self.key.partitions) < spec.stages[self.stage].partitions
            and self.wanted_of == spec.stages[self.key.downstream].partitions
        )


def question(spec: JobSpec, fetch: FetchBlocks, first: BatchId) -> dict[str, str]:
    """The parameters of a fetch, from batch `first` on."""
    return {
        "run": spec.run,
        "job": fetch.job,
        "downstream": str(fetch.downstream),
        "stage": str(fetch.stage),
        "partitions": f"{mask_of(fetch.partitions):x}",
        "of": str(spec.stage(fetch.stage).partitions),
        "wanted": f"{mask_of(fetch.wanted):x}",
        "wanted_of": str(spec.stage(fetch.downstream).partitions),
        "first": str(first),
        "last": str(fetch.last),
    }


class Serving:
    """Answers fetches from the block store; `jobs` is the performer's own table."""

    def __init__(self, bench: Bench, jobs: Mapping[JobId, JobRun]) -> None:
        self._bench = bench
        self._jobs = jobs

    async def fetch(self, params: Mapping[str, str]) -> bytes:
        """The handler of `BLOCKS_PATH`. Raises `ProtocolError` and `NotFoundError`; both are counted."""
        refused = self._bench.counters.fetches_refused
        try:
            asked = _question(params)
        except ProtocolError:
            refused[Refusal.GARBAGE] += 1
            raise
        job = self._jobs.get(asked.job)
        if job is not None and job.spec.run != asked.run:
            refused[Refusal.OTHER_RUN] += 1
            raise NotFoundError(_other_run(asked, job))
        served, following = ([], None) if job is None else await self._served(job, asked)
        if not served:
            refused[Refusal.NOT_HELD] += 1
            raise NotFoundError(_not_held(asked))
        return pack_answer(served, following)

    async def _served(self, job: JobRun, asked: Question) -> tuple[list[Served], BatchId | None]:
        """What is held of the range, and from where to ask on."""
        if not asked.fits(job.spec):
            return [], None
        blocks, served, size = self._bench.blocks, list[Served](), 0
        for batch in blocks.batches(asked.job, asked.stage, asked.first, asked.last):
            if size >= SERVED_BYTES_MAX:
                return served, batch
            share = await self._share(job, asked, batch)
            if share is not None:
                served.append(share)
                size += len(share.share)
        return served, None

    async def _share(self, job: JobRun, asked: Question, batch: BatchId) -> Served | None:
        """One batch: the share that lies ready, or else encoded now, in the background."""
        blocks = self._bench.blocks
        found = blocks.find(asked.job, asked.stage, batch, asked.key.partitions)
        if found is None:
            return None
        share = blocks.take_share(asked.job, asked.stage, batch, asked.key)
        if share is None:
            parts = [(part.block, part.partitions) for part in found.parts]
            stage = job.stages[asked.stage]
            share = await self._bench.threads.background(encode_share, stage, parts, asked.key)
        return Served(batch, found.sealed_at_ms, share)


def _question(params: Mapping[str, str]) -> Question:
    names = ("downstream", "stage", "of", "wanted_of", "first", "last")
    numbers = {name: number_of_text(params, name) for name in names}
    partitions, wanted = mask_of_text(params, "partitions"), mask_of_text(params, "wanted")
    first, last = BatchId(numbers["first"]), BatchId(numbers["last"])
    if not 0 <= last - first < BATCHES_MAX:
        raise _garbage("first, last", f"1 to {BATCHES_MAX} batches", f"{first} to {last}")
    return Question(
        run=params.get("run", ""),
        job=JobId(params.get("job", "")),
        stage=StageId(numbers["stage"]),
        key=ShareKey(StageId(numbers["downstream"]), partitions, wanted),
        of=numbers["of"],
        wanted_of=numbers["wanted_of"],
        first=first,
        last=last,
    )


def number_of_text(params: Mapping[str, str], name: str) -> int:
    """A decimal parameter; raises `ProtocolError`."""
    text = params.get(name, "")
    if not (text.isascii() and text.isdigit() and len(text) <= NUMBER_DIGITS_MAX):
        raise _garbage(name, "a decimal number", text)
    return int(text)


def mask_of_text(params: Mapping[str, str], name: str) -> tuple[PartitionId, ...]:
    """Partitions, one at least, from a bit mask in hexadecimal; raises `ProtocolError`."""
    text = params.get(name, "")
    if not (len(text) <= MASK_DIGITS_MAX and set(text) <= HEX_DIGITS and text.strip("0")):
        raise _garbage(name, "a bit mask in hexadecimal, not 0", text)
    return partitions_of(int(text, 16))


def _garbage(name: str, wanted: str, found: str) -> ProtocolError:
    remedy = "Only workers of a cluster ask here; all of them must run one release."
    return ProtocolError(explain(f"a fetch: {name}", wanted=wanted, found=repr(found[:40]), remedy=remedy))


def _not_held(asked: Question) -> str:
    return explain(
        f"blocks of job {asked.job[:100]!r}, stage {asked.stage}, batches {asked.first} to {asked.last}",
        wanted="blocks that were computed here and lie after the checkpoint",
        found="none",
        remedy="Whoever awaits them asks the coordinator who has them.",
    )


def _other_run(asked: Question, job: JobRun) -> str:
    return explain(
        f"blocks of job {asked.job[:100]!r}",
        wanted=f"a fetch of the run {job.spec.run}",
        found=f"one of {asked.run[:100]!r}",
        remedy="That run has ended; its fetch comes from a worker that has yet to hear of it.",
    )

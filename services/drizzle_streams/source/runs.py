"""The runs of jobs that read here: bounds on the disk, partitions by their local numbers, what is needed.

A run is one life of a job, from its submission to its end (`JobSpec.run`). It keeps one bounds
log per stage that reads a stream, named `{job}@{born}/{stage}/{stream}`, so that a start finds
out without asking anybody which batches of what were ever offered.

The cluster numbers a stream's partitions over all its sources, a log numbers its own from 0: the
i-th partition that a run reads here is the log's i-th. Bounds carry the cluster's numbers.

A log is trimmed to what the slowest of its runs still needs; a run that has committed nothing
yet needs everything.

A stream of files has no log: a `ChunkLog` stands for it, and its bounds log is named
`{job}@{born}/{stage}/{stream}/{chunks}/{of}`, which is all there is to know of it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from drizzle_streams.errors import CorruptError, explain
from drizzle_streams.model.bounds import Bounds
from drizzle_streams.model.ids import BatchId, Generation, JobId, Offset, PartitionId, StageId, StreamId
from drizzle_streams.source.boundslog import BoundsLog
from drizzle_streams.source.chunklog import ChunkLog
from drizzle_streams.source.log import StreamLog
from drizzle_streams.source.producers import Range
from drizzle_streams.source.streams import Streams

_NAME = re.compile(r"([^/@]+)@(\d+)/(\d+)/([^/]+)(?:/(\d+)/(\d+))?")


@dataclass(frozen=True, slots=True)
class RunKey:
    """A stage of a run that reads a stream; of files if it has `chunks`, for `of` partitions."""

    job: JobId
    born: Generation
    stage: StageId
    stream: StreamId
    chunks: int | None = None
    of: int = 0

    @property
    def name(self) -> JobId:
        """The name of its bounds log."""
        files = "" if self.chunks is None else f"/{self.chunks}/{self.of}"
        return JobId(f"{self.job}@{self.born}/{self.stage}/{self.stream}{files}")

    @classmethod
    def parse(cls, name: str) -> RunKey:
        """The reverse of `name`. Raises `CorruptError`."""
        found = _NAME.fullmatch(name)
        if found is None:
            raise CorruptError(
                explain(
                    f"bounds log {name!r}",
                    wanted="the bounds of a run: job@born/stage/stream",
                    found="another name",
                    remedy="Start the release that wrote it, or remove it from the source's directory.",
                )
            )
        job, born, stage, stream, chunks, of = found.groups()
        key = cls(JobId(job), Generation(int(born)), StageId(int(stage)), StreamId(stream))
        return key if chunks is None else replace(key, chunks=int(chunks), of=int(of))


@dataclass(slots=True)
class Reading:
    """What a run reads here; offsets by the log's own partition numbers.

    `needs` is the oldest offset it may ask for again (absent: all there is), `ends` where its last
    batch ended, `starts` where its first one begins (absent: the log's first offset).
    """

    key: RunKey
    log: StreamLog | ChunkLog
    bounds: BoundsLog
    local: dict[PartitionId, int] = field(default_factory=dict[PartitionId, int])
    needs: dict[int, Offset] = field(default_factory=dict[int, Offset])
    ends: dict[int, Offset] = field(default_factory=dict[int, Offset])
    starts: dict[int, Offset] = field(default_factory=dict[int, Offset])

    def number(self, partitions: Sequence[PartitionId]) -> None:
        """Take the cluster's numbers of this source's partitions. Raises `CorruptError`."""
        if len(partitions) > self.log.partitions:
            raise CorruptError(
                explain(
                    f"stream {self.key.stream} for job {self.key.job}",
                    wanted=f"a log of {len(partitions)} partitions, as the job was laid out",
                    found=f"one of {self.log.partitions}",
                    remedy="Give the source the directory it had when the job was submitted.",
                )
            )
        self.local = {partition: number for number, partition in enumerate(sorted(partitions))}

    def take(self, bounds: Iterable[Bounds]) -> None:
        """Bounds are on the disk: the log must have what they name. Raises `CorruptError`."""
        for bound in bounds:
            number = self.local[bound.partition]
            self.ends[number] = max(self.ends.get(number, bound.end), bound.end)
            if bound.end > self.log.end_offset(number):
                raise CorruptError(
                    explain(
                        f"partition {number} of stream {self.key.stream}",
                        wanted=f"records up to {bound.end}, which job {self.key.job} was offered",
                        found=f"{self.log.end_offset(number)} of them",
                        remedy="The disk lost what was offered: restore it, or begin job and log anew.",
                    )
                )

    def range_of(self, bound: Bounds) -> Range:
        """Where the records of a bound lie in the log."""
        return Range(self.local[bound.partition], bound.first, bound.end)

    def start(self, number: int) -> Offset:
        """Where the run's first batch begins in a partition of the log."""
        return self.starts.get(number, Offset(self.log.first_offset(number)))

    def skip_what_is_there(self) -> None:
        """Begin with what comes from now on."""
        numbers = self.local.values()
        self.starts = {number: Offset(self.log.end_offset(number)) for number in numbers}

    @property
    def ended(self) -> bool:
        """Whether sealed batches hold all input that there will ever be."""
        return isinstance(self.log, ChunkLog) and not self.backlog

    @property
    def backlog(self) -> int:
        """Records behind the last sealed batch; of files it is chunks."""
        return sum(
            self.log.end_offset(number) - self.ends.get(number, self.start(number))
            for number in self.local.values()
        )


class Runs:
    """All that is read here, by job and stage; a job has one run at a time."""

    def __init__(self, streams: Streams) -> None:
        self._streams = streams
        self._readings: dict[tuple[JobId, StageId], Reading] = {}

    def __iter__(self) -> Iterator[Reading]:
        return iter(list(self._readings.values()))

    def get(self, job: JobId, stage: StageId) -> Reading | None:
        """What that stage of the job's present run reads."""
        return self._readings.get((job, stage))

    async def recover(self) -> list[Reading]:
        """Open every run found on the disk; older runs of a job were over, and are removed.

        Raises `CorruptError` when a log lacks what was offered from it.
        """
        keys = [RunKey.parse(name) for name in await self._streams.stored_jobs()]
        newest = {job: max(key.born for key in keys if key.job == job) for job in {key.job for key in keys}}
        for key in keys:
            bounds = await self._streams.open_bounds(key.name)
            if key.born < newest[key.job] or not bounds.bounds:
                await bounds.delete()
                continue
            partitions = sorted({bound.partition for bound in bounds.bounds})
            reading = Reading(key, await self._log(key, partitions), bounds)
            reading.number(partitions)
            reading.take(bounds.bounds)
            for bound in reversed(bounds.bounds):
                reading.needs[reading.local[bound.partition]] = bound.first
            self._readings[key.job, key.stage] = reading
        return list(self._readings.values())

    async def open(self, key: RunKey, partitions: Sequence[PartitionId], start_from: str) -> Reading:
        """What a stage of a run reads, opened if it is not; `start_from` is the job's.

        Raises `StoreError`, and `ProtocolError` or `BackPressureError` for a stream that cannot be.
        """
        reading = self._readings.get((key.job, key.stage))
        fresh = reading is None or reading.key != key
        if reading is None or fresh:
            log = await self._log(key, partitions)
            reading = Reading(key, log, await self._streams.open_bounds(key.name))
        reading.number(partitions)
        reading.take(reading.bounds.bounds)
        live = isinstance(reading.log, StreamLog)
        if fresh and live and start_from == "latest" and not reading.bounds.bounds:
            reading.skip_what_is_there()
        self._readings[key.job, key.stage] = reading
        return reading

    async def _log(self, key: RunKey, partitions: Sequence[PartitionId]) -> StreamLog | ChunkLog:
        if key.chunks is None:
            return await self._streams.create(key.stream)
        return ChunkLog(partitions, key.of, key.chunks)

    async def trim(
        self, reading: Reading, through: BatchId, before: Iterable[tuple[PartitionId, Offset]]
    ) -> None:
        """A checkpoint: the run needs no bounds up to `through` and no records before the offsets."""
        for partition, offset in before:
            number = reading.local[partition]
            reading.needs[number] = max(reading.needs.get(number, offset), offset)
        await reading.bounds.trim(BatchId(through + 1))
        sharing = [other for other in self._readings.values() if other.log is reading.log]
        needed = {
            number: min(other.needs[number] for other in sharing)
            for number in range(reading.log.partitions)
            if all(number in other.needs for other in sharing)
        }
        await reading.log.trim(needed)

    async def release(self, job: JobId, born: Generation) -> bool:
        """That run has ended: so have its bounds. False if it is not known."""
        over = [r for r in self._readings.values() if r.key.job == job and r.key.born == born]
        for reading in over:
            del self._readings[job, reading.key.stage]
            await reading.bounds.delete()
        return bool(over)

    async def close(self) -> None:
        """Let the bounds files go; before the streams are closed."""
        for reading in self._readings.values():
            await reading.bounds.close()
        self._readings.clear()

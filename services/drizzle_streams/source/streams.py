"""All that a source keeps on its disk: a log per stream, and the bounds of each job.

    lock                   held while a process uses the directory
    streams/<name>/…       one `StreamLog`
    jobs/<name>.bounds     one `BoundsLog`

Names are checked and escaped before they become file names. Streams come into being
when somebody posts to them or a job reads them; their number is bounded.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import re
from collections.abc import Iterator
from pathlib import Path

from drizzle_streams.errors import BackPressureError, ConfigError, ProtocolError, explain
from drizzle_streams.model.ids import JobId
from drizzle_streams.source.boundslog import BoundsLog, stored_jobs
from drizzle_streams.source.commit import FailureHandler
from drizzle_streams.source.durability import Disk
from drizzle_streams.source.files import file_name
from drizzle_streams.source.log import AppendedHandler, LogSettings, StreamLog
from drizzle_streams.source.segments import read_head, segment_paths

STREAMS_MAX = 256
"""Streams on one source; a further one is refused."""
NAME_CHARS_MAX = 64

_NAME = re.compile(rf"[A-Za-z0-9][A-Za-z0-9._-]{{0,{NAME_CHARS_MAX - 1}}}")


class Streams:
    """The logs under one directory. Make it with `open`; used on one event loop."""

    def __init__(
        self,
        directory: Path,
        settings: LogSettings,
        lock: int,
        *,
        on_appended: AppendedHandler,
        on_failure: FailureHandler,
    ) -> None:
        self._directory = directory
        self._settings = settings
        self._lock: int | None = lock
        self._disk = Disk()
        self._logs: dict[str, StreamLog] = {}
        self._opening = asyncio.Lock()
        self.on_appended = on_appended
        """Called with (stream, partition, end offset) after records were written."""
        self.on_failure = on_failure
        """Called when a log can write no more: the service must stop."""

    @classmethod
    async def open(
        cls,
        directory: Path,
        settings: LogSettings,
        *,
        on_appended: AppendedHandler,
        on_failure: FailureHandler,
    ) -> Streams:
        """Recover every log in `directory`, which is made if need be.

        Raises `ConfigError` (cannot be used, used by another process) and `CorruptError`.
        """
        lock = _lock(directory)
        streams = cls(directory, settings, lock, on_appended=on_appended, on_failure=on_failure)
        try:
            for name in await streams._disk.read(_stored_streams, directory / "streams"):
                await streams._open(name)
        except BaseException:
            await streams.close()
            raise
        return streams

    def __iter__(self) -> Iterator[StreamLog]:
        return iter(sorted(self._logs.values(), key=lambda log: log.stream))

    def get(self, stream: str) -> StreamLog | None:
        """The log of a stream, or None when there is no such stream."""
        return self._logs.get(stream)

    async def create(self, stream: str) -> StreamLog:
        """The log of a stream, made if need be.

        Raises `ProtocolError` for a name that cannot be, `BackPressureError` at `STREAMS_MAX`.
        """
        if not _NAME.fullmatch(stream):
            raise ProtocolError(
                explain(
                    "stream name",
                    wanted=f"1 to {NAME_CHARS_MAX} letters, digits, '.', '_' or '-', a letter or digit first",
                    found=repr(stream[:100]),
                    remedy="Choose another name.",
                )
            )
        async with self._opening:
            if (log := self._logs.get(stream)) is not None:
                return log
            if len(self._logs) >= STREAMS_MAX:
                raise BackPressureError(
                    explain(
                        f"stream {stream}",
                        wanted=f"at most {STREAMS_MAX} streams on a source",
                        found="as many",
                        remedy="Add a source, or stop this one and remove folders of streams not needed.",
                    )
                )
            return await self._open(stream)

    async def stored_jobs(self) -> list[JobId]:
        """The jobs whose bounds are kept here."""
        return await self._disk.read(stored_jobs, self._directory / "jobs")

    async def open_bounds(self, job: JobId) -> BoundsLog:
        """The bounds of a job, kept from before or new. Whoever opens it closes it."""
        return await BoundsLog.open(self._directory / "jobs", job, self._settings.durability, self._disk)

    async def close(self) -> None:
        """Answer the posts that wait, let all files go, end the threads. Close bounds before."""
        for log in self._logs.values():
            await log.close()
        self._logs.clear()
        self._disk.close()
        lock, self._lock = self._lock, None
        if lock is not None:
            os.close(lock)

    async def _open(self, stream: str) -> StreamLog:
        log = await StreamLog.open(
            self._directory / "streams" / file_name(stream),
            stream,
            self._settings,
            self._disk,
            on_appended=self._appended,
            on_failure=self._failed,
        )
        self._logs[stream] = log
        return log

    def _appended(self, stream: str, partition: int, end: int) -> None:
        self.on_appended(stream, partition, end)

    def _failed(self, error: BaseException) -> None:
        self.on_failure(error)


def _stored_streams(directory: Path) -> list[str]:
    """Names of the streams in `directory`; a folder without a segment was never finished."""
    folders = sorted(directory.iterdir()) if directory.exists() else []
    firsts = [paths[0] for folder in folders if (paths := segment_paths(folder))]
    return [read_head(path)[0].stream for path in firsts]


def _lock(directory: Path) -> int:
    """Make `directory` ours until the returned descriptor is closed, or the process ends."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise _unusable(
            directory, error.strerror or str(error), "Name one that this user may write."
        ) from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(descriptor)
        raise _unusable(
            directory, "one that another process uses", "Stop the other source, or name another directory."
        ) from error
    return descriptor


def _unusable(directory: Path, found: str, remedy: str) -> ConfigError:
    return ConfigError(
        explain(f"log directory {directory}", wanted="a directory of one's own", found=found, remedy=remedy)
    )

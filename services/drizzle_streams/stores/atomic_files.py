"""Files that are whole after any crash, and the thread and the lock to write them under.

Rules:

- A file is replaced whole: written beside, synced, renamed, the directory synced. So it is
  the old or the new one after any crash, and what returned is on the disk.
- Processes exclude each other with flock(2) on a lock file, held only for a read-check-replace.
- One thread per store does all file work: the event loop never blocks, and operations take
  effect in the order of the calls even if a caller is cancelled.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import ParamSpec, TypeVar

from drizzle_streams.errors import StoreError, explain
from drizzle_streams.stores import base

LOCK_WAIT_S = 10.0
"""For the other process's read-check-replace, which takes milliseconds."""

LEFTOVER_AGE_S = 600.0
"""A file written beside and never renamed for so long belongs to a process that died."""

_LOCK_POLL_S = 0.002

P = ParamSpec("P")
T = TypeVar("T")


class FileThread:
    """The one thread that does a store's file work, in order."""

    def __init__(self, thing: str) -> None:
        self._thing = thing
        self._thread: ThreadPoolExecutor | None = None

    def open(self) -> None:
        if self._thread is None:
            self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="drizzle-files")

    async def close(self) -> None:
        thread, self._thread = self._thread, None
        if thread is not None:
            await asyncio.to_thread(thread.shutdown)

    async def run(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call it in the thread; an OSError becomes a StoreError that names the store."""
        if self._thread is None:
            raise base.closed(self._thing)
        call = self._thread.submit(function, *args, **kwargs)
        try:
            return await asyncio.wrap_future(call)
        except OSError as error:
            raise StoreError(
                explain(
                    self._thing,
                    wanted="a directory that can be read and written",
                    found=str(error),
                    remedy="Free the disk or correct the permissions.",
                )
            ) from error


def write_beside(folder: Path, content: bytes) -> Path:
    """A synced file with a name of its own."""
    path = folder / f"{uuid.uuid4().hex}.tmp"
    with path.open("xb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    return path


def replace(path: Path, content: bytes) -> None:
    """Put a file in the place of the old one; durable once its directory is synced."""
    write_beside(path.parent, content).replace(path)


def sync_directory(directory: Path) -> None:
    """Make renames in it survive a power failure."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Exclude other stores on the directory; StoreError after `LOCK_WAIT_S`."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        deadline = time.monotonic() + LOCK_WAIT_S
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise _lock_timeout(path) from None
                time.sleep(_LOCK_POLL_S)  # flock has no timeout; this is the store's own thread
        yield
    finally:
        os.close(descriptor)


def sweep(directory: Path) -> None:
    """Remove what crashed writers left in the directory and its folders."""
    oldest = time.time() - LEFTOVER_AGE_S
    for path in directory.rglob("*.tmp"):
        with suppress(FileNotFoundError):  # its writer lives and has just renamed it
            if path.stat().st_mtime < oldest:
                path.unlink()


def _lock_timeout(path: Path) -> StoreError:
    return StoreError(
        explain(
            f"Lock {path}",
            wanted=f"free within {LOCK_WAIT_S:g} s",
            found="another process holding it",
            remedy="Find the process that hangs (fuser, lsof) and end it.",
        )
    )

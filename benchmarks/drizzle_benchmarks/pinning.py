"""A benchmark and all that it starts on so many cores only: the kernel's word for it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def pinned(cores: int) -> Iterator[None]:
    """This process and all that it starts run on so many cores only."""
    before = os.sched_getaffinity(0)
    _pin(set(sorted(before)[:cores]))
    try:
        yield
    finally:
        _pin(before)


def _pin(cores: set[int]) -> None:
    """Of a process's threads each has its own affinity, and hands it on to what it starts."""
    for thread in Path("/proc/self/task").iterdir():
        try:
            os.sched_setaffinity(int(thread.name), cores)
        except ProcessLookupError:
            continue  # it ended meanwhile

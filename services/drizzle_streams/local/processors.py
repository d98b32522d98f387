"""Which processors each worker of a local cluster runs on: neighbours keep out of each other's way.

A worker wakes and sleeps hundreds of times a second: its event loop hands frames to its task threads
and takes results back. Left alone, the kernel wakes those threads wherever it finds room, so workers
that compute at the same moment, as all do when a batch is sealed, land on each other's processors and
wait there. With a share of the processors for each they do not; `docs/design/performance.md` has the
figures. Rules:

- Shares are even and only exist while there is a whole processor for each worker; with more workers
  than processors they run anywhere, since then a fixed place would be an unfair one.
- Only workers have shares: everything else runs wherever there is room.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from itertools import pairwise
from pathlib import Path


def shares(available: Sequence[int], workers: int) -> list[frozenset[int]]:
    """The processors of each of so many workers; all of them for each where they are too few to share."""
    processors = sorted(available)
    if workers > len(processors):
        return [frozenset(processors)] * workers
    cuts = [number * len(processors) // workers for number in range(workers + 1)] if workers else []
    return [frozenset(processors[low:high]) for low, high in pairwise(cuts)]


def ours() -> list[int]:
    """The processors that this process may run on; none where the system does not say (macOS)."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []


def confine(pid: int, processors: frozenset[int]) -> None:
    """Have a process and all its threads run there and nowhere else. Does nothing for one that has ended."""
    if not processors:
        return
    try:
        threads = [int(thread.name) for thread in Path(f"/proc/{pid}/task").iterdir()]
    except FileNotFoundError:
        return  # its next life is confined when it starts
    for thread in threads:
        with suppress(ProcessLookupError):  # that thread ended meanwhile
            os.sched_setaffinity(thread, processors)

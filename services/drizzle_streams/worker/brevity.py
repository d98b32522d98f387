"""Which tasks are so short that a thread of its own would cost a batch more than it spares others.

A thread has to be woken, and to wait for the interpreter, which is its when the event loop rests; then the
event loop is woken. That is 0.7 ms of the ten that a batch takes (`docs/design/performance.md`), so a
task of a millisecond or two is computed on the event loop, when its turn is over. Only where nobody can be
kept waiting for long:

- the stage's tasks were short of late: their slowest counts, and is forgotten by and by;
- there is little to read, whatever went before: after a backlog batches are large;
- it reads no files, and calls no function of the user's, which may wait for anything: a worker whose event
  loop waits is taken for lost, and so is who takes over from it;
- nothing else computes on this worker (`Threads.idle`): neither another task, nor a merge of large state,
  which may hold Polars' threads for a second, and with them the loop.
"""

from __future__ import annotations

from drizzle_streams.engine.execute import Block
from drizzle_streams.worker.blocks import block_bytes
from drizzle_streams.worker.execution import Work
from drizzle_streams.worker.programs import LoadedStage

SHORT_S = 0.005
"""A task that takes longer has a thread: so long others on the event loop wait without harm."""

INPUT_BYTES_MAX = 256 * 1024
"""What a short task reads at most; of the smallest records that is some ten thousand rows."""

UNKNOWN_S = 0.1
"""What a stage's tasks are taken to last before there were any: its first thirty have a thread."""

REMEMBERED = 0.9
"""Of the slowest task, with each one after it."""


class Brevity:
    """How long the tasks of one stage took of late, on one worker."""

    def __init__(self) -> None:
        self._slowest_s = UNKNOWN_S

    def took(self, seconds: float) -> None:
        """A task has ended."""
        self._slowest_s = max(seconds, self._slowest_s * REMEMBERED)

    def holds_for(self, work: Work) -> bool:
        """Whether that task is likely to be short, and cannot wait for anybody."""
        return self._slowest_s <= SHORT_S and _waits_for_none(work.stage) and _is_small(work)


def _waits_for_none(stage: LoadedStage) -> bool:
    program = stage.program
    return not program.calls_python and (program.read is None or program.read.files is None)


def _is_small(work: Work) -> bool:
    entries = sum(len(entry.payload) for entry in work.entries)
    return entries + sum(_bytes(one.block) for one in work.blocks) <= INPUT_BYTES_MAX


def _bytes(block: Block | bytes) -> int:
    return len(block) if isinstance(block, bytes) else block_bytes(block)

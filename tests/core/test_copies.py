"""What is kept for a copy of another worker's task: its input, while it can still be computed."""

from __future__ import annotations

from drizzle_streams.core.actions import INPUT, Fragment
from drizzle_streams.core.copies import CopyTask, CopyTasks
from drizzle_streams.model.ids import BatchId, JobId, NodeId, PartitionId, StageId

STAGE = StageId(0)


def fragment(batch: int) -> Fragment:
    partitions = (PartitionId(1),)
    return Fragment(JobId("j"), STAGE, INPUT, BatchId(batch), NodeId("source-1"), partitions, partitions)


def test_a_copy_whose_input_cannot_be_pulled_keeps_nothing() -> None:
    """Else every later batch's input would be kept with it, until the next generation."""
    copies = CopyTasks()
    assert copies.offer(CopyTask(fragment(24), 0.0, here=False))
    assert copies.offer(CopyTask(fragment(25), 0.0, here=True))
    assert copies.keeps_from(STAGE) == 24
    copies.lost(fragment(24))
    copies.lost(fragment(25))
    copies.lost(fragment(26))
    assert copies.keeps_from(STAGE) == 25, "what is here already does not need the pull that failed"

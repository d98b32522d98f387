"""The repair path (section 3.3): a task waited too long, and whoever owes it something says it again."""

from __future__ import annotations

from drizzle_streams.core import actions as act
from drizzle_streams.core.coordinator_job import CoordinatorJob
from drizzle_streams.core.machine import Effects
from drizzle_streams.core.story import Story
from drizzle_streams.model.ids import NodeId, PartitionId
from drizzle_streams.protocol import messages as msg
from drizzle_streams.protocol import parts


def answer_overdue(job: CoordinatorJob, ask: msg.Overdue, story: Story, now: float, out: Effects) -> None:
    """Say to everyone who owes blocks or input to announce them again."""
    if ask.generation != job.generation:
        return
    for missing in ask.missing:
        for owner, partitions in _owing(job, ask, missing).items():
            again = msg.Reannounce(
                job.spec.job,
                job.generation,
                ask.stage if missing.stage == act.INPUT else missing.stage,
                tuple(partitions),
                ask.batch,
                ask.worker,
            )
            out.send(owner, again)
        text = f"{ask.worker} awaits stage {missing.stage} for batch {ask.batch} of stage {ask.stage}"
        story.tell(now, "TaskOverdue", text, job.spec.job)


def _owing(job: CoordinatorJob, ask: msg.Overdue, missing: parts.Missing) -> dict[NodeId, list[PartitionId]]:
    owing: dict[NodeId, list[PartitionId]] = {}
    if missing.stage == act.INPUT:
        stream = job.spec.stage(ask.stage).stream
        layout = next(layout for layout in job.layouts if layout.stream == stream)
        for partition in missing.partitions:
            owing.setdefault(NodeId(layout.owners[partition]), []).append(partition)
    else:
        for partition in missing.partitions:
            owner = job.placement.owner(missing.stage, partition)
            owing.setdefault(NodeId(owner), []).append(partition)
    return owing

"""What a worker holds back as a range is told whole, also where the next batch is launched stage by stage."""

from __future__ import annotations

from drizzle_streams.core import actions as act
from drizzle_streams.core.events import Received, TaskFinished
from drizzle_streams.core.machine import Effects
from drizzle_streams.core.worker import Worker
from drizzle_streams.core.worker_slots import WorkerSettings
from drizzle_streams.model.bounds import Bounds
from drizzle_streams.model.ids import (
    COORDINATOR,
    BatchId,
    Generation,
    GroupId,
    JobId,
    NodeId,
    Offset,
    PartitionId,
    SourceId,
    StageId,
    StreamId,
    WorkerId,
)
from drizzle_streams.model.job import JobSpec, Scheduling, StageSpec
from drizzle_streams.model.placement import Placement, StreamLayout
from drizzle_streams.protocol import messages as msg
from drizzle_streams.protocol import parts

ME, OTHER, SOURCE = WorkerId("worker-1"), WorkerId("worker-2"), SourceId("source-1")
ONE, P0, FIRST = Generation(1), PartitionId(0), BatchId(0)
READS, LAST = StageId(0), StageId(1)
SPEC = JobSpec(
    JobId("j"),
    (StageSpec(READS, 1, stream=StreamId("s")), StageSpec(LAST, 1, inputs=(READS,))),
    50.0,
    scheduling=Scheduling.BARRIER,
)


def hear(worker: Worker, sender: NodeId, message: msg.Message, out: Effects) -> None:
    worker.handle(Received(sender, message, carried=True), 1.0, out)


def behind(through: int) -> tuple[Worker, Effects]:
    """Input of batches 0 to 3 is here; up to `through` they were launched at once, 3 by itself."""
    worker, out = Worker(WorkerSettings(ME, "")), Effects()
    adopted = (parts.Adoption(READS, (P0,), FIRST, (), (), ()),)
    placement, layout = Placement(((ME,), (OTHER,))), StreamLayout(StreamId("s"), (SOURCE,))
    needed = ((FIRST,), (FIRST,))
    launched = msg.Launch(SPEC.job, ONE, GroupId(0), FIRST, BatchId(through), 0.0, 50.0, 10)
    for message in (
        msg.Welcome(ONE, 60_000),
        msg.Assign(SPEC, ONE, (layout,), placement, needed, BatchId(-1), adopted),
        launched,
        msg.LaunchStage(SPEC.job, ONE, READS, BatchId(3), 10, ()),
    ):
        hear(worker, COORDINATOR, message, out)
    for batch in range(4):
        bounds = (Bounds(BatchId(batch), P0, Offset(batch), Offset(batch + 1)),)
        offer = msg.Offer(SPEC.job, ONE, SOURCE, READS, BatchId(batch), (1_000.0,), bounds)
        hear(worker, NodeId(SOURCE), offer, out)
    worker.jobs[SPEC.job].loaded = True
    worker.settle(1.0, out)
    return worker, out


def test_no_range_goes_on_into_what_is_not_announced() -> None:
    worker, out = behind(through=2)
    done = 0
    while done < len([start for start in out.starts if isinstance(start, act.RunTask)]):
        task = [start for start in out.starts if isinstance(start, act.RunTask)][done]
        worker.handle(TaskFinished(task.key), 1.0, out)
        done += 1
    told = [(m.first, m.last) for _, m, _ in out.messages if isinstance(m, msg.BlocksReady)]
    assert done == 4
    assert told == [(0, 2)], "3 is announced by who launches it"

"""What can run is looked at once per envelope, when its last message is heard."""

from __future__ import annotations

import pytest

from drizzle_streams.core import actions as act
from drizzle_streams.core.events import EnvelopeArrived
from drizzle_streams.core.node import Node
from drizzle_streams.core.worker import Worker
from drizzle_streams.core.worker_slots import WorkerSettings
from drizzle_streams.model.ids import (
    COORDINATOR,
    NO_BATCH,
    BatchId,
    Generation,
    GroupId,
    JobId,
    NodeId,
    PartitionId,
    StageId,
    StreamId,
    WorkerId,
)
from drizzle_streams.model.job import JobSpec, StageSpec
from drizzle_streams.model.placement import Placement
from drizzle_streams.protocol import messages as msg
from drizzle_streams.protocol import parts
from drizzle_streams.worker.gate import Gate

JOB, ME, NOBODY = JobId("j"), WorkerId("me"), PartitionId(99)
ABOVE = tuple(WorkerId(f"above-{n}") for n in range(4))
SPEC = JobSpec(
    JOB,
    (
        StageSpec(StageId(0), len(ABOVE), stream=StreamId("s")),
        StageSpec(StageId(1), 1, inputs=(StageId(0),)),
    ),
)


def blocks(partition: int, sender: WorkerId) -> msg.BlocksReady:
    zero = BatchId(0)
    return msg.BlocksReady(
        JOB,
        Generation(1),
        sender,
        StageId(0),
        (PartitionId(partition),),
        StageId(1),
        (PartitionId(0),),
        zero,
        zero,
        (0.0,),
    )


class Hearer:
    """A worker that reduces what four others read; counts how often it looks at what can run."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.looked = 0
        look = Worker.settle

        def settle(worker: Worker, now: float, out: object) -> None:
            self.looked += 1
            look(worker, now, out)  # type: ignore[arg-type]

        monkeypatch.setattr(Worker, "settle", settle)
        role = Gate(Worker(WorkerSettings(ME, "")))
        self.node = Node(NodeId(ME), 1, role)
        adoption = parts.Adoption(StageId(1), (PartitionId(0),), BatchId(0), (), (), ())
        needed = ((BatchId(0),) * len(ABOVE), (BatchId(0),))
        placement = Placement((ABOVE, (ME,)))
        assign = msg.Assign(SPEC, Generation(1), (), placement, needed, NO_BATCH, (adoption,))
        launch = msg.Launch(JOB, Generation(1), GroupId(0), BatchId(0), BatchId(9), 0.0, 50.0, 10)
        self.hear(COORDINATOR, assign, launch)
        role._role.jobs[JOB].loaded = True
        self.looked = 0

    def hear(self, sender: NodeId, *messages: msg.Message) -> list[act.RunTask]:
        items = tuple(msg.Item(number, message) for number, message in enumerate(messages, 1))
        envelope = msg.Envelope(sender, 1, 1, 0, 0, 0, items)
        actions = self.node.handle(EnvelopeArrived(envelope, (True,) * len(items)), 1.0)
        return [start for start in actions.start if isinstance(start, act.RunTask)]


def test_a_worker_looks_once_for_all_messages_of_an_envelope(monkeypatch: pytest.MonkeyPatch) -> None:
    hearer = Hearer(monkeypatch)
    tasks = hearer.hear(NodeId(ABOVE[0]), *(blocks(n, ABOVE[0]) for n in range(len(ABOVE))))
    assert [task.key.batch for task in tasks] == [0]
    assert hearer.looked == 1


def test_it_looks_though_the_last_message_is_turned_away(monkeypatch: pytest.MonkeyPatch) -> None:
    hearer = Hearer(monkeypatch)
    right = [blocks(n, ABOVE[0]) for n in range(len(ABOVE))]
    tasks = hearer.hear(NodeId(ABOVE[0]), *right, blocks(NOBODY, ABOVE[0]))
    assert [task.key.batch for task in tasks] == [0], "what came before it waits for nothing"

"""How often the coordinator looks at all of its members: soon after anything, not after everything."""

from __future__ import annotations

import pytest

from drizzle_streams.core.coordinator import SETTLE_INTERVAL_S, Coordinator, CoordinatorSettings
from drizzle_streams.core.events import NodeExited, Received
from drizzle_streams.core.machine import Effects
from drizzle_streams.model.ids import Generation, NodeId, WorkerId
from drizzle_streams.protocol import messages as msg

WORKERS = [f"w{number}" for number in range(20)]


class Looking(Coordinator):
    """Counts the looks."""

    looks = 0

    def _judge(self, now: float) -> None:
        self.looks += 1
        super()._judge(now)


@pytest.fixture
def coordinator() -> Looking:
    role = Looking(CoordinatorSettings(), Generation(1), {}, 0.0)
    for name in WORKERS:
        hello = msg.WorkerHello(WorkerId(name), f"http://{name}", 1, (), leaving=False)
        role.handle(Received(NodeId(name), hello, carried=False), 0.0, Effects())
    role.looks = 0
    return role


def beat(role: Looking, name: str, now: float) -> None:
    role.handle(Received(NodeId(name), msg.Heartbeat(NodeId(name), 0.1, 0.0), carried=False), now, Effects())


def test_the_routine_of_many_is_one_look_and_that_one_comes(coordinator: Looking) -> None:
    for number, name in enumerate(WORKERS):
        beat(coordinator, name, 0.001 * number)
    assert coordinator.looks == 0
    assert coordinator.next_deadline() == SETTLE_INTERVAL_S
    coordinator.on_deadline(SETTLE_INTERVAL_S, Effects())
    assert coordinator.looks == 1
    assert coordinator.next_deadline() != SETTLE_INTERVAL_S, "without routine there is nothing to look at"


def test_what_is_no_routine_is_looked_at_at_once(coordinator: Looking) -> None:
    beat(coordinator, "w0", 0.001)
    coordinator.handle(NodeExited(NodeId("w1")), 0.002, Effects())
    assert coordinator.looks == 1

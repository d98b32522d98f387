"""A warning where the loss of a worker could not be made up for: above (N-1)/N."""

from __future__ import annotations

import pytest

from drizzle_streams.core.coordinator import Coordinator, CoordinatorSettings
from drizzle_streams.core.events import Received
from drizzle_streams.core.headroom import headroom, is_short
from drizzle_streams.core.machine import Effects
from drizzle_streams.core.membership import Member
from drizzle_streams.model.ids import Generation, NodeId, WorkerId
from drizzle_streams.protocol import messages as msg


def workers(*loads: float, slots: tuple[int, ...] = ()) -> list[Member]:
    sizes = slots or (1,) * len(loads)
    return [
        Member(NodeId(f"w{i}"), "", is_worker=True, size=size, expires=0.0, load=load)
        for i, (load, size) in enumerate(zip(loads, sizes, strict=True))
    ]


@pytest.mark.parametrize("count", [2, 3, 4, 8])
def test_the_limit_of_equal_workers_is_that_of_the_paper(count: int) -> None:
    found = headroom(workers(*[0.5] * count))
    assert found is not None
    assert found.limit == pytest.approx((count - 1) / count)
    assert found.utilisation == pytest.approx(0.5)


def test_the_largest_worker_counts() -> None:
    found = headroom(workers(0.2, 0.6, slots=(1, 3)))
    assert found is not None
    assert found.limit == pytest.approx(0.25)
    assert found.utilisation == pytest.approx(0.5)
    assert is_short(found, before=False)


@pytest.mark.parametrize("loads", [(), (1.0,)])
def test_who_has_nobody_beside_is_not_warned_about_it(loads: tuple[float, ...]) -> None:
    assert headroom(workers(*loads)) is None
    assert not is_short(None, before=True)


def test_it_takes_a_margin_to_take_the_warning_back() -> None:
    close = headroom(workers(0.49, 0.49))
    assert not is_short(close, before=False)
    assert is_short(close, before=True)
    assert not is_short(headroom(workers(0.4, 0.4)), before=True)


def test_the_coordinator_warns_once_and_says_when_it_is_over() -> None:
    role, out, now = Coordinator(CoordinatorSettings(), Generation(1), {}, 0.0), Effects(), 0.0
    for name in ("w1", "w2"):
        hello = msg.WorkerHello(WorkerId(name), "", 1, (), leaving=False)
        role.handle(Received(NodeId(name), hello, carried=False), now, out)
    for busy in (0.9, 0.1):
        for _ in range(50):
            now += 0.4
            for name in ("w1", "w2"):
                beat = msg.Heartbeat(NodeId(name), busy)
                role.handle(Received(NodeId(name), beat, carried=False), now, out)
    kinds = [line.kind for line in role.story.lines if line.kind.startswith("Headroom")]
    assert kinds == ["HeadroomLost", "HeadroomRegained"]
    assert not role.short_of_workers

"""What a worker shows of what it holds, as it takes partitions on and gives them up."""

from __future__ import annotations

from drizzle_streams.core import actions as act
from drizzle_streams.core.node import Node
from drizzle_streams.runtime.driver import Driver
from drizzle_streams.worker.gate import Gate
from drizzle_streams.worker.watching import Watching
from tests.worker.conftest import World
from tests.worker.worker_worlds import COHORT, JOB, REDUCE, Hand, metric, partitions, piece

ALL = partitions(0, 1, 2, 3)


def watching(hand: Hand) -> Watching:
    """The readings of a worker, as a life makes them."""
    gate = Gate(hand.role)
    node = Node(hand.node, 1, gate)
    driver = Driver(node, hand.bench.clock, hand.transport, hand.performer)
    return Watching(hand.registry, gate, hand.performer, driver)


async def test_state_that_moved_away_is_not_shown_for_ever(world: World) -> None:
    hand = await world.hand("a")
    shows = watching(hand)
    await hand.open(ALL)
    await hand.map(0, ALL)
    await hand.reduce(0, ALL, [piece(hand, 0, ALL, ALL)])

    def state() -> tuple[float, ...]:
        shows._refresh()
        labels = {"job": str(JOB), "stage": str(REDUCE)}
        names = ("drizzle_state_keys", "drizzle_state_bytes")
        return tuple(metric(hand.registry, name, **labels) for name in names)

    assert min(state()) > 0
    hand.performer.perform(act.KeepPartitions(JOB, REDUCE, COHORT, ()))
    assert state() == (0, 0)


async def test_every_number_of_a_worker_can_be_read(world: World) -> None:
    hand = await world.hand("a")
    watching(hand)._refresh()
    names = [family.name for family in hand.registry.collect()]
    assert {"drizzle_slots", "drizzle_fragments_held", "drizzle_payloads_refused"} <= set(names)
    assert len(names) == len(set(names)), "each is declared once"

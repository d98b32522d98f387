"""One test per claim of the Drizzle paper (SOSP 2017) that this engine makes its own.

The claims are about who talks to whom and when, so they are checked on the real machines in
the simulated world, where every message can be counted.
"""

from __future__ import annotations

from collections import Counter

import pytest

from drizzle_streams.core.events import NodeExited
from drizzle_streams.model.ids import COORDINATOR
from drizzle_streams.model.job import Scheduling
from drizzle_streams.protocol.codec import encode_envelope
from drizzle_streams.protocol.messages import Envelope, Launch
from tests.simulation.checkers import demand_everything
from tests.simulation.values import spec
from tests.simulation.world import Life, World


class Wire:
    """Counts what is said in a world, from when it is attached."""

    def __init__(self, world: World) -> None:
        self.said: list[tuple[str, str, object]] = []
        self._send = world.network_send
        world.network_send = self._count

    def _count(self, life: Life, to: str, envelope: Envelope) -> None:
        self.said += [(life.id, to, item.message) for item in envelope.items]
        self._send(life, to, envelope)

    def kinds(self, sender: str | None = None) -> Counter[str]:
        return Counter(type(m).__name__ for s, _, m in self.said if sender in (None, s))


def watched(seconds: float = 6.0, **settings) -> tuple[World, Wire, int]:
    """A calm world watched for a while after it settled: world, wire, batches written meanwhile."""
    world = World(3, job=spec(**settings))
    world.run(3.0)
    wire, before = Wire(world), world.written
    world.run(seconds)
    return world, wire, world.written - before


def test_s3_1_one_launch_message_per_worker_and_group() -> None:
    """Section 3.1: tasks of all batches of a group that go to a worker go out in one message."""
    world, wire, _ = watched(group_size=10)
    launches = [(to, m) for _, to, m in wire.said if isinstance(m, Launch)]
    per_group = Counter((m.group, to) for to, m in launches)
    assert len({m.group for _, m in launches}) >= 8
    assert set(per_group.values()) == {1}
    members = {life.id for kind in ("worker", "source") for life in world.of_kind(kind)}
    assert {to for to, _ in launches} == members


def test_s3_1_the_size_of_a_launch_does_not_grow_with_the_group() -> None:
    """A group is described by ranges."""

    def size(group_size: int) -> int:
        _, wire, _ = watched(seconds=8.0, group_size=group_size)
        launch = next(m for _, _, m in wire.said if isinstance(m, Launch))
        from drizzle_streams.protocol.messages import Item

        envelope = Envelope(COORDINATOR, 1, 1, 0, 0, 0, (Item(1, launch),))
        return len(encode_envelope(envelope, (None,)))

    assert abs(size(4) - size(100)) <= 8, "a few bytes of larger numbers, no list of tasks"


def test_s3_1_coordination_per_batch_falls_with_the_group_size() -> None:
    """What the coordinator says per batch is amortised over the group."""

    def per_batch(group_size: int) -> float:
        _, wire, batches = watched(group_size=group_size)
        return wire.kinds(COORDINATOR)["Launch"] / batches

    small, large = per_batch(2), per_batch(20)
    assert large < small / 5


def test_s3_2_inside_a_group_nobody_asks_the_coordinator() -> None:
    """No message of a worker to the coordinator is answered by one that a batch waits for."""
    _, wire, batches = watched(group_size=20)
    to_workers = {k for s, to, m in wire.said if s == COORDINATOR for k in [type(m).__name__]}
    assert to_workers <= {"Launch", "Committed"}
    assert batches > 100


def test_s3_2_blocks_go_from_worker_to_worker() -> None:
    """Section 3.2: a map notifies the downstream workers directly."""
    _, wire, _ = watched()
    ready = [(s, to) for s, to, m in wire.said if type(m).__name__ == "BlocksReady"]
    assert ready
    assert all(COORDINATOR not in pair for pair in ready)


def test_s3_2_one_message_per_pair_of_workers_and_batch() -> None:
    """Whatever the number of partitions (design section 5)."""
    _, wire, _ = watched()
    counted = Counter(
        (s, to, m.stage, m.downstream, m.first)  # type: ignore[attr-defined]
        for s, to, m in wire.said
        if type(m).__name__ == "BlocksReady"
    )
    assert set(counted.values()) == {1}


def test_s3_3_only_lost_partitions_are_rebuilt_and_the_dependency_list_is_pre_filled() -> None:
    """Section 3.3: survivors keep their state; a moved task is told which blocks are available."""
    world = World(3, workers=3, job=spec(group_size=10, every_ms=2_000.0))
    world.run(3.5)
    victim = next(w for w in world.of_kind("worker") if world.job_state.placement.held_by(w.id, 1))
    kept = {w.id: set(w.performer.cohorts) for w in world.of_kind("worker") if w is not victim}
    wire = Wire(world)
    world.crash(victim)
    world.coordinator.post(NodeExited(victim.id))
    world.run(0.05)
    for life in world.of_kind("worker"):
        assert kept[life.id] <= set(life.performer.cohorts), "a survivor's state was touched"
    adoptions = [a for _, _, m in wire.said if type(m).__name__ == "Assign" for a in m.adoptions]  # type: ignore[attr-defined]
    assert adoptions
    lines = [line for adoption in adoptions for line in adoption.available]
    assert lines, "nothing was pre-filled"
    assert all(line.worker != victim.id and line.first <= line.last for line in lines)
    world.run(2.0)
    demand_everything(world)


def test_s3_3_recovery_is_spread_over_the_survivors() -> None:
    """Lost partitions are rebuilt in parallel on several machines."""
    world = World(4, workers=3, job=spec(group_size=10))
    world.run(3.0)
    victim = world.of_kind("worker")[0]
    wire = Wire(world)
    world.crash(victim)
    world.coordinator.post(NodeExited(victim.id))
    world.run(0.05)
    adopters = {to for _, to, m in wire.said if type(m).__name__ == "Assign" and m.adoptions}  # type: ignore[attr-defined]
    assert len(adopters) == 2


def test_s3_3_upstream_workers_are_re_wired() -> None:
    """Section 3.3 b: blocks for a moved partition go to its new owner, unasked."""
    world = World(5, workers=3, job=spec(group_size=10))
    world.run(3.0)
    victim = world.of_kind("worker")[0]
    wire = Wire(world)
    world.crash(victim)
    world.coordinator.post(NodeExited(victim.id))
    world.run(0.6)
    generation = world.job_state.generation
    late = [
        to
        for _, to, m in wire.said
        if type(m).__name__ == "BlocksReady" and m.generation == generation  # type: ignore[attr-defined]
    ]
    assert late
    assert victim.id not in late
    assert world.asked == 0, "nobody had to ask who owes what"


def test_table_1_exactly_once_through_the_loss_of_any_service() -> None:
    """Table 1: exactly-once and prefix integrity; the checkers compare values with an oracle."""
    world = World(6)
    world.run(2.0)
    world.crash(world.of_kind("worker")[0])
    world.run(2.0)
    source = world.of_kind("source")[0]
    world.crash(source)
    world.run(0.2)
    world.start_source(source.id)
    world.run(1.0)
    world.crash(world.coordinator)
    world.run(0.2)
    world.start_coordinator()
    world.run(2.0)
    demand_everything(world)


@pytest.mark.parametrize("scheduling", list(Scheduling))
def test_s5_the_three_ways_of_scheduling_give_the_same_results(scheduling: Scheduling) -> None:
    world = World(7, job=spec(scheduling))
    world.run(5.0)
    demand_everything(world)


def test_fig_5b_barrier_asks_the_coordinator_for_every_stage_and_groups_do_not() -> None:
    """Figure 5b's comparison, in messages of the coordinator per batch."""

    def said_per_batch(scheduling: Scheduling) -> float:
        _, wire, batches = watched(scheduling=scheduling, group_size=20)
        launches = wire.kinds(COORDINATOR)
        return (launches["Launch"] + launches["LaunchStage"]) / max(1, batches)

    barrier = said_per_batch(Scheduling.BARRIER)
    prescheduled = said_per_batch(Scheduling.PRESCHEDULED)
    group = said_per_batch(Scheduling.GROUP)
    assert barrier > prescheduled > group
    assert barrier / group > 20

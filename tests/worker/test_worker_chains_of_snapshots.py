"""Chains of snapshots: a state of any size is stored as what changed since the one before the last."""

from __future__ import annotations

import pytest

from drizzle_streams.engine import snapshot
from drizzle_streams.model.ids import CohortId, Generation, JobId, StageId, WorkerId
from drizzle_streams.stores.memory import MemorySnapshotStore
from drizzle_streams.worker import snapshots
from drizzle_streams.worker.snapshots import SnapshotLine, SnapshotNames
from drizzle_streams.worker.threads import Threads
from tests.engine.world import Event, Player, aggregation

GENERATION = Generation(1)


async def test_a_state_of_many_parts_has_changes_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshot, "PART_BYTES", 512)
    monkeypatch.setattr(snapshots, "CHAIN_PARTS_MAX", 4)
    player = Player(aggregation(window=None), reducers=1)
    threads = Threads(1)
    names = SnapshotNames(StageId(1), WorkerId("w"), CohortId(1))
    line = SnapshotLine(JobId("job"), names, MemorySnapshotStore(), threads)
    written: list[int] = []
    parts: list[int] = []
    player.play({0: [Event(f"k{number}", 1) for number in range(400)]})
    for _ in range(14):
        player.play({0: [Event("k1", 1)]})
        line.admit()
        ref, count = await line.take(player.states[0], GENERATION)
        written.append(count)
        parts.append(len(ref.parts))
    threads.close()
    full = parts[0]
    assert full > snapshots.CHAIN_PARTS_MAX
    # Two chains in turn: each begins full, grows by a part a snapshot, and is cut off after four.
    assert [count - full for count in parts] == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 0, 0, 1, 1]
    assert max(written[2:10]) < written[0] / 10

"""Chains of snapshots: a state of any size is stored as what changed since the one before the last."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from drizzle_streams.engine import snapshot
from drizzle_streams.errors import StoreError
from drizzle_streams.model.ids import CohortId, Generation, JobId, StageId, WorkerId
from drizzle_streams.model.snapshot import SnapshotPart
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


class Counting(MemorySnapshotStore):
    """How large each put was; from `fails_at` on they fail."""

    def __init__(self) -> None:
        super().__init__()
        self.puts: list[int] = []
        self.fails_at: int | None = None

    async def put(
        self, job: JobId, generation: Generation, parts: Sequence[tuple[str, bytes]]
    ) -> tuple[SnapshotPart, ...]:
        if len(self.puts) == self.fails_at:
            raise StoreError("full")
        self.puts.append(sum(len(data) for _, data in parts))
        return await super().put(job, generation, parts)


async def test_a_large_state_is_stored_some_parts_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """A snapshot takes the memory of some parts; one that fails in between leaves the line as it was."""
    monkeypatch.setattr(snapshot, "PART_BYTES", 2_048)
    monkeypatch.setattr(snapshots, "PUT_BYTES_MIN", 8_192)
    player = Player(aggregation(window=None), reducers=1)
    player.log.per_entry = 10_000
    player.play({0: [Event(f"k{number}", 1) for number in range(2_000)]})
    threads, store = Threads(1), Counting()
    line = SnapshotLine(JobId("job"), SnapshotNames(StageId(1), WorkerId("w"), CohortId(1)), store, threads)
    store.fails_at = 2
    line.admit()
    with pytest.raises(StoreError, match="full"):
        await line.take(player.states[0], GENERATION)
    assert (line.waiting, line.bases) == (0, ())
    store.fails_at = None
    line.admit()
    ref, written = await line.take(player.states[0], Generation(2))
    threads.close()
    puts = store.puts[2:]
    assert len(puts) > 5
    assert sum(puts) == written
    assert all(8_192 <= size < 20_000 for size in puts[:-1]), puts
    assert len({part.key for part in ref.parts}) == len(ref.parts)
    back = player.reducer.restore((0,), 0, await store.get(ref.parts))
    assert back.groups().equals(player.states[0].groups())

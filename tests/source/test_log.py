"""The stream's log: offsets, bounds, reading, budget, trimming, and disks that fail."""

from __future__ import annotations

import asyncio
import errno
import os
import threading
from pathlib import Path

import pytest

from drizzle_streams.errors import BackPressureError, CorruptError, ProtocolError, StoreError
from drizzle_streams.source.durability import Durability
from drizzle_streams.source.files import WriteRefusedError
from drizzle_streams.source.index import OffsetError
from drizzle_streams.source.posts import encoded_size
from drizzle_streams.source.producers import SEQUENCES_MAX, Range
from tests.source.source_worlds import block, opened, places, post, settings, split_post


async def test_offsets_count_records_and_go_on_per_partition(tmp_path: Path) -> None:
    async with opened(tmp_path) as world:
        assert places(await world.log.append(post(0, 3, "a"))) == [(0, 0, 3)]
        assert places(await world.log.append(post(1, 5, "b"))) == [(1, 0, 5)]
        assert places(await world.log.append(post(0, 2, "c"))) == [(0, 3, 5)]
        assert [world.log.end_offset(p) for p in (0, 1)] == [5, 5]
        assert world.appended == [("ad-events", 0, 3), ("ad-events", 1, 5), ("ad-events", 0, 5)]


async def test_entries_are_read_as_they_were_posted(tmp_path: Path) -> None:
    async with opened(tmp_path) as world:
        await world.log.append(post(0, 3, "a"))
        await world.log.append(split_post([(0, 1), (1, 4)], "b"))
        entries = await world.log.read(0, 0, 4)
        assert [(e.base_offset, e.records, e.format.word) for e in entries] == [
            (0, 3, "ndjson"),
            (3, 1, "ndjson"),
        ]
        assert [e.payload for e in entries] == [block(3, "a/0"), block(1, "b/0")]
        assert await world.log.read(1, 0, 4) == (await world.log.read(1, 0, 4))
        assert await world.log.read(0, 4, 4) == []


@pytest.mark.parametrize("cache_bytes", [0, 1 << 20], ids=["from the file", "from memory"])
async def test_reading_gives_the_same_from_memory_and_from_the_file(tmp_path: Path, cache_bytes: int) -> None:
    async with opened(tmp_path, settings(3, cache_bytes=cache_bytes, segment_bytes=2000)) as world:
        for i in range(60):
            await world.log.append(split_post([(i % 3, 1 + i % 4), ((i + 1) % 3, 2)], f"m{i}"))
        for partition in range(3):
            wanted = [
                block(records, f"m{i}/{partition}")
                for i in range(60)
                for p, records in [(i % 3, 1 + i % 4), ((i + 1) % 3, 2)]
                if p == partition
            ]
            assert await world.content(partition) == wanted
        assert len(list((tmp_path / "log").glob("*.segment"))) > 3


async def test_several_ranges_come_in_the_order_asked_for(tmp_path: Path) -> None:
    async with opened(tmp_path) as world:
        await world.log.append(split_post([(0, 3), (1, 4)]))
        ranges = [Range(1, 0, 4), Range(0, 0, 3)]
        both = await world.log.read_encoded(ranges, 1 << 20)
        alone = [await world.log.read_encoded([some], 1 << 20) for some in ranges]
        assert both == b"".join(alone)


async def test_reading_is_bounded_and_exact(tmp_path: Path) -> None:
    async with opened(tmp_path) as world:
        await world.log.append(post(0, 3))
        for first, end in [(1, 3), (0, 2), (0, 4), (7, 9)]:
            with pytest.raises(OffsetError, match="entry"):
                await world.log.read(0, first, end)
        with pytest.raises(OffsetError, match="below 2"):
            await world.log.read(2, 0, 0)
        with pytest.raises(ProtocolError, match="at most 10 bytes"):
            await world.log.read_encoded([Range(0, 0, 3)], 10)


async def test_a_cut_lies_between_entries_within_its_bounds(tmp_path: Path) -> None:
    async with opened(tmp_path) as world:
        assert world.log.cut(0, 0, 100, 1 << 20) == 0
        for records in (3, 4, 5):
            await world.log.append(post(0, records))
        assert world.log.cut(0, 0, 100, 1 << 20) == 12
        assert world.log.cut(0, 0, 11, 1 << 20) == 7
        assert world.log.cut(0, 0, 7, 1 << 20) == 7
        assert world.log.cut(0, 3, 4, 1 << 20) == 7
        assert world.log.cut(0, 0, 1, 1 << 20) == 3, "one entry at least"
        assert world.log.cut(0, 0, 100, 1) == 3, "one entry at least"
        assert world.log.cut(0, 12, 100, 1 << 20) == 12
        two = len(await world.log.read_encoded([Range(0, 0, 3), Range(0, 3, 7)], 1 << 20))
        assert world.log.cut(0, 0, 100, two) == 7
        assert world.log.cut(0, 0, 100, two - 1) == 3
        with pytest.raises(OffsetError):
            world.log.cut(0, 2, 100, 100)


async def test_posts_without_a_key_go_round(tmp_path: Path) -> None:
    async with opened(tmp_path, settings(3)) as world:
        partitions = [world.log.next_partition() for _ in range(6)]
        assert sorted(partitions) == [0, 0, 1, 1, 2, 2]
        assert partitions[:3] == partitions[3:]


# --- group commit --------------------------------------------------------------------------


class CountedFsync:
    """Counts fsyncs of data; can hold them up to see what waits."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Event()
        monkeypatch.setattr(os, "fdatasync", self)
        self._real = os.fsync

    def __call__(self, descriptor: int) -> None:
        self.entered.set()
        self.gate.wait(30)
        self.count += 1
        self._real(descriptor)


async def test_posts_that_wait_share_one_write_and_one_fsync(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(tmp_path, settings(durability=Durability.ALWAYS)) as world:
        fsync = CountedFsync(monkeypatch)
        fsync.gate.clear()
        first = asyncio.create_task(world.log.append(post(0, 1, "first")))
        assert await asyncio.to_thread(fsync.entered.wait, 30)
        rest = [asyncio.create_task(world.log.append(post(i % 2, 1, f"m{i}"))) for i in range(50)]
        await asyncio.sleep(0)
        assert world.log.end_offset(0) == 0, "nothing is seen before it is as durable as promised"
        assert not first.done()
        fsync.gate.set()
        await asyncio.gather(first, *rest)
        assert fsync.count == 2
        assert sum(world.log.end_offset(p) for p in (0, 1)) == 51


@pytest.mark.parametrize(
    ("durability", "at_append", "at_seal"),
    [(Durability.NONE, 0, 0), (Durability.BATCH, 0, 1), (Durability.ALWAYS, 3, 0)],
)
async def test_the_setting_says_when_data_is_forced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, durability: Durability, at_append: int, at_seal: int
) -> None:
    async with opened(tmp_path, settings(durability=durability)) as world:
        fsync = CountedFsync(monkeypatch)
        for _ in range(3):
            await world.log.append(post(0, 1))
        assert fsync.count == at_append
        await world.log.sync()
        await world.log.sync()
        assert fsync.count == at_append + at_seal


async def test_a_seal_beside_another_waits_for_its_fsync(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(tmp_path) as world:
        await world.log.append(post(0, 1))
        fsync = CountedFsync(monkeypatch)
        fsync.gate.clear()
        seals = [asyncio.create_task(world.log.sync()) for _ in range(3)]
        done, _ = await asyncio.wait(seals, timeout=0.05)
        assert not done
        fsync.gate.set()
        await asyncio.gather(*seals)
        assert fsync.count == 1


@pytest.mark.parametrize(
    ("durability", "forced"),
    [(Durability.NONE, []), (Durability.BATCH, ["forced"]), (Durability.ALWAYS, ["forced"])],
)
async def test_a_file_is_forced_before_the_next_is_born(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, durability: Durability, forced: list[str]
) -> None:
    """Else a power failure could tear a file in the middle of the log."""
    async with opened(tmp_path, settings(1, durability, segment_bytes=500)) as world:
        story: list[str] = []
        replace = Path.replace

        def born(self: Path, target: Path) -> Path:
            story.append("born")
            return replace(self, target)

        monkeypatch.setattr(Path, "replace", born)
        monkeypatch.setattr(os, "fdatasync", lambda _: story.append("forced"))
        await world.log.append(post(0, 20))
        await world.log.append(post(0, 1))
        assert story[: len(forced) + 1] == [*forced, "born"]


async def test_what_an_earlier_life_wrote_is_forced_at_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(tmp_path) as world:
        await world.log.append(post(0, 1))
    fsync = CountedFsync(monkeypatch)
    async with opened(tmp_path):
        assert fsync.count == 1


async def test_many_at_once_lose_and_mix_nothing(tmp_path: Path) -> None:
    async with opened(tmp_path, settings(3, segment_bytes=5000)) as world:

        async def produce(name: str) -> list[tuple[int, int, int, bytes]]:
            found = []
            for i in range(40):
                mark = f"{name}-{i}"
                receipt = await world.log.append(split_post([(i % 3, 1 + i % 3), ((i + 1) % 3, 1)], mark))
                found += [(*place, mark.encode()) for place in places(receipt)]
            return found

        receipts = [r for some in await asyncio.gather(*map(produce, "abcdef")) for r in some]
        for partition in range(3):
            own = sorted(r for r in receipts if r[0] == partition)
            assert [first for _, first, _, _ in own] == [0, *(end for _, _, end, _ in own[:-1])]
            content = await world.content(partition)
            assert [mark in payload for (*_, mark), payload in zip(own, content, strict=True)] == [
                True
            ] * len(own)


async def test_a_caller_that_leaves_does_not_take_its_post_back(tmp_path: Path) -> None:
    async with opened(tmp_path) as world:
        leaving = asyncio.create_task(world.log.append(post(0, 2, producer="p", sequence=1)))
        await asyncio.sleep(0)
        leaving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await leaving
        again = await world.log.append(post(0, 2, producer="p", sequence=1))
        assert again.duplicate
        assert world.log.end_offset(0) == 2


# --- budget and trimming -------------------------------------------------------------------


async def test_at_the_budget_nothing_is_taken_until_trimming(tmp_path: Path) -> None:
    async with opened(tmp_path, settings(1, budget_bytes=10_000, segment_bytes=100_000)) as world:
        size = encoded_size(post(0, 10))
        for _ in range(10_000 // size):
            await world.log.append(post(0, 10))
        taken = world.log.end_offset(0)
        with pytest.raises(BackPressureError, match="budget"):
            await world.log.append(post(0, 10))
        assert world.log.end_offset(0) == taken
        assert world.log.live_bytes <= 10_000
        await world.log.trim({0: taken})
        assert world.log.live_bytes == 0
        assert places(await world.log.append(post(0, 10))) == [(0, taken, taken + 10)]


async def test_posts_that_wait_count_against_the_budget(tmp_path: Path) -> None:
    async with opened(tmp_path, settings(1, budget_bytes=10_000)) as world:
        outcomes = await asyncio.gather(
            *(world.log.append(post(0, 10)) for _ in range(100)), return_exceptions=True
        )
        refused = [o for o in outcomes if isinstance(o, BackPressureError)]
        assert refused
        assert world.log.live_bytes <= 10_000
        assert world.log.end_offset(0) == 10 * (100 - len(refused))
        assert world.log._commit.queued_bytes == 0


async def test_trimmed_records_are_gone_and_the_rest_stays(tmp_path: Path) -> None:
    async with opened(tmp_path, settings(1)) as world:
        for i in range(10):
            await world.log.append(post(0, 5, f"m{i}"))
        await world.log.trim({0: 25})
        assert world.log.first_offset(0) == 25
        with pytest.raises(OffsetError):
            await world.log.read(0, 20, 30)
        assert await world.content(0) == [block(5, f"m{i}/0") for i in range(5, 10)]
        await world.log.trim({0: 27})
        assert world.log.first_offset(0) == 25, "an entry goes as a whole"


async def test_files_go_when_no_partition_needs_them(tmp_path: Path) -> None:
    async with opened(tmp_path, settings(2, segment_bytes=1000)) as world:
        for i in range(40):
            await world.log.append(post(i % 2, 5))
        files = len(list((tmp_path / "log").iterdir()))
        await world.log.trim({0: 100})
        assert len(list((tmp_path / "log").iterdir())) >= files - 1, "partition 1 needs them"
        await world.log.trim({1: 100})
        assert len(list((tmp_path / "log").iterdir())) == 1
        assert world.log.disk_bytes == sum(f.stat().st_size for f in (tmp_path / "log").iterdir())


async def test_disk_and_memory_stay_flat_behind_checkpoints(tmp_path: Path) -> None:
    async with opened(tmp_path, settings(2, segment_bytes=4000, cache_bytes=3000)) as world:
        sizes = []
        for i in range(4 * SEQUENCES_MAX):
            await world.log.append(post(i % 2, 4, producer="p", sequence=i))
            if i % 16 == 15:
                await world.log.trim({p: world.log.end_offset(p) - 8 for p in (0, 1)})
                sizes.append(sum(f.stat().st_size for f in (tmp_path / "log").iterdir()))
                assert world.log.cache_bytes <= 3000
        # Flat once the table of producers, which each file's head carries, has its full size.
        half = len(sizes) // 2
        assert max(sizes[half:]) <= 1.1 * max(sizes[half // 2 : half])


async def test_offsets_go_on_after_everything_was_trimmed_and_restarted(tmp_path: Path) -> None:
    kept = settings(2, segment_bytes=500)
    async with opened(tmp_path, kept) as world:
        for _ in range(20):
            await world.log.append(post(0, 5))
        await world.log.append(post(1, 7))
        await world.log.trim({0: 100, 1: 7})
        await world.log.append(post(0, 1))
        await world.log.trim({0: 101, 1: 7})
    async with opened(tmp_path, kept) as world:
        assert [world.log.end_offset(p) for p in (0, 1)] == [101, 7]
        assert places(await world.log.append(post(1, 2))) == [(1, 7, 9)]


async def test_a_log_keeps_its_number_of_partitions(tmp_path: Path) -> None:
    async with opened(tmp_path, settings(3)) as world:
        await world.log.append(post(2, 1))
    async with opened(tmp_path, settings(8)) as world:
        assert world.log.partitions == 3


# --- disks that fail -----------------------------------------------------------------------


class FailingWrite:
    """The disk takes half of the next write and then says that it is full."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.full = False
        self._pwritev = os.pwritev
        monkeypatch.setattr(os, "pwritev", self.pwritev)
        monkeypatch.setattr(os, "pwrite", self.pwrite)

    def pwritev(self, descriptor: int, pieces: list[bytes], position: int) -> int:
        if not self.full:
            return self._pwritev(descriptor, pieces, position)
        whole = b"".join(pieces)
        return self._pwritev(descriptor, [whole[: len(whole) // 2]], position)

    def pwrite(self, descriptor: int, data: bytes, position: int) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")


async def test_a_full_disk_refuses_and_heals(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = FailingWrite(monkeypatch)
    async with opened(tmp_path) as world:
        await world.log.append(post(0, 3, "before"))
        disk.full = True
        size = world.log.disk_bytes
        with pytest.raises(WriteRefusedError, match="No space left"):
            await world.log.append(post(0, 2, "refused", producer="p", sequence=1))
        files = list((tmp_path / "log").iterdir())
        assert sum(f.stat().st_size for f in files) == size, "half a write is cut off"
        disk.full = False
        receipt = await world.log.append(post(0, 2, "after", producer="p", sequence=1))
        assert places(receipt) == [(0, 3, 5)]
        assert not receipt.duplicate
        assert not world.failures
    async with opened(tmp_path) as world:
        assert await world.content(0) == [block(3, "before/0"), block(2, "after/0")]


async def test_a_full_disk_that_cannot_begin_a_file_refuses_and_heals(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(tmp_path, settings(1, segment_bytes=500)) as world:
        await world.log.append(post(0, 20, "a"))
        with monkeypatch.context() as patched:
            patched.setattr(Path, "replace", _no_space)
            with pytest.raises(WriteRefusedError):
                await world.log.append(post(0, 1, "b"))
        await world.log.append(post(0, 1, "c"))
    async with opened(tmp_path) as world:
        assert await world.content(0) == [block(20, "a/0"), block(1, "c/0")]


def _no_space(self: Path, target: Path) -> Path:
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("at_seal", [False, True])
async def test_a_failed_fsync_is_final(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at_seal: bool
) -> None:
    durability = Durability.BATCH if at_seal else Durability.ALWAYS
    async with opened(tmp_path, settings(durability=durability)) as world:
        with monkeypatch.context() as patched:
            patched.setattr(os, "fdatasync", _input_output_error)
            if at_seal:
                await world.log.append(post(0, 1))
            with pytest.raises(StoreError, match="Restart the source"):
                await (world.log.sync() if at_seal else world.log.append(post(0, 1)))
        assert len(world.failures) == 1
        with pytest.raises(StoreError, match="Restart the source"):
            await world.log.append(post(0, 1))
        assert world.log._commit.queued_bytes == 0


def _input_output_error(descriptor: int) -> None:
    raise OSError(errno.EIO, "Input/output error")


async def test_bytes_that_rot_on_the_disk_are_not_served(tmp_path: Path) -> None:
    async with opened(tmp_path, settings(cache_bytes=0)) as world:
        await world.log.append(post(0, 3))
        (path,) = (tmp_path / "log").iterdir()
        data = bytearray(path.read_bytes())
        data[-5] ^= 1
        path.write_bytes(data)
        with pytest.raises(CorruptError):
            await world.log.read(0, 0, 3)

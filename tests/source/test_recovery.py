"""After a crash: every complete post is there, nothing else is, and appending goes on."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drizzle_streams.errors import CorruptError
from drizzle_streams.source.durability import Durability
from drizzle_streams.source.log import LogSettings
from drizzle_streams.source.recovery import Recovered, recover
from drizzle_streams.source.segments import read_head, segment_paths
from tests.source.source_worlds import opened, places, post, split_post
from tests.source.source_worlds import settings as log_settings

POSTS = [
    post(0, 2, "a", producer="p", sequence=1),
    split_post([(0, 1), (1, 3)], "b", producer="p", sequence=2),
    post(1, 1, "c"),
    split_post([(1, 1), (0, 2)], "d", producer="q", sequence=9),
]


class Written(NamedTuple):
    """A log as it was left, and what was true after each post: bytes of the last file -> ends."""

    directory: Path
    ends: dict[int, tuple[int, int]]
    last: str


async def _write(directory: Path, kept: LogSettings) -> Written:
    async with opened(directory, kept) as world:
        log = world.log
        ends: dict[int, tuple[int, int]] = {}
        for one in POSTS:
            await log.append(one)
            ends[log._address - log._segments[-1].address] = (log.end_offset(0), log.end_offset(1))
        last = log._segments[-1]
        ends = (
            {size: ends for size, ends in ends.items() if size >= last.head_bytes}
            if len(log._segments) > 1
            else ends
        )
        ends[last.head_bytes] = (last.starts[0], last.starts[1])
        return Written(directory / "log", ends, last.path.name)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Written:
    return asyncio.run(_write(tmp_path_factory.mktemp("written"), log_settings()))


def _recover(written: Written, change: Callable[[bytes], bytes], tears_anywhere: bool = False) -> Recovered:
    """Recover a copy whose last file was changed."""
    copy = written.directory.parent / "copy"
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(written.directory, copy)
    (copy / written.last).write_bytes(change((copy / written.last).read_bytes()))
    recovered = recover(copy, tears_anywhere=tears_anywhere)
    assert recovered is not None
    assert (copy / written.last).stat().st_size == recovered.size
    return recovered


def _ends(recovered: Recovered) -> tuple[int, int]:
    first, second = (index.end_offset for index in recovered.indexes)
    return first, second


def _whole(written: Written, size: int) -> int:
    return max(known for known in written.ends if known <= size)


def test_a_tail_torn_at_any_byte_is_cut_behind_the_last_whole_post(written: Written) -> None:
    full = (written.directory / written.last).stat().st_size
    for size in range(min(written.ends), full + 1):
        recovered = _recover(written, lambda data, size=size: data[:size])
        whole = _whole(written, size)
        assert _ends(recovered) == written.ends[whole], f"torn at byte {size}"
        assert recovered.size == whole
        assert recovered.cut_bytes == size - whole


def test_a_wrong_byte_ends_the_log_before_its_post(written: Written) -> None:
    full = (written.directory / written.last).stat().st_size
    for position in range(min(written.ends), full):
        recovered = _recover(
            written, lambda data, at=position: data[:at] + bytes([data[at] ^ 0x40]) + data[at + 1 :]
        )
        assert _ends(recovered) == written.ends[_whole(written, position)], f"wrong at byte {position}"


@settings(max_examples=60)
@given(size=st.integers(0, 10_000), garbage=st.binary(max_size=400) | st.just(bytes(4096)))
def test_garbage_behind_a_torn_tail_is_cut_too(written: Written, size: int, garbage: bytes) -> None:
    size = max(size % (max(written.ends) + 1), min(written.ends))
    recovered = _recover(written, lambda data: data[:size] + garbage)
    # Garbage may by chance be the very bytes that were torn off; it never makes more than was there.
    assert _whole(written, size) <= recovered.size <= max(written.ends)
    assert _ends(recovered) == written.ends[recovered.size]


async def test_appending_goes_on_where_the_cut_was(tmp_path: Path) -> None:
    written = await _write(tmp_path, log_settings())
    path = written.directory / written.last
    path.write_bytes(path.read_bytes()[:-1])
    async with opened(tmp_path) as world:
        assert world.log.cut_bytes > 0
        assert (world.log.end_offset(0), world.log.end_offset(1)) == (3, 4)
        receipt = await world.log.append(POSTS[3])
        assert not receipt.duplicate
        assert places(receipt) == [(1, 4, 5), (0, 3, 5)]
    async with opened(tmp_path) as world:
        assert world.log.cut_bytes == 0
        assert [len(await world.content(p)) for p in (0, 1)] == [3, 3]
        assert (await world.log.append(POSTS[3])).duplicate


async def test_a_post_split_by_key_is_there_as_a_whole_or_not_at_all(tmp_path: Path) -> None:
    async with opened(tmp_path, log_settings(3)) as world:
        await world.log.append(split_post([(0, 1), (1, 1), (2, 1)], "a", producer="p", sequence=1))
        size = world.log._address
        await world.log.append(split_post([(0, 1), (1, 1), (2, 1)], "b", producer="p", sequence=2))
        third = (world.log._address - size) // 3
    (path,) = segment_paths(tmp_path / "log")
    path.write_bytes(path.read_bytes()[: size + 2 * third])
    async with opened(tmp_path, log_settings(3)) as world:
        assert [world.log.end_offset(p) for p in range(3)] == [1, 1, 1]
        receipt = await world.log.append(split_post([(0, 1), (1, 1), (2, 1)], "b", producer="p", sequence=2))
        assert not receipt.duplicate
        assert places(receipt) == [(0, 1, 2), (1, 1, 2), (2, 1, 2)]


async def _several_files(tmp_path: Path, durability: Durability) -> list[Path]:
    async with opened(tmp_path, log_settings(1, durability, segment_bytes=400)) as world:
        for i in range(30):
            await world.log.append(post(0, 3, f"m{i}"))
    paths = segment_paths(tmp_path / "log")
    assert len(paths) > 4
    return paths


@pytest.mark.parametrize("durability", [Durability.BATCH, Durability.ALWAYS])
async def test_a_tear_in_an_older_file_is_a_damaged_disk(tmp_path: Path, durability: Durability) -> None:
    paths = await _several_files(tmp_path, durability)
    paths[1].write_bytes(paths[1].read_bytes()[:-1])
    with pytest.raises(CorruptError, match=paths[1].name):
        async with opened(tmp_path, log_settings(1, durability)):
            pass
    assert segment_paths(tmp_path / "log") == paths, "nothing is deleted"


async def test_with_durability_none_the_log_ends_at_the_first_tear(tmp_path: Path) -> None:
    paths = await _several_files(tmp_path, Durability.NONE)
    paths[1].write_bytes(paths[1].read_bytes()[:-1])
    kept = log_settings(1, Durability.NONE, segment_bytes=400)
    async with opened(tmp_path, kept) as world:
        segment, _ = read_head(paths[2]) if paths[2].exists() else (None, None)
        assert segment is None
        end = world.log.end_offset(0)
        assert 0 < end < 90
        assert places(await world.log.append(post(0, 2))) == [(0, end, end + 2)]
    async with opened(tmp_path, kept) as world:
        assert world.log.end_offset(0) == end + 2


async def test_a_missing_file_is_a_damaged_disk(tmp_path: Path) -> None:
    paths = await _several_files(tmp_path, Durability.BATCH)
    paths[2].unlink()
    with pytest.raises(CorruptError, match="where the file before it ends"):
        async with opened(tmp_path, log_settings(1)):
            pass


async def test_a_damaged_head_is_named(tmp_path: Path) -> None:
    paths = await _several_files(tmp_path, Durability.BATCH)
    for damage in (b"", b"drizzle1", bytes(100), b"garbage " * 20):
        paths[0].write_bytes(damage)
        with pytest.raises(CorruptError, match="head of a segment"):
            async with opened(tmp_path, log_settings(1)):
                pass


async def test_a_file_that_was_not_born_yet_is_no_file(tmp_path: Path) -> None:
    async with opened(tmp_path) as world:
        await world.log.append(post(0, 3))
    stillborn = tmp_path / "log" / "00000000000000009999.segment.tmp"
    stillborn.write_bytes(b"half a head")
    async with opened(tmp_path) as world:
        assert world.log.end_offset(0) == 3
    assert not stillborn.exists()


async def test_the_oldest_file_may_be_gone(tmp_path: Path) -> None:
    """Trimming deletes oldest first and may be killed in between."""
    paths = await _several_files(tmp_path, Durability.BATCH)
    paths[0].unlink()
    paths[1].unlink()
    async with opened(tmp_path, log_settings(1)) as world:
        assert world.log.end_offset(0) == 90
        assert world.log.first_offset(0) == read_head(paths[2])[0].starts[0]

"""All logs of a source in one directory: found again, kept apart, used by one process."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest

from drizzle_streams.errors import BackPressureError, ConfigError, CorruptError, ProtocolError
from drizzle_streams.model.bounds import Bounds
from drizzle_streams.model.ids import BatchId, JobId, Offset, PartitionId
from drizzle_streams.source.durability import Disk
from drizzle_streams.source.log import StreamLog
from drizzle_streams.source.streams import Streams
from tests.source.source_worlds import fail, post, settings


async def open_streams(directory: Path) -> Streams:
    return await Streams.open(directory, settings(), on_appended=lambda *_: None, on_failure=fail)


async def test_streams_are_found_again(tmp_path: Path) -> None:
    names = ["ad-events", "AD-EVENTS", "a.b", "9", "x" * 64, "X" * 64]
    streams = await open_streams(tmp_path)
    for records, name in enumerate(names, 1):
        log = await streams.create(name)
        await log.append(post(0, records))
    await streams.close()
    streams = await open_streams(tmp_path)
    assert [log.stream for log in streams] == sorted(names)
    for records, name in enumerate(names, 1):
        log = streams.get(name)
        assert log is not None
        assert log.end_offset(0) == records
    await streams.close()
    folders = [path.name.lower() for path in (tmp_path / "streams").iterdir()]
    assert len(set(folders)) == len(names), "also where file names have no case"


async def test_a_stream_is_made_once(tmp_path: Path) -> None:
    streams = await open_streams(tmp_path)
    logs = await asyncio.gather(*(streams.create("ad-events") for _ in range(10)))
    assert len({id(log) for log in logs}) == 1
    assert streams.get("ad-events") is logs[0]
    assert streams.get("other") is None
    await streams.close()


@pytest.mark.parametrize("name", ["", ".", "..", "../x", "a/b", "a b", "-x", "x" * 65, "ä", "a\n", "a\x00"])
async def test_names_that_cannot_be_are_refused(tmp_path: Path, name: str) -> None:
    streams = await open_streams(tmp_path)
    with pytest.raises(ProtocolError, match="stream name"):
        await streams.create(name)
    await streams.close()
    assert [path.name for path in tmp_path.iterdir()] == ["lock"]


async def test_their_number_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("drizzle_streams.source.streams.STREAMS_MAX", 2)
    streams = await open_streams(tmp_path)
    await streams.create("a")
    await streams.create("b")
    with pytest.raises(BackPressureError, match="at most 2 streams"):
        await streams.create("c")
    await streams.close()


async def test_a_directory_has_one_user(tmp_path: Path) -> None:
    streams = await open_streams(tmp_path)
    with pytest.raises(ConfigError, match="another process uses"):
        await open_streams(tmp_path)
    await streams.close()
    await streams.close()
    again = await open_streams(tmp_path)
    await again.close()


async def test_a_process_that_is_gone_holds_no_lock(tmp_path: Path) -> None:
    holder = (
        "import fcntl, os, sys; file = os.open(sys.argv[1], os.O_CREAT | os.O_RDWR);"
        "fcntl.flock(file, fcntl.LOCK_EX); os.kill(os.getpid(), 9)"
    )
    await asyncio.to_thread(
        subprocess.run, [sys.executable, "-c", holder, str(tmp_path / "lock")], check=False
    )
    streams = await open_streams(tmp_path)
    await streams.close()


async def test_a_directory_that_cannot_be_used_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a directory")
    with pytest.raises(ConfigError, match="log directory") as raised:
        await open_streams(tmp_path / "file")
    assert "\n" not in str(raised.value)


async def test_a_stream_that_was_not_born_yet_is_no_stream(tmp_path: Path) -> None:
    unborn = tmp_path / "streams" / "ad-events"
    unborn.mkdir(parents=True)
    (unborn / "00000000000000000000.segment.tmp").write_bytes(b"half a head")
    streams = await open_streams(tmp_path)
    assert list(streams) == []
    log = await streams.create("ad-events")
    await log.append(post(0, 1))
    await streams.close()


async def test_a_damaged_log_stops_the_start_and_frees_the_lock(tmp_path: Path) -> None:
    streams = await open_streams(tmp_path)
    await streams.create("ad-events")
    await streams.close()
    (path,) = (tmp_path / "streams" / "ad-events").iterdir()
    whole = path.read_bytes()
    path.write_bytes(b"garbage")
    with pytest.raises(CorruptError):
        await open_streams(tmp_path)
    path.write_bytes(whole)
    streams = await open_streams(tmp_path)
    await streams.close()


async def test_a_folder_of_another_stream_is_not_taken_for_this_one(tmp_path: Path) -> None:
    streams = await open_streams(tmp_path)
    await streams.create("a")
    await streams.close()
    disk = Disk()
    with pytest.raises(CorruptError, match="stream b"):
        await StreamLog.open(
            tmp_path / "streams" / "a",
            "b",
            settings(),
            disk,
            on_appended=lambda *_: None,
            on_failure=fail,
        )
    await asyncio.to_thread(disk.close)


async def test_jobs_are_found_again(tmp_path: Path) -> None:
    streams = await open_streams(tmp_path)
    assert await streams.stored_jobs() == []
    bounds = Bounds(BatchId(0), PartitionId(0), Offset(0), Offset(5))
    for name in ("ysb", "other"):
        log = await streams.open_bounds(JobId(name))
        await log.append([bounds])
        await log.close()
    await streams.close()
    streams = await open_streams(tmp_path)
    assert await streams.stored_jobs() == ["other", "ysb"]
    log = await streams.open_bounds(JobId("ysb"))
    assert log.bounds == (bounds,)
    await log.close()
    await streams.close()


async def test_appends_are_told_with_their_stream(tmp_path: Path) -> None:
    told: list[tuple[str, int, int]] = []
    streams = await open_streams(tmp_path)
    streams.on_appended = lambda *what: told.append(what)
    for name in ("a", "b"):
        await (await streams.create(name)).append(post(1, 3))
    assert told == [("a", 1, 3), ("b", 1, 3)]
    await streams.close()

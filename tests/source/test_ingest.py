"""Every answer of the door that records come in by, through a real server."""

from __future__ import annotations

import asyncio
import errno
import gzip
import io
import json
import os
from pathlib import Path

import msgpack
import polars as pl
import pytest

from drizzle_streams.source.durability import Durability
from drizzle_streams.source.ingest import IngestLimits
from drizzle_streams.source.producers import SEQUENCES_MAX
from drizzle_streams.source.streams import STREAMS_MAX
from drizzle_streams.transport.entries import decode_entries
from tests.bearer import bearer
from tests.source.conftest import CLUSTER_TOKEN, Source, StartSource
from tests.source.source_worlds import block, settings

ARROW = "application/vnd.apache.arrow.stream"
MSGPACK = "application/msgpack"


async def test_a_post_is_answered_with_its_offsets(source: Source) -> None:
    status, first, _ = await source.post(block(3))
    assert status == 200
    partition = first["partition"]
    assert first == {
        "stream": "ad-events",
        "records": 3,
        "duplicate": False,
        "survives": "process-crash",
        "partitions": [{"partition": partition, "first_offset": 0, "end_offset": 3}],
        "partition": partition,
        "first_offset": 0,
        "end_offset": 3,
    }
    _, second, _ = await source.post(block(2))
    assert second["partition"] != partition, "blocks go round"
    _, third, _ = await source.post(block(2))
    assert (third["partition"], third["first_offset"]) == (partition, 3)


async def test_the_answer_says_what_it_survives(start_source: StartSource) -> None:
    source = await start_source(settings(durability=Durability.ALWAYS))
    _, answer, _ = await source.post(block(1))
    assert answer["survives"] == "power-loss"


async def test_all_three_formats_are_kept_as_posted(source: Source) -> None:
    frame = pl.DataFrame({"a": [1, 2, 3]})
    encoded = io.BytesIO()
    frame.write_ipc_stream(encoded)
    bodies = {
        "application/x-ndjson": (b'{"a":1}\n', 1),
        ARROW: (encoded.getvalue(), 3),
        MSGPACK: (msgpack.packb({"a": 1}) * 2, 2),
    }
    for kind, (body, records) in bodies.items():
        status, answer, _ = await source.post(body, kind=kind + "; charset=utf-8")
        assert (status, answer["records"]) == (200, records)
        log = source.streams.get("ad-events")
        assert log is not None
        (entry,) = await log.read(answer["partition"], answer["first_offset"], answer["end_offset"])
        assert (entry.payload, entry.records) == (body, records)


async def test_a_body_may_be_compressed(source: Source) -> None:
    body = block(500)
    status, answer, _ = await source.post(gzip.compress(body), Content_Encoding="gzip")
    assert (status, answer["records"]) == (200, 500)


async def test_a_repost_is_answered_alike(source: Source) -> None:
    numbered = {"Drizzle_Producer": "loadgen-1", "Drizzle_Sequence": "17"}
    _, first, _ = await source.post(block(3), **numbered)
    status, again, _ = await source.post(block(3), **numbered)
    assert status == 200
    assert again == {**first, "duplicate": True}
    assert source.ingest.counters == {"posts": 2, "duplicates": 1, "records": 3, "bytes": len(block(3))}


async def test_reposts_at_the_same_moment_are_taken_once(source: Source) -> None:
    numbered = {"Drizzle_Producer": "p", "Drizzle_Sequence": "1"}
    answers = await asyncio.gather(*(source.post(block(3), **numbered) for _ in range(8)))
    assert {answer["first_offset"] for _, answer, _ in answers} == {0}
    assert sum(not answer["duplicate"] for _, answer, _ in answers) == 1


async def test_a_repost_to_a_restarted_source_is_known(start_source: StartSource, tmp_path: Path) -> None:
    numbered = {"Drizzle_Producer": "p", "Drizzle_Sequence": "1", "Drizzle_Key": "n"}
    before = await start_source(directory=tmp_path / "a")
    _, first, _ = await before.post(block(9), **numbered)
    await before.streams.close()
    after = await start_source(directory=tmp_path / "a")
    _, again, _ = await after.post(block(9), **numbered)
    assert again == {**first, "duplicate": True}


async def test_a_key_decides_the_partition(start_source: StartSource) -> None:
    source = await start_source(settings(4))
    body = b"".join(json.dumps({"user": f"u{i % 10}", "n": i}).encode() + b"\n" for i in range(100))
    status, answer, _ = await source.post(body, Drizzle_Key="user")
    assert status == 200
    assert answer["records"] == 100
    assert len(answer["partitions"]) > 1
    assert "first_offset" not in answer
    log = source.streams.get("ad-events")
    assert log is not None
    seen: dict[str, int] = {}
    for place in answer["partitions"]:
        for entry in await log.read(place["partition"], place["first_offset"], place["end_offset"]):
            for line in entry.payload.splitlines():
                assert seen.setdefault(json.loads(line)["user"], entry.partition) == entry.partition
    assert len(seen) == 10


@pytest.mark.parametrize(
    ("body", "kind", "headers", "why"),
    [
        (b"", "application/x-ndjson", {}, "empty body"),
        (b"hello", "application/x-ndjson", {}, "hello"),
        (b'[{"a":1}]', "application/x-ndjson", {}, "one {…} per line"),
        (b"garbage", ARROW, {}, "Arrow IPC stream"),
        (msgpack.packb([1]), MSGPACK, {}, "MessagePack maps"),
        (b"{}", "application/x-ndjson", {"Drizzle-Key": "a'] || $['b"}, "key column"),
        (b"{}", "application/x-ndjson", {"Drizzle-Sequence": "1"}, "Drizzle-Producer"),
        (b"{}", "application/x-ndjson", {"Drizzle-Producer": "p"}, "Drizzle-Sequence"),
        (b"{}", "application/x-ndjson", {"Drizzle-Producer": "p", "Drizzle-Sequence": "-1"}, "decimal"),
        (b"{}", "application/x-ndjson", {"Drizzle-Producer": "p", "Drizzle-Sequence": "1e3"}, "decimal"),
        (b"{}", "application/x-ndjson", {"Drizzle-Producer": "p", "Drizzle-Sequence": "9" * 19}, "up to"),
        (
            b"{}",
            "application/x-ndjson",
            {"Drizzle-Producer": "p" * 101, "Drizzle-Sequence": "1"},
            "printable",
        ),
        (b"{}", "application/x-ndjson", {"Drizzle-Producer": "ä", "Drizzle-Sequence": "1"}, "printable"),
        (b"no gzip", "application/x-ndjson", {"Content-Encoding": "gzip"}, "gzip"),
    ],
)
async def test_what_is_wrong_is_said(
    source: Source, body: bytes, kind: str, headers: dict[str, str], why: str
) -> None:
    status, answer, _ = await source.post(body, kind=kind, **headers)
    assert status == 400
    assert why in json.dumps(answer, ensure_ascii=False)
    log = source.streams.get("ad-events")
    assert log is None or log.live_bytes == 0, "nothing was taken"


@pytest.mark.parametrize("name", ["..", "a%2Fb", "%2e%2e%2fetc", ".hidden", "a b", "x" * 65, "ä", "%00"])
async def test_a_stream_name_that_cannot_be_is_refused(source: Source, name: str, tmp_path: Path) -> None:
    status, _, _ = await source.post(b"{}", stream=name)
    assert status in (400, 401, 404), "401: such a path is no door at all"
    assert [path.name for path in tmp_path.iterdir()] == ["lock"]


@pytest.mark.parametrize("kind", ["application/json", "text/csv", "application/octet-stream", "nonsense"])
async def test_other_types_are_not_taken(source: Source, kind: str) -> None:
    status, answer, _ = await source.post(b"{}", kind=kind)
    assert status == 415
    assert "application/x-ndjson" in answer["error"]["wanted"]


async def test_a_stream_must_be_there_if_none_may_be_made(start_source: StartSource) -> None:
    source = await start_source(auto_create=False)
    status, answer, _ = await source.post(b"{}")
    assert status == 404
    assert "submit the job first" in answer["error"]["remedy"]
    await source.streams.create("ad-events")
    assert (await source.post(b"{}"))[0] == 200


async def test_streams_are_bounded(source: Source, monkeypatch: pytest.MonkeyPatch) -> None:
    assert STREAMS_MAX == 256
    monkeypatch.setattr("drizzle_streams.source.streams.STREAMS_MAX", 3)
    for name in "abc":
        assert (await source.post(b"{}", stream=name))[0] == 200
    assert (await source.post(b"{}", stream="d"))[0] == 429
    assert (await source.post(b"{}", stream="a"))[0] == 200


async def test_a_sequence_too_old_to_tell_is_a_conflict(source: Source) -> None:
    await source.post(b"{}", Drizzle_Producer="p", Drizzle_Sequence="1000")
    old = str(1000 - SEQUENCES_MAX)
    status, answer, _ = await source.post(b"{}", Drizzle_Producer="p", Drizzle_Sequence=old)
    assert status == 409
    assert "Number new posts upwards" in answer["error"]["remedy"]
    assert (source.ingest.counters["posts"], source.ingest.counters["refused"]) == (1, 1)


async def test_at_the_budget_try_later(start_source: StartSource) -> None:
    source = await start_source(settings(1, budget_bytes=2000))
    numbered = {"Drizzle_Producer": "p", "Drizzle_Sequence": "0"}
    assert (await source.post(block(50), **numbered))[0] == 200
    status, answer, headers = await source.post(block(50), Drizzle_Producer="p", Drizzle_Sequence="1")
    assert status == 429
    assert int(headers["Retry-After"]) >= 1
    assert "budget of 2000" in answer["error"]["found"]
    log = source.streams.get("ad-events")
    assert log is not None
    assert log.end_offset(0) == 50, "nothing was taken"
    assert source.ingest.counters["held_back"] == 1
    assert (await source.post(block(50), **numbered))[0] == 200, "a duplicate needs no room"
    await log.trim({0: 50})
    status, answer, _ = await source.post(block(50), Drizzle_Producer="p", Drizzle_Sequence="1")
    assert (status, answer["duplicate"]) == (200, False)


async def test_a_body_too_large_is_refused(start_source: StartSource) -> None:
    source = await start_source(limits=IngestLimits(body_bytes_max=1000))

    async def chunked(size: int) -> object:
        for _ in range(0, size, 100):
            yield b'{"a":"' + b"x" * 91 + b'"}\n'

    assert (await source.post(block(20)))[0] == 200
    assert (await source.post(chunked(1000)))[0] == 200
    assert (await source.post(b"x" * 1001))[0] == 413
    assert (await source.post(chunked(1100)))[0] == 413
    assert (await source.post(gzip.compress(block(1000)), Content_Encoding="gzip"))[0] == 413
    assert source.ingest.counters["posts"] == 2


async def test_more_than_jobs_work_off_in_time_waits_and_is_told_how_long(start_source: StartSource) -> None:
    waits: list[int | None] = [None]
    source = await start_source(settings(1), wait_s=lambda _: waits[-1])
    numbered = {"Drizzle_Producer": "p", "Drizzle_Sequence": "0"}
    assert (await source.post(block(50), **numbered))[0] == 200
    waits.append(7)
    status, answer, headers = await source.post(block(50), Drizzle_Producer="p", Drizzle_Sequence="1")
    assert (status, headers["Retry-After"]) == (429, "7")
    assert "backlog_s_max" in answer["error"]["found"]
    assert (await source.post(block(50), **numbered))[0] == 200, "a duplicate adds nothing"
    log = source.streams.get("ad-events")
    assert log is not None
    assert log.end_offset(0) == 50, "nothing was taken"
    waits.append(None)
    assert (await source.post(block(50), Drizzle_Producer="p", Drizzle_Sequence="1"))[0] == 200


async def test_a_body_that_can_never_fit_the_budget_is_too_large(start_source: StartSource) -> None:
    source = await start_source(settings(budget_bytes=2000))
    assert (await source.post(b"x" * 2001))[0] == 413


async def test_bodies_in_memory_are_bounded(start_source: StartSource) -> None:
    source = await start_source(limits=IngestLimits(body_bytes_max=1000, bodies_bytes_max=1500))
    going_on = asyncio.Event()

    async def slow() -> object:
        yield b'{"a":1}\n'
        await going_on.wait()

    first = asyncio.create_task(source.post(slow()))
    while not source.ingest._bodies_bytes:  # noqa: ASYNC110 - the server's side has no event to wait for
        await asyncio.sleep(0.001)
    status, answer, headers = await source.post(block(30))
    assert status == 429
    assert "Retry-After" in headers
    assert "bodies on their way in" in answer["error"]["found"]
    going_on.set()
    assert (await first)[0] == 200
    assert (await source.post(block(20)))[0] == 200
    assert source.ingest._bodies_bytes == 0


async def test_a_body_must_come_in_time(start_source: StartSource) -> None:
    source = await start_source(limits=IngestLimits(body_timeout_s=0.05))

    async def stuck() -> object:
        yield b'{"a":1}\n'
        await asyncio.sleep(3600)

    status, answer, _ = await source.post(stuck())
    assert status == 408
    assert answer["error"]["found"] == "8 bytes"
    assert source.ingest._bodies_bytes == 0


async def test_a_producer_that_goes_away_leaves_nothing_behind(source: Source) -> None:
    host, port = source.address.removeprefix("http://").split(":")
    _, writer = await asyncio.open_connection(host, int(port))
    writer.write(
        b"POST /streams/ad-events/records HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-ndjson\r\n"
        b"Authorization: " + bearer(CLUSTER_TOKEN).encode() + b"\r\n"
        b'Content-Length: 1000\r\n\r\n{"a":1}\n'
    )
    await writer.drain()
    while not source.ingest._bodies_bytes:  # noqa: ASYNC110 - the server's side has no event to wait for
        await asyncio.sleep(0.001)
    writer.close()
    await writer.wait_closed()
    while source.ingest._bodies_bytes:  # noqa: ASYNC110 - as above
        await asyncio.sleep(0.001)
    log = source.streams.get("ad-events")
    assert log is not None
    assert log.live_bytes == 0


async def test_a_full_disk_is_said_and_heals(source: Source, monkeypatch: pytest.MonkeyPatch) -> None:
    await source.post(block(1))
    with monkeypatch.context() as patched:
        patched.setattr(os, "pwritev", _no_space)
        status, answer, headers = await source.post(block(1))
    assert status == 503
    assert "No space left" in answer["error"]["found"]
    assert "Retry-After" in headers
    assert (await source.post(block(1)))[0] == 200


async def test_a_disk_too_full_for_a_new_stream_is_said(
    source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(Path, "replace", _no_space_for_a_file)
        status, answer, _ = await source.post(block(1))
    assert status == 503
    assert "No space left" in answer["error"]["found"]
    assert (await source.post(block(1)))[0] == 200


async def test_a_source_that_closes_takes_nothing(source: Source) -> None:
    await source.post(block(1))
    log = source.streams.get("ad-events")
    assert log is not None
    await log.close()
    assert (await source.post(block(1)))[0] == 503


def _no_space_for_a_file(self: Path, target: Path) -> Path:
    raise OSError(errno.ENOSPC, "No space left on device")


def _no_space(descriptor: int, pieces: list[bytes], position: int) -> int:
    raise OSError(errno.ENOSPC, "No space left on device")


# --- tokens --------------------------------------------------------------------------------

TOKENS = {"ad-events": ("for-ads", "for-ads-next"), "*": ("for-any",), "closed": ()}


@pytest.mark.parametrize(
    ("stream", "token", "status"),
    [
        ("ad-events", "for-ads", 200),
        ("ad-events", "for-ads-next", 200),
        ("other", "for-any", 200),
        ("ad-events", "for-any", 401),
        ("other", "for-ads", 401),
        ("closed", "for-any", 401),
        ("ad-events", "cluster-token", 401),
        ("ad-events", "", 401),
        ("ad-events", "for-ad", 401),
        ("ad-events", "for-adsx", 401),
        ("ad-events", None, 401),
        ("../x", "for-ads", 401),
    ],
)
async def test_each_stream_has_its_own_token(
    start_source: StartSource, stream: str, token: str | None, status: int
) -> None:
    source = await start_source(tokens=TOKENS)
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    found, _, _ = await source.post(b"{}", stream=stream, **headers)
    assert found == status
    assert len(list(source.streams)) == (status == 200)


async def test_a_stream_without_token_takes_nothing_where_tokens_are(start_source: StartSource) -> None:
    source = await start_source(tokens={"ad-events": ("for-ads",)})
    assert (await source.post(b"{}", stream="other", Authorization="Bearer for-ads"))[0] == 401


async def test_an_ingest_token_opens_no_other_door(start_source: StartSource) -> None:
    source = await start_source(tokens=TOKENS)
    for token in (None, "for-ads", "for-any", "wrong"):
        assert (await source.get("/streams", token=token))[0] == 401
        assert (await source.get("/streams/ad-events/records", token=token))[0] == 401


# --- reading -------------------------------------------------------------------------------


async def test_streams_are_listed(source: Source) -> None:
    assert await source.get("/streams") == (200, b'{"streams": []}')
    await source.post(block(3))
    status, body = await source.get("/streams")
    (described,) = json.loads(body)["streams"]
    assert status == 200
    assert (described["stream"], described["durability"]) == ("ad-events", "batch")
    assert sorted(p["end_offset"] for p in described["partitions"]) == [0, 3]
    assert 0 < described["live_bytes"] < described["disk_bytes"] < described["budget_bytes"]


async def test_records_are_served_as_entries(source: Source) -> None:
    _, answer, _ = await source.post(block(3))
    partition, other = answer["partition"], 1 - answer["partition"]
    await source.post(block(2, "second"))
    path = "/streams/ad-events/records"
    status, body = await source.get(path, partition=str(partition), first="0", end="3")
    assert status == 200
    assert [(e.partition, e.base_offset, e.payload) for e in decode_entries(body)] == [
        (partition, 0, block(3))
    ]
    status, body = await source.get(path, ranges=f"{other}:0:2,{partition}:0:3,{partition}:3:3")
    assert status == 200
    assert [entry.payload for entry in decode_entries(body)] == [block(2, "second"), block(3)]


@pytest.mark.parametrize(
    ("params", "status"),
    [
        ({"partition": "0", "first": "0", "end": "99"}, 404),
        ({"partition": "0", "first": "1", "end": "3"}, 404),
        ({"partition": "9", "first": "0", "end": "0"}, 404),
        ({}, 400),
        ({"partition": "0", "first": "0"}, 400),
        ({"partition": "0", "first": "-1", "end": "3"}, 400),
        ({"partition": "0", "first": "0", "end": "9" * 30}, 400),
        ({"ranges": ""}, 400),
        ({"ranges": "0:0"}, 400),
        ({"ranges": "0:0:0," * 300}, 400),
    ],
)
async def test_questions_that_have_no_answer(source: Source, params: dict[str, str], status: int) -> None:
    for _ in range(2):
        await source.post(block(3))
    assert (await source.get("/streams/ad-events/records", **params))[0] == status


async def test_trimmed_records_and_unknown_streams_are_not_found(source: Source) -> None:
    _, answer, _ = await source.post(block(3))
    log = source.streams.get("ad-events")
    assert log is not None
    await log.trim({answer["partition"]: 3})
    asked = {"partition": str(answer["partition"]), "first": "0", "end": "3"}
    assert (await source.get("/streams/ad-events/records", **asked))[0] == 404
    assert (await source.get("/streams/other/records", **asked))[0] == 404

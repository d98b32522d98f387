"""The source service over real sockets: records in, offers out, restarts, doors."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from drizzle_streams.config import SourceServiceSettings
from drizzle_streams.core import actions as act
from drizzle_streams.errors import ConfigError
from drizzle_streams.model.bounds import Bounds
from drizzle_streams.protocol.messages import Offer
from drizzle_streams.source.service import SourceService
from drizzle_streams.transport.entries import decode_entries
from drizzle_streams.transport.releases import own_release
from tests.bearer import bearer
from tests.services.service_worlds import (
    STREAM,
    TOKEN,
    Member,
    ask,
    coordinator_on,
    job_becomes,
    job_file,
    running,
    submit,
    two_stages,
    until,
    worker,
)

NOBODY = "http://127.0.0.1:9"


def source_on(directory: Path, coordinator: str = NOBODY, **changes: Any) -> SourceService:
    values: dict[str, Any] = {
        "token": TOKEN,
        "metrics_public": True,
        "port": 0,
        "name": "disk-1",
        "coordinator": coordinator,
        "data_dir": directory,
    }
    return SourceService(SourceServiceSettings(**(values | changes)))


def lines(first: int, count: int) -> bytes:
    return b"".join(b'{"n":%d}\n' % number for number in range(first, first + count))


async def post(at: str, body: bytes, *, token: str | None = TOKEN, stream: str = STREAM, **headers: str):
    sent = {"Content-Type": "application/x-ndjson"} | headers
    return await ask("POST", f"{at}/streams/{stream}/records", token=token, body=body, headers=sent)


def offered(member: Member) -> dict[tuple[int, int], tuple[Bounds, bytes | None]]:
    """What a worker was offered: (batch, partition) to bounds, and records if they rode along."""
    found: dict[tuple[int, int], tuple[Bounds, bytes | None]] = {}
    for action in member.performer.performed:
        if isinstance(action, act.FetchInput):
            found |= {(b.batch, b.partition): (b, None) for b in action.bounds}
    for message, payload in member.performer.absorbed:
        if isinstance(message, Offer):
            entries = decode_entries(payload)
            for bound in message.bounds:
                mine, offset = [], bound.first
                while offset < bound.end:
                    mine.append(entries.pop(0))
                    assert mine[-1].base_offset == offset
                    offset = mine[-1].end_offset
                found[bound.batch, bound.partition] = (bound, b"".join(entry.payload for entry in mine))
            assert entries == []
    return found


def records(member: Member) -> list[int]:
    payloads = [payload for _, payload in offered(member).values() if payload]
    return sorted(json.loads(line)["n"] for payload in payloads for line in payload.splitlines())


@asynccontextmanager
async def cluster(**settings: Any) -> AsyncIterator[tuple[AsyncExitStack, str]]:
    async with AsyncExitStack() as stack:
        service = await stack.enter_async_context(running(coordinator_on(**settings)))
        yield stack, service.address


# --- ready, and not ---------------------------------------------------------------------------


async def test_it_is_ready_when_the_coordinator_has_welcomed_it(tmp_path):
    async with running(source_on(tmp_path)) as alone:
        answer = await ask("GET", f"{alone.address}/readyz", token=None)
        assert answer.status == 503
        assert "has not welcomed it" in answer.json["reason"]
        assert (await ask("GET", f"{alone.address}/healthz", token=None)).status == 200
        assert (await post(alone.address, lines(0, 3))).json["records"] == 3, "records are taken all the same"

    async with cluster() as (stack, coordinator):
        service = await stack.enter_async_context(running(source_on(tmp_path, coordinator)))

        async def ready() -> bool:
            return (await ask("GET", f"{service.address}/readyz", token=None)).status == 200

        await until(ready, "ready")
        (member,) = (await ask("GET", f"{coordinator}/status")).json["sources"]
        assert (member["id"], member["address"], member["partitions"]) == ("disk-1", service.address, 2)


async def test_a_directory_has_one_user_one_name_and_its_partitions(tmp_path):
    async with running(source_on(tmp_path)) as service:
        await post(service.address, lines(0, 1))
        with pytest.raises(ConfigError, match="one that another process uses"):
            await source_on(tmp_path).run(asyncio.Event())
    with pytest.raises(ConfigError, match="log of source 'disk-1'"):
        await source_on(tmp_path, name="disk-2").run(asyncio.Event())
    with pytest.raises(ConfigError, match="DRIZZLE_PARTITIONS: wanted 2"):
        await source_on(tmp_path, partitions=3).run(asyncio.Event())
    async with running(source_on(tmp_path)):
        pass


async def test_a_source_that_cannot_listen_lets_go_of_its_directory(tmp_path):
    async with running(source_on(tmp_path / "one")) as one:
        port = int(one.address.rsplit(":", 1)[1])
        with pytest.raises(ConfigError, match=str(port)):
            await source_on(tmp_path / "two", port=port).run(asyncio.Event())
    async with running(source_on(tmp_path / "two", port=port)):
        pass


# --- records in, offers out --------------------------------------------------------------------


async def test_posted_records_end_in_offers_each_once(tmp_path):
    async with cluster() as (stack, coordinator):
        service = await stack.enter_async_context(running(source_on(tmp_path, coordinator)))
        member = await stack.enter_async_context(worker(coordinator).living())
        await submit(coordinator, job_file())
        await job_becomes(coordinator, lambda v: v["phase"] == "running", "runs")
        for number in range(20):
            answer = await post(
                service.address,
                lines(number * 10, 10),
                **{"Drizzle-Producer": "test", "Drizzle-Sequence": str(number)},
            )
            assert answer.status == 200
        again = await post(
            service.address, lines(0, 10), **{"Drizzle-Producer": "test", "Drizzle-Sequence": "0"}
        )
        assert again.json["duplicate"] is True
        await until(lambda: len(records(member)) >= 200, "all records were offered")
        assert records(member) == list(range(200))
        story = (await ask("GET", f"{service.address}/debug/story")).json["story"]
        assert [line["kind"] for line in story] == ["StreamOpened"]


async def test_records_that_do_not_ride_along_can_be_pulled(tmp_path):
    async with cluster() as (stack, coordinator):
        service = await stack.enter_async_context(running(source_on(tmp_path, coordinator)))
        member = await stack.enter_async_context(worker(coordinator).living())
        body = b'{"n":"' + b"x" * 2_000_000 + b'"}\n'
        await post(service.address, body)
        await submit(coordinator, job_file())

        def pulls() -> list[Bounds]:
            fetches = [a for a in member.performer.performed if isinstance(a, act.FetchInput)]
            return [bound for fetch in fetches for bound in fetch.bounds if bound.records]

        await until(lambda: bool(pulls()), "a worker was told to pull")
        (bound,) = pulls()
        values = {"partition": bound.partition, "first": bound.first, "end": bound.end}
        question = "&".join(f"{name}={value}" for name, value in values.items())
        answer = await ask("GET", f"{service.address}/streams/{STREAM}/records?{question}")
        assert [entry.payload for entry in decode_entries(answer.body)] == [body]


async def test_a_restarted_source_offers_the_same_batches(tmp_path):
    async with cluster(lease_ms=600_000) as (stack, coordinator):
        before = worker(coordinator)
        async with running(source_on(tmp_path, coordinator)) as service, before.living():
            port = int(service.address.rsplit(":", 1)[1])
            await submit(coordinator, job_file(two_stages(checkpoint_interval_ms=600_000.0)))
            for number in range(10):
                await post(service.address, lines(number * 10, 10))
                await job_becomes(coordinator, lambda v, n=number: v["batches_done"] > 3 * n, "goes on")
            await until(lambda: len(records(before)) == 100, "all were offered")
        first = offered(before)

        await ask("POST", f"{coordinator}/nodes/{before.id}/exited")
        after = worker(coordinator)
        await stack.enter_async_context(running(source_on(tmp_path, coordinator, port=port)))
        await stack.enter_async_context(after.living())
        last = max(batch for batch, _ in first)
        await until(lambda: max((b for b, _ in offered(after)), default=-1) > last, "the job goes on")
        second = offered(after)
        assert first.keys() <= second.keys(), "nothing was committed, so all is offered again"
        for key, (bound, payload) in first.items():
            assert second[key][0] == bound
            assert second[key][1] in (None, payload)
        story = (await ask("GET", f"http://127.0.0.1:{port}/debug/story")).json["story"]
        assert story[0]["kind"] == "RunRecovered"


async def test_what_a_checkpoint_made_needless_is_trimmed_and_a_stopped_job_leaves_no_bounds(tmp_path):
    async with cluster() as (stack, coordinator):
        service = await stack.enter_async_context(
            running(source_on(tmp_path, coordinator, log_segment_bytes=65_536))
        )
        await stack.enter_async_context(worker(coordinator).living())
        await submit(coordinator, job_file())
        await job_becomes(coordinator, lambda v: v["phase"] == "running", "runs")
        for _ in range(40):
            await post(service.address, b'{"n":"' + b"x" * 10_000 + b'"}\n')

        async def trimmed() -> bool:
            (stream,) = (await ask("GET", f"{service.address}/streams")).json["streams"]
            return stream["live_bytes"] == 0 and stream["disk_bytes"] < 200_000

        await until(trimmed, "the log is trimmed")
        assert len(list((tmp_path / "jobs").iterdir())) == 1
        await ask("DELETE", f"{coordinator}/jobs/sums")
        await until(lambda: not list((tmp_path / "jobs").iterdir()), "the bounds are gone")


async def test_a_source_drops_the_runs_that_ended_while_it_was_away(tmp_path):
    async with cluster() as (stack, coordinator):
        async with running(source_on(tmp_path, coordinator)) as service:
            port = int(service.address.rsplit(":", 1)[1])
            async with worker(coordinator).living():
                await submit(coordinator, job_file())
                await job_becomes(coordinator, lambda v: v["batches_done"] > 5, "runs")
        assert len(list((tmp_path / "jobs").iterdir())) == 1
        ledger = coordinator_on()  # a coordinator that knows nothing of the job
        other = await stack.enter_async_context(running(ledger))
        await stack.enter_async_context(running(source_on(tmp_path, other.address, port=port)))
        await until(lambda: not list((tmp_path / "jobs").iterdir()), "the bounds are gone")


# --- doors -------------------------------------------------------------------------------------


async def test_without_static_ingest_tokens_users_may_post_too(tmp_path):
    async with running(source_on(tmp_path)) as service:
        assert (await post(service.address, lines(0, 1), token=None)).status == 401
        assert (await post(service.address, lines(0, 1), token="wrong")).status == 401
        assert (await post(service.address, lines(0, 1))).status == 200


async def test_an_ingest_token_opens_its_stream_and_nothing_else(tmp_path):
    tokens = (("ads", ("a1", "a2")), ("*", ("any",)))
    async with running(source_on(tmp_path, ingest_tokens=tokens)) as service:
        at = service.address
        assert (await post(at, lines(0, 1), token="a1", stream="ads")).status == 200
        assert (await post(at, lines(0, 1), token="a2", stream="ads")).status == 200
        assert (await post(at, lines(0, 1), token="any", stream="ads")).status == 401
        assert (await post(at, lines(0, 1), token="any", stream="clicks")).status == 200
        assert (await post(at, lines(0, 1), token=TOKEN, stream="ads")).status == 403
        for path in ("/streams", "/streams/ads/records?partition=0&first=0&end=1", "/debug/story", "/link"):
            assert (await ask("GET", at + path, token="a1")).status == 401
        assert (await ask("GET", f"{at}/streams", token=TOKEN)).status == 200


async def test_garbage_on_a_link_is_refused_and_counted(tmp_path):
    async with running(source_on(tmp_path)) as service:
        headers = {
            "Authorization": bearer(TOKEN),
            "Drizzle-Node": "worker-x",
            "Drizzle-Address": NOBODY,
            "Drizzle-To": "disk-1",
            "Drizzle-Release": own_release(),
        }
        frame = b"\xc1 garbage"
        async with (
            aiohttp.ClientSession() as session,
            session.ws_connect(f"{service.address}/link", headers=headers) as link,
        ):
            await link.send_bytes(len(frame).to_bytes(4, "little") + frame)
            await link.send_bytes(b"no frame at all")
            async with asyncio.timeout(20):
                await link.receive()
        text = (await ask("GET", f"{service.address}/metrics", token=None)).body.decode()
        assert 'drizzle_messages_refused_total{reason="undecodable"} 1.0' in text
        assert (await post(service.address, lines(0, 1))).status == 200


async def test_metrics_tell_of_posts_logs_and_batches(tmp_path):
    async with cluster() as (stack, coordinator):
        service = await stack.enter_async_context(running(source_on(tmp_path, coordinator)))
        at = service.address
        await post(at, lines(0, 10), **{"Drizzle-Producer": "p", "Drizzle-Sequence": "1"})
        await post(at, lines(0, 10), **{"Drizzle-Producer": "p", "Drizzle-Sequence": "1"})
        assert (await post(at, b"not json")).status == 400
        assert (await post(at, lines(0, 1), stream="..")).status in (400, 404)

        async def numbers() -> dict[str, float]:
            text = (await ask("GET", f"{at}/metrics", token=None)).body.decode()
            kept = [
                line for line in text.splitlines() if line.startswith("drizzle_") and "_bucket" not in line
            ]
            return {line.rsplit(" ", 1)[0]: float(line.rsplit(" ", 1)[1]) for line in kept}

        found = await numbers()
        of = f'{{stream="{STREAM}"}}'
        assert found[f"drizzle_appended_records_total{of}"] == 10
        assert found[f"drizzle_appended_bytes_total{of}"] == len(lines(0, 10))
        assert found[f"drizzle_posts_repeated_total{of}"] == 1
        assert found[f"drizzle_append_seconds_count{of}"] == 2
        assert found[f'drizzle_posts_refused_total{{status="400",stream="{STREAM}"}}'] == 1
        assert found[f"drizzle_backlog_records{of}"] == 10
        assert found[f"drizzle_log_bytes{of}"] > 0

        await stack.enter_async_context(worker(coordinator).living())
        await submit(coordinator, job_file())
        await job_becomes(coordinator, lambda v: v["batches_done"] > 3, "runs")
        found = await numbers()
        assert found['drizzle_batches_sealed_total{job="sums"}'] > 3
        assert found[f"drizzle_backlog_records{of}"] == 0

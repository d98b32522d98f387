"""The console's server side: who may look, what looking costs, and that it can harm nothing."""

from __future__ import annotations

import asyncio
import json
import logging
import re
import tomllib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http.cookies import SimpleCookie
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from drizzle_streams.coordinator import console_feed
from drizzle_streams.coordinator.console_feed import (
    FEED_PATH,
    SUBSCRIBERS_MAX,
    TICKS_QUEUED_MAX,
    Feed,
    Subscriber,
)
from drizzle_streams.coordinator.console_page import page_files
from drizzle_streams.coordinator.console_reports import REPORTS_KEPT_MAX, Reports
from drizzle_streams.coordinator.console_session import FORM_BYTES_MAX, TICKET_TTL_S
from drizzle_streams.coordinator.console_view import Leader
from drizzle_streams.core.events import Received
from drizzle_streams.core.machine import Actions
from drizzle_streams.core.reporting import REPORT_INTERVAL_S
from drizzle_streams.errors import BackPressureError
from drizzle_streams.model.ids import (
    BatchId,
    Generation,
    JobId,
    NodeId,
    PartitionId,
    StageId,
    WorkerId,
)
from drizzle_streams.protocol import messages as msg
from drizzle_streams.protocol import parts
from drizzle_streams.protocol.tokens import TokenKind
from drizzle_streams.transport.auth import SESSION_COOKIE, SESSION_TTL_S
from tests.bearer import bearer, minted
from tests.services.service_worlds import (
    TOKEN,
    ask,
    job_becomes,
    job_file,
    members,
    source,
    submit,
    until,
    worker,
)

ROOT = Path(__file__).resolve().parents[2]
LEADER = Leader("coordinator", "http://127.0.0.1:1", 1, 0.0, "0")


class View:
    """Counts what was asked of it."""

    def __init__(self) -> None:
        self.clusters = self.jobs = 0
        self.broken = False
        self.last_line = 0

    def cluster(self, leader: Leader, after: int) -> dict[str, Any]:
        if self.broken:
            raise LookupError("a fault of the view")
        self.clusters += 1
        return {"jobs": []}

    def chosen(self, wanted: JobId | None) -> JobId | None:
        return wanted

    def frontier(self, name: JobId) -> BatchId:
        return BatchId(7)

    def job(self, name: JobId, after: BatchId) -> dict[str, Any]:
        self.jobs += 1
        return {"job": name, "after": after}


@pytest.fixture
def view() -> View:
    return View()


@pytest.fixture
def feed(view: View) -> Feed:
    return Feed(view, lambda: LEADER)  # type: ignore[arg-type]


@asynccontextmanager
async def ticking(feed: Feed) -> AsyncIterator[asyncio.Task[None]]:
    task = asyncio.create_task(feed.run())
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.wait({task})


async def turns(count: int = 20) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


# --- what looking costs ------------------------------------------------------------------------


async def test_nothing_is_worked_out_while_nobody_looks(feed, view, monkeypatch):
    monkeypatch.setattr(console_feed, "TICK_S_MAX", 0.0)  # a tick per turn of the loop
    async with ticking(feed):
        await turns()
        assert (feed.ticks, view.clusters) == (0, 0)
        looking = feed.join(None)
        await turns()
        assert feed.ticks > 5
        feed.leave(looking)
        await turns(3)  # the tick under way may still come
        before = (feed.ticks, view.clusters)
        await turns()
        assert (feed.ticks, view.clusters) == before


async def test_a_tick_is_worked_out_once_however_many_look(feed, view):
    looking = [feed.join(JobId("sums")) for _ in range(10)]
    view.clusters = view.jobs = 0
    feed.tick()
    assert (view.clusters, view.jobs) == (1, 1)
    last = [_last(subscriber) for subscriber in looking]
    assert len(last) == 10
    assert len(set(last)) == 1


async def test_a_slow_reader_is_dropped_and_the_others_go_on(feed):
    slow, quick = feed.join(None), feed.join(None)
    for _ in range(TICKS_QUEUED_MAX + 1):
        feed.tick()
        quick.queue.get_nowait()
    assert feed.dropped == 1
    assert slow.queue.get_nowait() is None
    assert slow.queue.empty()
    feed.tick()
    assert quick.queue.get_nowait() is not None


async def test_so_many_may_look_and_no_more(feed):
    looking = [feed.join(None) for _ in range(SUBSCRIBERS_MAX)]
    with pytest.raises(BackPressureError, match=str(SUBSCRIBERS_MAX)):
        feed.join(None)
    feed.leave(looking[0])
    feed.join(None)


async def test_a_tick_that_fails_ends_the_streams_and_nothing_else(feed, view, caplog):
    caplog.set_level(logging.ERROR)
    async with ticking(feed) as task:
        looking = feed.join(None)
        view.broken = True
        await until(lambda: looking.queue.qsize() > 0 and _last(looking) is None, "the stream has ended")
        assert not task.done()
        with pytest.raises(LookupError):
            feed.join(None)
        view.broken = False
        again = feed.join(None)
        await until(lambda: again.queue.qsize() > 1, "it ticks again")
    assert "a fault of the view" in caplog.text


async def test_a_life_that_is_over_ends_every_stream(feed):
    before = feed.join(None)
    feed.end()
    after = feed.join(None)
    assert (_last(before), _last(after)) == (None, None)


def _last(subscriber: Subscriber) -> bytes | None:
    """What was offered last; None if the stream ended."""
    found: bytes | None = None
    while not subscriber.queue.empty():
        found = subscriber.queue.get_nowait()
    return found


# --- reports -----------------------------------------------------------------------------------


class Within:
    """A role that wants nothing."""

    def __init__(self) -> None:
        self.handled = 0

    def handle(self, event: object, now: float, out: object) -> None:
        self.handled += 1


def report(batch: int, partition: int, took_ms: float | None = None, worker: str = "w") -> Received:
    tasks = () if took_ms is None else (parts.TaskLateness(StageId(0), BatchId(batch), took_ms),)
    done = (parts.Done(StageId(0), (PartitionId(partition),), BatchId(batch), BatchId(batch)),)
    message = msg.DoneReport(JobId("sums"), Generation(1), WorkerId(worker), done, (), False, tasks)
    return Received(NodeId(worker), message, carried=False)


def test_reports_say_when_a_partition_was_first_heard_done_and_how_long_it_took():
    within = Within()
    reports = Reports(within)  # type: ignore[arg-type]
    out: Any = Actions()
    for at, event in (
        (1.0, report(3, 0, 12.0)),
        (1.1, report(3, 1, 30.0)),
        (1.2, report(3, 0)),
        (1.3, report(9, 0)),
    ):
        reports.handle(event, at, out)
    assert within.handled == 4
    times = reports.done(JobId("sums"), BatchId(2), BatchId(4), 0.0)
    assert times.heard == {(3, 0): {0: (1.0, "w"), 1: (1.1, "w")}}
    assert times.took == {(3, 0): {"w": 30.0}}
    assert reports.done(JobId("others"), BatchId(2), BatchId(4), 0.0).heard == {}


def test_reports_are_kept_within_a_bound():
    reports = Reports(Within())  # type: ignore[arg-type]
    for number in range(REPORTS_KEPT_MAX + 10):
        reports.handle(report(number, 0), float(number), Actions())  # type: ignore[arg-type]
    assert len(reports._heard) == REPORTS_KEPT_MAX


# --- who may look ------------------------------------------------------------------------------


async def sign_in(address: str, token: str, **headers: str) -> tuple[int, dict[str, str], str]:
    async with (
        aiohttp.ClientSession() as session,
        session.post(
            f"{address}/console/session", data={"token": token}, headers=headers, allow_redirects=False
        ) as got,
    ):
        return got.status, dict(got.headers), await got.text()


def session_cookie(headers: dict[str, str]) -> Any:
    return SimpleCookie(headers["Set-Cookie"])[SESSION_COOKIE]


async def test_the_secret_gives_a_session_that_no_script_reads_and_no_other_site_sends(coordinator):
    status, headers, _ = await sign_in(coordinator.address, TOKEN)
    assert (status, headers["Location"]) == (303, "/")
    cookie = session_cookie(headers)
    assert (cookie["httponly"], cookie["samesite"], cookie["path"]) == (True, "Strict", "/")
    assert int(cookie["max-age"]) == SESSION_TTL_S
    assert TOKEN not in headers["Set-Cookie"]


async def test_a_session_looks_and_changes_nothing(coordinator):
    _, headers, _ = await sign_in(coordinator.address, TOKEN)
    cookie = {"Cookie": f"{SESSION_COOKIE}={session_cookie(headers).value}"}
    address = coordinator.address
    for path in ("/", "/status", "/console/page/console.js"):
        assert (await ask("GET", address + path, token=None, headers=cookie)).status == 200
    for method, path in (("POST", "/jobs"), ("POST", "/jobs/sums/stop"), ("POST", "/nodes/w/exited")):
        assert (await ask(method, address + path, token=None, body=b"", headers=cookie)).status == 401


async def test_a_session_lives_no_longer_than_the_token_it_was_given_for(coordinator):
    status, headers, _ = await sign_in(coordinator.address, minted(TOKEN, TokenKind.USER, ttl_s=100.0))
    assert status == 303
    assert int(session_cookie(headers)["max-age"]) <= 100


@pytest.mark.parametrize("kind", [TokenKind.INGEST, TokenKind.METRICS, TokenKind.CLUSTER])
async def test_tokens_of_other_kinds_sign_nobody_in(coordinator, kind):
    status, headers, text = await sign_in(coordinator.address, minted(TOKEN, kind))
    assert (status, "Set-Cookie" in headers) == (401, False)
    assert "neither this cluster’s secret" in text


async def test_a_form_of_another_site_or_a_large_one_is_refused(coordinator):
    foreign = await sign_in(coordinator.address, TOKEN, **{"Sec-Fetch-Site": "cross-site"})
    assert (foreign[0], "Set-Cookie" in foreign[1]) == (403, False)
    assert (await sign_in(coordinator.address, "x" * (FORM_BYTES_MAX + 1)))[0] == 413


async def test_a_link_must_be_used_soon(coordinator):
    address = coordinator.address

    async def enter(ttl_s: float) -> int:
        ticket = minted(TOKEN, TokenKind.USER, ttl_s=ttl_s)
        async with (
            aiohttp.ClientSession() as session,
            session.get(f"{address}/console/enter?ticket={ticket}", allow_redirects=False) as got,
        ):
            return got.status

    assert await enter(TICKET_TTL_S / 2) == 303
    assert await enter(TICKET_TTL_S * 2) == 401, "a token that lives long is none for a link"
    assert await enter(-100.0) == 401


async def test_without_a_session_nothing_but_the_form_is_shown(coordinator):
    address = coordinator.address
    page = await ask("GET", f"{address}/", token=None)
    assert page.status == 401
    assert b"/console/session" in page.body
    assert b"<script" not in page.body
    for path in (FEED_PATH, "/console/page/console.js"):
        assert (await ask("GET", address + path, token=None)).status == 401


async def test_the_page_may_load_nothing_from_elsewhere_and_be_framed_by_nobody(coordinator):
    policy = (await ask("GET", f"{coordinator.address}/")).headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "script-src 'self';" in policy
    assert "frame-ancestors 'none'" in policy


def test_whatever_the_page_loads_is_there_and_is_packed() -> None:
    page = ROOT / "services/drizzle_streams/coordinator/page"
    loaded = set(re.findall(r'"/console/page/([^"]+)"', (page / "index.html").read_text()))
    for script in page.glob("*.js"):
        loaded |= set(re.findall(r'from "\./([^"]+)"', script.read_text()))
    assert loaded <= set(page_files())
    package = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]
    packed = {file for glob in package["drizzle_streams.coordinator"] for file in page.parent.glob(glob)}
    assert {file for file in page.rglob("*") if file.is_file()} == packed


# --- the stream itself -------------------------------------------------------------------------


async def test_the_feed_shows_a_job_and_what_workers_measured_of_its_batches(coordinator):
    address = coordinator.address
    async with members(worker(address), source(address)):
        assert (await submit(address, job_file())).status == 201
        await job_becomes(address, lambda job: job["frontier"] > 5, "some batches are done")
        seen: dict[str, Any] = {}

        async def shown() -> bool:
            seen.update(await first_events(address))
            batches = seen["job"]["timeline"]
            return any(entry["took_ms"] for batch in batches for stage in batch["stages"] for entry in stage)

        await until(shown, "a batch is told apart by stage")
    assert [job["job"] for job in seen["cluster"]["jobs"]] == ["sums"]
    assert seen["cluster"]["leader"]["address"] == address
    assert seen["job"]["report_ms"] == REPORT_INTERVAL_S * 1000.0
    assert len(seen["job"]["points"]) > 5
    assert all(ms >= 0 for _, _, ms in seen["job"]["points"])


async def first_events(address: str) -> dict[str, Any]:
    """The first `cluster` and `job` of a new stream."""
    found: dict[str, Any] = {}
    async with (
        aiohttp.ClientSession(headers={"Authorization": bearer(TOKEN)}) as session,
        session.get(f"{address}{FEED_PATH}?job=sums") as stream,
    ):
        assert stream.content_type == "text/event-stream"
        name = ""
        async for line in stream.content:
            field, _, value = line.decode().strip().partition(": ")
            if field == "event":
                name = value
            elif field == "data":
                found[name] = json.loads(value)
            if len(found) == 2:
                return found
    raise AssertionError(f"the stream ended after {list(found)}")

"""The coordinator service over real sockets: jobs, doors, restarts, garbage."""

from __future__ import annotations

import asyncio
import json
from contextlib import AsyncExitStack

import aiohttp
import pytest

from drizzle_streams.coordinator import routes
from drizzle_streams.errors import ConfigError, FencedError, StoreError
from drizzle_streams.local.ports import free_port
from drizzle_streams.model.ids import Generation
from drizzle_streams.protocol.jobfile import JOB_BYTES_MAX, JOB_MEDIA_TYPE
from drizzle_streams.protocol.tokens import Keyring
from drizzle_streams.stores.redis import RedisLedger
from drizzle_streams.stores.redis_link import LinkBounds
from drizzle_streams.transport.releases import own_release
from tests.bearer import bearer
from tests.services.service_worlds import (
    TOKEN,
    Answer,
    ask,
    coordinator_on,
    ends,
    job_becomes,
    job_file,
    members,
    running,
    source,
    submit,
    two_stages,
    until,
    worker,
)


def done(batches: int):
    return lambda values: values["batches_done"] >= batches


async def test_a_job_is_submitted_runs_and_is_stopped(coordinator):
    at = coordinator.address
    answer = await submit(at, job_file())
    assert (answer.status, answer.json) == (201, {"job": "sums"})
    waiting = (await ask("GET", f"{at}/jobs/sums")).json
    assert (waiting["phase"], waiting["waits_for"]) == ("waiting", "a worker and a source")

    async with members(worker(at), worker(at), source(at)):
        values = await job_becomes(
            at, lambda v: v["batches_done"] >= 30 and v["checkpoint"]["batch"] > 0, "runs"
        )
        assert values["phase"] == "running"
        assert values["generation"] > 0
        assert values["run"] == f"sums@{values['generation']}"
        assert (values["group_size"], values["groups_launched"] >= 6) == (5, True)
        assert values["checkpoint"]["age_ms"] >= 0
        assert sorted(p for w in values["placement"].values() for p in w.get("1", [])) == [0, 1, 2, 3]
        assert len(values["placement"]) == 2
        latency = values["batch_latency_ms"]
        assert latency["all"]["p50"] <= latency["all"]["p95"] <= latency["all"]["max"]
        assert latency["recent"]["count"] <= latency["all"]["count"]
        assert values["recoveries"] == []
        assert set(values["sources"]) == {"source"}

        assert (await ask("DELETE", f"{at}/jobs/sums")).status == 202
        stopped = await job_becomes(at, lambda v: v["phase"] == "stopped", "stops")
        assert stopped["detail"] == "stopped by request"
        assert stopped["frontier"] == stopped["group"]["last"]
    assert (await ask("DELETE", f"{at}/jobs/sums")).json == {"job": "sums", "phase": "stopped"}


async def test_the_program_is_handed_out_while_the_job_is_active_and_then_gone(coordinator, ledger):
    at, data = coordinator.address, job_file(program=b"p" * 1000)
    await submit(at, data)
    answer = await ask("GET", f"{at}/jobs/sums/program")
    assert (answer.status, unsealed(answer)) == (200, data)
    assert answer.headers["Content-Type"] == JOB_MEDIA_TYPE
    assert "program:sums" in await ledger.read()

    await ask("DELETE", f"{at}/jobs/sums")
    await job_becomes(at, lambda v: v["phase"] == "stopped", "stops")
    await until(lambda: "program:sums" not in ledger.sealed, "the program is forgotten")
    assert (await ask("GET", f"{at}/jobs/sums/program")).status == 404


async def test_a_name_is_taken_while_its_job_is_active_and_free_afterwards(coordinator):
    at = coordinator.address
    answers = await asyncio.gather(*(submit(at, job_file(program=bytes([i]))) for i in range(5)))
    assert sorted(answer.status for answer in answers) == [201, 409, 409, 409, 409]
    refused = next(answer for answer in answers if answer.status == 409)
    assert "Stop that job first" in refused.error

    await ask("DELETE", f"{at}/jobs/sums")
    await job_becomes(at, lambda v: v["phase"] == "stopped", "stops")
    again = job_file(program=b"another")
    assert (await submit(at, again)).status == 201
    assert unsealed(await ask("GET", f"{at}/jobs/sums/program")) == again


async def test_jobs_that_come_at_once_count_against_the_bound(coordinator, monkeypatch):
    monkeypatch.setattr(routes, "JOBS_ACTIVE_MAX", 2)
    at = coordinator.address
    files = [job_file(two_stages(name=f"job-{number}")) for number in range(5)]
    answers = await asyncio.gather(*(submit(at, file) for file in files))
    assert sorted(answer.status for answer in answers) == [201, 201, 429, 429, 429]


async def test_a_second_run_of_a_name_is_another_run(coordinator):
    at = coordinator.address
    async with members(worker(at), source(at)):
        await submit(at, job_file())
        first = await job_becomes(at, done(10), "runs")
        await ask("DELETE", f"{at}/jobs/sums")
        await job_becomes(at, lambda v: v["phase"] == "stopped", "stops")
        await submit(at, job_file())
        second = await job_becomes(at, done(10), "runs again")
    assert first["run"] != second["run"]


async def test_stopping_a_job_removes_its_snapshots_and_fences_its_run(coordinator, snapshots):
    at = coordinator.address
    async with members(worker(at), source(at)):
        await submit(at, job_file())
        values = await job_becomes(at, done(5), "runs")
        run, generation = values["run"], Generation(values["generation"])
        await snapshots.put(run, generation, [("lost/part", b"of a worker that died")])
        await ask("DELETE", f"{at}/jobs/sums")
        await job_becomes(at, lambda v: v["phase"] == "stopped", "stops")

    async def cleared() -> bool:
        return not await snapshots.written_before(run, Generation(generation + 1_000))

    await until(cleared, "the run's snapshots are gone")
    with pytest.raises(FencedError):
        await snapshots.put(run, generation, [("late/part", b"of a worker that was paused")])


# --- verdicts and restarts ---------------------------------------------------------------------


async def test_a_worker_whose_process_ended_is_replaced_at_once():
    async with AsyncExitStack() as stack:
        service = coordinator_on(lease_ms=600_000)  # no lease ends within this test
        at = (await stack.enter_async_context(running(service))).address
        await stack.enter_async_context(members(source(at), worker(at)))
        doomed = worker(at)
        async with doomed.living():
            await until(lambda: joined(at, doomed.id), "the doomed worker is a member")
            await submit(at, job_file())
            await job_becomes(at, lambda v: v["batches_done"] > 5 and len(v["placement"]) == 2, "both work")
        assert (await ask("POST", f"{at}/nodes/{doomed.id}/exited")).status == 202
        values = await job_becomes(at, lambda v: len(v["recoveries"]) == 1, "recovers")
        recovery = values["recoveries"][0]
        assert doomed.id in recovery["reason"]
        assert recovery["seconds"] >= 0
        assert recovery["moved"] > 0
        assert doomed.id not in values["placement"]
        status = (await ask("GET", f"{at}/status")).json
        assert doomed.id not in {member["id"] for member in status["workers"]}
        assert status["workers_lost"] == 1
        story = (await ask("GET", f"{at}/debug/story")).json["story"]
        kinds = [line["kind"] for line in story]
        assert kinds.index("WorkerLost") < kinds.index("RecoveryPlanned") < kinds.index("Recovered")


async def joined(at, node):
    return node in {member["id"] for member in (await ask("GET", f"{at}/status")).json["workers"]}


async def test_a_coordinator_that_restarts_goes_on_from_the_ledger(ledger, snapshots):
    async with running(coordinator_on(ledger, snapshots)) as service:
        at = service.address
        port = int(at.rsplit(":", 1)[1])
        cluster = members(worker(at), worker(at), source(at))
        await cluster.__aenter__()
        await submit(at, job_file(program=b"kept"))
        before = await job_becomes(at, lambda v: v["checkpoint"]["batch"] > 5, "runs")
    try:
        again = coordinator_on(ledger, snapshots, port=port)
        async with running(again):
            restored = (await ask("GET", f"{at}/jobs/sums")).json
            assert restored["checkpoint"]["batch"] >= before["checkpoint"]["batch"]
            assert restored["run"] == before["run"]
            after = await job_becomes(at, done(before["batches_done"] + 50), "goes on")
            assert after["generation"] > before["generation"]
            assert after["run"] == before["run"]
            assert after["placement"] == before["placement"], "living workers keep what they hold"
            program = await ask("GET", f"{at}/jobs/sums/program")
            assert unsealed(program) == job_file(program=b"kept")
    finally:
        await cluster.__aexit__(None, None, None)


async def test_orphaned_programs_are_swept_at_a_start(ledger):
    await ledger.write(await ledger.raise_generation(), {"program:gone": b"of a submission cut short"}, [])
    async with running(coordinator_on(ledger)) as service:
        assert (await ask("GET", f"{service.address}/jobs/gone/program")).status == 404
        assert "program:gone" not in await ledger.read()


async def test_a_ledger_that_does_not_take_what_the_machine_decided_ends_the_coordinator(ledger, monkeypatch):
    service = coordinator_on(ledger)

    async def refuse(*_: object) -> None:
        raise StoreError("the disk is gone")

    async def lose_the_ledger() -> None:
        await submit(service.address, job_file())
        monkeypatch.setattr(ledger, "write", refuse)
        assert (await ask("DELETE", f"{service.address}/jobs/sums")).status == 202

    assert "the disk is gone" in str(await ends(service, lose_the_ledger))


async def test_a_port_that_is_taken_is_a_config_error(coordinator):
    port = int(coordinator.address.rsplit(":", 1)[1])
    with pytest.raises(ConfigError, match=str(port)):
        await coordinator_on(port=port).run(asyncio.Event())


async def test_a_redis_that_cannot_be_reached_is_a_config_error():
    url = f"redis://127.0.0.1:{free_port()}/0"
    ledger = RedisLedger(url, bounds=LinkBounds(outage_s_max=0.2))
    with pytest.raises(ConfigError, match="Redis at 127.0.0.1"):
        await coordinator_on(ledger).run(asyncio.Event())


# --- doors -------------------------------------------------------------------------------------


def unsealed(answer: Answer) -> bytes:
    """The job file in an answer, as workers take it."""
    return Keyring((TOKEN,)).unseal("sums", answer.body)


PROTECTED = [
    ("POST", "/jobs"),
    ("GET", "/jobs"),
    ("GET", "/jobs/sums"),
    ("DELETE", "/jobs/sums"),
    ("GET", "/jobs/sums/program"),
    ("GET", "/status"),
    ("POST", "/nodes/worker-1/exited"),
    ("GET", "/debug/story"),
    ("GET", "/link"),
]


@pytest.mark.parametrize(("method", "path"), PROTECTED)
async def test_doors_want_the_clusters_token(coordinator, method, path):
    for token in (None, "wrong"):
        answer = await ask(method, coordinator.address + path, token=token)
        assert answer.status == 401


async def test_public_doors(coordinator):
    at = coordinator.address
    assert (await ask("GET", f"{at}/healthz", token=None)).json["status"] == "alive"
    assert (await ask("GET", f"{at}/readyz", token=None)).json == {"status": "ready"}
    assert b"drizzle_generation" in (await ask("GET", f"{at}/metrics", token=None)).body


@pytest.mark.parametrize(
    ("body", "status", "says"),
    [
        (b"", 400, "job file"),
        (b"not a job", 400, "job file"),
        (b"DRZJOB\x00\x63rest", 400, "format"),
        (job_file()[:-5], 400, ""),
        (job_file(two_stages(batch_interval_ms=0.0)), 400, "batch_interval_ms"),
        (job_file(two_stages(batch_interval_ms=float("nan"))), 400, "batch_interval_ms"),
        (job_file(two_stages(group_size=0)), 400, "group_size"),
        (job_file(two_stages(name="../etc")), 400, "job name"),
        (job_file(two_stages(stages=())), 400, "stages"),
        (job_file(two_stages(start_from="yesterday")), 400, "start_from"),
        (job_file(two_stages(key_groups=2)), 400, "partitions"),
    ],
)
async def test_a_bad_job_is_refused_with_its_reason(coordinator, body, status, says):
    answer = await submit(coordinator.address, body)
    assert (answer.status, says in answer.error) == (status, True), answer.body
    assert (await ask("GET", f"{coordinator.address}/jobs")).json == {"jobs": []}


async def test_other_types_and_oversized_bodies_are_refused(coordinator):
    at = coordinator.address
    answer = await ask("POST", f"{at}/jobs", body=job_file(), headers={"Content-Type": "application/json"})
    assert answer.status == 415
    answer = await submit(at, bytes(JOB_BYTES_MAX + 1))
    assert answer.status == 413


async def test_unknown_jobs_are_404(coordinator):
    for method, path in (("GET", "/jobs/none"), ("DELETE", "/jobs/none"), ("GET", "/jobs/none/program")):
        assert (await ask(method, coordinator.address + path)).status == 404


async def test_garbage_on_a_link_is_refused_and_counted(coordinator):
    at = coordinator.address
    headers = {
        "Authorization": bearer(TOKEN),
        "Drizzle-Node": "worker-x",
        "Drizzle-Address": "http://127.0.0.1:9",
        "Drizzle-To": "coordinator",
        "Drizzle-Release": own_release(),
    }
    frames = [b"\x00" * 100, b"\xc1garbage", b"\x93\x01\x90\x90"]
    for frame in frames:
        async with (
            aiohttp.ClientSession() as session,
            session.ws_connect(f"{at}/link", headers=headers) as link,
        ):
            await link.send_bytes(len(frame).to_bytes(4, "little") + frame)
            await link.send_bytes(b"no frame at all")
            async with asyncio.timeout(20):
                await link.receive()

    async def refused() -> float:
        text = (await ask("GET", f"{at}/metrics", token=None)).body.decode()
        lines = [line for line in text.splitlines() if line.startswith("drizzle_messages_refused_total{")]
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines if "undecodable" in line)

    assert await refused() == len(frames)
    async with members(worker(at), source(at)):
        await submit(at, job_file())
        await job_becomes(at, done(5), "the coordinator works on")


async def test_metrics_tell_of_groups_checkpoints_and_overhead(coordinator):
    at = coordinator.address
    async with members(worker(at), source(at)):
        await submit(at, job_file())
        values = await job_becomes(at, lambda v: v["checkpoint"]["batch"] > 20, "commits")
        text = (await ask("GET", f"{at}/metrics", token=None)).body.decode()
        numbers = {
            line.split("{")[0]: float(line.rsplit(" ", 1)[1])
            for line in text.splitlines()
            if 'job="sums"' in line and "_bucket" not in line
        }
        assert numbers["drizzle_frontier_batch"] >= values["frontier"]
        assert numbers["drizzle_group_size_batches"] == 5
        assert numbers["drizzle_groups_launched_total"] >= 4
        assert numbers["drizzle_launch_messages_total"] >= 2 * 4
        assert numbers["drizzle_launch_bytes_total"] > numbers["drizzle_launch_messages_total"] * 10
        assert 0 < numbers["drizzle_overhead_ratio"] < 1
        assert numbers["drizzle_checkpoints_total"] >= 1
        assert 'drizzle_workers{state="alive"} 1.0' in text
        assert (await ask("DELETE", f"{at}/jobs/sums")).status == 202
        await job_becomes(at, lambda v: v["phase"] == "stopped", "stops")
        assert b'job="sums"' not in (await ask("GET", f"{at}/metrics", token=None)).body


async def test_status_names_the_members(coordinator):
    at = coordinator.address
    one = worker(at)
    values: dict = {}

    async def both_are_there() -> bool:
        values.update((await ask("GET", f"{at}/status")).json)
        return bool(values["workers"] and values["sources"])

    async with members(one, source(at, "disk-1", partitions=3)):
        await until(both_are_there, "both are members")
    assert [(m["id"], m["address"], m["suspected"]) for m in values["workers"]] == [
        (one.id, one.address, False)
    ]
    assert [(m["id"], m["partitions"]) for m in values["sources"]] == [("disk-1", 3)]
    assert values["jobs"] == []
    json.dumps(values)

"""The cluster of compose.yaml, brought up, loaded, and hurt in every way that containers can be hurt.

Each test leaves a whole cluster behind. Whatever happens, the load generator's oracle must find every
count exact: that is the promise, and it does not depend on how fast this machine is.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from tests.compose.compose_stack import COORDINATORS, JOB, Load, Stack, fetched, until
from tests.deploy.panel_queries import boards as dashboards
from tests.deploy.panel_queries import unanswered

pytestmark = [pytest.mark.compose, pytest.mark.timeout(900)]

RATE = 4_000
SECONDS = 12.0
UNDER_WAY_S = 3.0
"""Seconds of events that are taken before something happens."""

Start = Callable[[int, float], Load]


def test_one_command_brings_up_a_cluster_with_a_job(stack: Stack) -> None:
    status = stack.ask("/status")
    assert len(status["workers"]) == 3
    assert sorted(source["id"] for source in status["sources"]) == ["source-1", "source-2"]
    assert [(job["job"], job["phase"]) for job in status["jobs"]] == [(JOB, "running")]
    stack.goes_on()
    said = stack.compose("exec", "-T", "coordinator", "drizzle", "status")
    assert JOB in said
    assert "source-2" in said


def test_containers_are_locked_down(stack: Stack) -> None:
    ours = [container for container in stack.all_containers().values() if _is_ours(container)]
    assert len(ours) >= 9
    for container in ours:
        host = container["HostConfig"]
        assert host["ReadonlyRootfs"], container["Name"]
        assert container["Config"]["User"] == "10001:10001"
        assert host["CapDrop"] == ["ALL"]
        assert "no-new-privileges:true" in host["SecurityOpt"]
    for container in stack.all_containers().values():
        host = container["HostConfig"]
        assert host["Memory"] > 0, container["Name"]
        assert host["NanoCpus"] > 0
        assert host["LogConfig"]["Config"] == {"max-file": "3", "max-size": "10m"}
        published = [place for places in (host["PortBindings"] or {}).values() for place in places]
        assert {place["HostIp"] for place in published} <= {"127.0.0.1"}


def test_the_secret_is_made_here_and_only_the_services_may_read_it(stack: Stack) -> None:
    shown = stack.compose("exec", "-T", "worker", "stat", "-c", "%a %u", "/run/drizzle/secret")
    assert shown.split() == ["400", "10001"]
    secret = stack.compose("exec", "-T", "worker", "cat", "/run/drizzle/secret")
    assert len(secret) == 64
    for container in stack.all_containers().values():
        assert secret not in str(container), container["Name"]  # neither its environment nor its command


def test_the_benchmark_at_full_rate_is_exact(stack: Stack, load: Start) -> None:
    running = load(20_000, 60.0)
    running.has_taken(UNDER_WAY_S)
    running.verdict()


def test_a_worker_killed_is_started_again_and_counts_are_exact(stack: Stack, load: Start) -> None:
    running = load(RATE, SECONDS)
    running.has_taken(UNDER_WAY_S)
    [victim, *_] = stack.containers("worker")
    lives = {worker for worker in stack.workers() if worker.startswith(victim[:12])}
    stack.kill_9(victim)
    until("the restart policy starts it again", lambda: stack.inspect(victim)["RestartCount"] == 1)
    until("it is a member under a new name", lambda: _lives(stack, victim) - lives)
    until("its old life is judged", lambda: not lives & stack.workers())
    running.verdict()


def test_five_workers_and_back_to_two_under_load(stack: Stack, load: Start) -> None:
    running = load(RATE, SECONDS * 2)
    running.has_taken(UNDER_WAY_S)
    stack.compose("up", "-d", "--no-recreate", "--no-deps", "--scale", "worker=5", "worker")
    until("five workers are members", lambda: len(stack.workers()) == 5)
    until("all of them have partitions", lambda: len(_owners(stack)) == 5)
    five = stack.workers()
    stack.compose("up", "-d", "--no-recreate", "--no-deps", "--scale", "worker=2", "worker")
    until("two workers are members", lambda: len(stack.workers()) == 2)
    until("they have all partitions", lambda: _owners(stack) == stack.workers())
    assert all(stack.told("WorkerLeaving", gone) for gone in five - stack.workers())  # asked, not lost
    running.verdict()
    stack.compose("up", "-d", "--no-recreate", "--no-deps", "--wait", "--scale", "worker=3", "worker")
    until("three again", lambda: len(stack.workers()) == 3)


def test_a_worker_cut_off_is_refused_and_joins_again(stack: Stack, load: Start) -> None:
    running = load(RATE, SECONDS * 2)
    running.has_taken(UNDER_WAY_S)
    [victim, *_] = stack.containers("worker")
    [life] = _lives(stack, victim)
    network = f"{stack.name}_default"
    stack.docker("network", "disconnect", network, victim)
    cut_off = time.monotonic()
    until("it is judged", lambda: stack.told("WorkerLost", life))
    until("ten seconds are over", lambda: time.monotonic() - cut_off > 10.0)
    stack.docker("network", "connect", "--alias", "worker", network, victim)
    until("it was refused as who it was", lambda: "joins again" in stack.logs(victim))
    until("it is a member under a new name", lambda: _lives(stack, victim) - {life})
    assert life not in stack.workers()
    assert stack.inspect(victim)["State"]["Running"]
    running.verdict()


def test_redis_restarted(stack: Stack, load: Start) -> None:
    running = load(RATE, SECONDS)
    running.has_taken(UNDER_WAY_S)
    [redis] = stack.containers("redis")
    started = stack.inspect(redis)["State"]["StartedAt"]
    stack.compose("restart", "redis")
    assert stack.inspect(redis)["State"]["StartedAt"] != started
    stack.goes_on()
    running.verdict()


def test_the_standby_takes_over_from_a_killed_coordinator(stack: Stack, load: Start) -> None:
    running = load(RATE, SECONDS)
    running.has_taken(UNDER_WAY_S)
    [leader] = _leaders(stack)
    [successor] = set(COORDINATORS) - {leader}
    stack.compose("kill", "--signal", "SIGKILL", leader)  # by hand: no restart policy brings it back
    until("the standby leads", lambda: _leaders(stack) == [successor])
    assert stack.told("JobRestored", "from the ledger")
    stack.goes_on()
    running.verdict()
    stack.compose("up", "-d", "--no-deps", "--no-recreate", "--wait", leader)
    assert _leaders(stack) == [successor]  # who comes back stands by


def test_prometheus_reads_all_and_every_query_of_the_dashboards_has_data(stack: Stack) -> None:
    """After all that happened above, so that panels about recoveries have some to show."""
    prometheus, grafana = stack.address("prometheus"), stack.address("grafana")
    until("Prometheus scrapes every service", lambda: _scraped(prometheus) == {"up": 2 + 2 + 3})
    waiting: list[str] = []

    def all_answered() -> bool:
        waiting[:] = unanswered(prometheus, stack.since, time.time())
        return not waiting

    until("the last scrape answers all", all_answered, seen=waiting)
    boards = fetched(f"{grafana}/api/search?type=dash-db")
    assert {board["title"] for board in boards} == {board["title"] for board in dashboards().values()}


def test_stop_ends_in_order_and_up_goes_on_from_the_last_checkpoint(stack: Stack, load: Start) -> None:
    running = load(RATE, SECONDS * 2)
    running.has_taken(UNDER_WAY_S)
    checkpoint = stack.ask(f"/jobs/{JOB}")["checkpoint"]["batch"]
    stack.compose("stop")
    ended = {name: c["State"] for name, c in stack.all_containers().items() if _is_ours(c)}
    # 137 would be SIGKILL after the grace.
    assert {name: state["ExitCode"] for name, state in ended.items()} == dict.fromkeys(ended, 0)
    stack.compose("up", "-d", "--wait")
    until("a coordinator found the job", lambda: stack.told("JobRestored", "from the ledger"))
    assert stack.batches_done() > checkpoint > 0
    stack.goes_on()
    running.verdict()


def _scraped(prometheus: str) -> Counter[str]:
    """How many targets Prometheus finds up, and how many not."""
    return Counter(t["health"] for t in fetched(f"{prometheus}/api/v1/targets")["data"]["activeTargets"])


def _leaders(stack: Stack) -> list[str]:
    """The coordinators that answer as the one that leads."""
    return [service for service in COORDINATORS if stack.ask_one(service, "/status") is not None]


def _is_ours(container: dict[str, Any]) -> bool:
    labels = container["Config"]["Labels"]
    oneoff = labels.get("com.docker.compose.oneoff") == "True"
    return container["Config"]["Image"].startswith("drizzle-") and not oneoff


def _lives(stack: Stack, container: str) -> set[str]:
    """The members that the worker in this container is, or was: its host name and a suffix."""
    return {worker for worker in stack.workers() if worker.startswith(f"{container[:12]}-")}


def _owners(stack: Stack) -> set[str]:
    """The workers that own partitions of the job."""
    return set((stack.ask(f"/jobs/{JOB}") or {"placement": {}})["placement"])

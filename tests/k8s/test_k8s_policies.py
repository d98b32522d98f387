"""The network policies let through what the services really do, and nothing else.

Ports are those of the running services' settings, so a port that changes in one place only fails here.
`test_k8s_pods` holds the same policies against the connections of a cluster at work.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from drizzle_streams import config
from tests.k8s import manifests
from tests.k8s.manifests import SERVICES, Object, named, of_kind
from tests.k8s.policies import End, allowed, pod_of

WORKER_PORT = 7072
REDIS_PORT = 6379
PORTS = {
    "coordinator": config.COORDINATOR_PORT,
    "source": config.SOURCE_PORT,
    "worker": WORKER_PORT,
    "redis": REDIS_PORT,
}
NEEDED = {
    # Links are dialled by whoever has something to say first, so each pair that talks needs both directions.
    ("coordinator", "worker"),
    ("worker", "coordinator"),
    ("coordinator", "source"),
    ("source", "coordinator"),
    ("source", "worker"),
    ("worker", "source"),
    ("worker", "worker"),
    ("coordinator", "coordinator"),  # `kubectl exec` in a standby finds the leader
    ("coordinator", "redis"),
    ("worker", "redis"),
}
PEOPLE = {
    "client": End({"drizzle-client": "true"}),
    "producer": End({"drizzle-producer": "true"}),
    "client's namespace": End(namespace="shop", namespace_labels={"drizzle-client": "true"}),
    "producer's namespace": End(namespace="shop", namespace_labels={"drizzle-producer": "true"}),
    "monitoring": End({"app": "prometheus"}, namespace="monitoring"),
    "stranger here": End({"app": "shell"}),
    "stranger elsewhere": End({"drizzle-client": "true"}, namespace="shop"),
}
WELCOME = {
    ("client", "coordinator"),
    ("client", "redis"),
    ("producer", "source"),
    ("client's namespace", "coordinator"),
    ("client's namespace", "redis"),
    ("producer's namespace", "source"),
    ("monitoring", "coordinator"),
    ("monitoring", "source"),
    ("monitoring", "worker"),
}
NAMES = End({"k8s-app": "kube-dns"}, namespace="kube-system")


@pytest.fixture(name="policies")
def _policies(base: list[Object]) -> list[Object]:
    return of_kind(base, "NetworkPolicy")


@pytest.mark.parametrize("service", SERVICES)
def test_ports_are_those_of_the_manifests(base: list[Object], service: str) -> None:
    workload = named(base, "StatefulSet" if service == "source" else "Deployment", service)
    [container] = manifests.pod(workload)["containers"]
    assert [port["containerPort"] for port in container["ports"]] == [PORTS[service]]


@pytest.mark.parametrize("target", PORTS)
@pytest.mark.parametrize("source", PORTS)
def test_services_reach_whom_they_need_and_nobody_else(
    policies: list[Object], source: str, target: str
) -> None:
    found = allowed(policies, pod_of(source), pod_of(target), PORTS[target])
    assert found == ((source, target) in NEEDED)


@pytest.mark.parametrize("target", PORTS)
@pytest.mark.parametrize("who", PEOPLE)
def test_people_reach_what_is_for_them(policies: list[Object], who: str, target: str) -> None:
    assert allowed(policies, PEOPLE[who], pod_of(target), PORTS[target]) == ((who, target) in WELCOME)


@pytest.mark.parametrize("target", PORTS)
def test_other_ports_are_shut(policies: list[Object], target: str) -> None:
    for source in PORTS:
        assert not allowed(policies, pod_of(source), pod_of(target), 22)


@pytest.mark.parametrize("who", [*PORTS, "client", "producer", "stranger here"])
def test_everybody_asks_for_names_and_reaches_nothing_outside(policies: list[Object], who: str) -> None:
    source = pod_of(who) if who in PORTS else PEOPLE[who]
    assert allowed(policies, source, NAMES, 53, "UDP")
    assert allowed(policies, source, NAMES, 53, "TCP")
    assert not allowed(policies, source, End(address="93.184.216.34"), 443)
    assert not allowed(policies, source, End(address="169.254.169.254"), 80)  # a cloud's metadata service


def test_a_pod_without_a_policy_would_be_open(policies: list[Object]) -> None:
    """The judge itself: without the default, whoever is not selected may do everything."""
    others = [one for one in policies if one["metadata"]["name"] not in ("default-deny", "names")]
    stranger = PEOPLE["stranger here"]
    assert allowed(others, stranger, End(address="93.184.216.34"), 443)
    assert not allowed(others, stranger, pod_of("redis"), REDIS_PORT)


def test_production_reaches_a_redis_outside_and_only_who_needs_it(tree: Path) -> None:
    policies = of_kind(manifests.render(tree / "overlays" / "production"), "NetworkPolicy")
    redis = End(address="10.1.2.3")
    for source in SERVICES:
        assert allowed(policies, pod_of(source), redis, REDIS_PORT) == ((source, "redis") in NEEDED)
        assert not allowed(policies, pod_of(source), End(address="93.184.216.34"), REDIS_PORT)

"""The base as real pods: the benchmark's job on it is exact, also when the pod that leads is killed.

`playing` says what podman is spared. What Kubernetes would add is looked at otherwise: each probe is
asked once, and every connection between the pods is held against the network policies.
"""

from __future__ import annotations

import http.client
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.k8s import manifests
from tests.k8s.manifests import ROOT, Object, of_kind
from tests.k8s.playing import TOOL, Play, Played, established, podman, wanting
from tests.k8s.policies import End, allowed, pod_of
from tests.k8s.test_k8s_policies import PORTS

pytestmark = [pytest.mark.compose, pytest.mark.timeout(900)]

TAG = "k8s-test"
TARGETS = {"drizzle-streams": "services", "drizzle-loadgen": "loadgen"}
READY_TIMEOUT_S = 120.0
LOAD_TIMEOUT_S = 300.0
POLL_S = 0.5
ASK_READY = ("python", "-I", "-S", "/opt/drizzle/deploy/healthy.py", "/readyz")
"""The image's own check: it says why not, and nothing if all is well."""
LOAD_SECONDS = 20
LOAD = {
    "LOAD_RATE": "1000",
    "LOAD_SECONDS": str(LOAD_SECONDS),
    "LOAD_BLOCK_MS": "20",
    "YSB_WINDOW_MS": "5000",
}
OVERLAY = f"""\
apiVersion: kustomize.config.k8s.io/v1beta1
kind: Kustomization
namespace: drizzle
resources: [../base]
components: [../components/load]
replicas: [{{ name: worker, count: 2 }}] # the autoscaler's least
images: [{{ name: drizzle-streams, newTag: {TAG} }}, {{ name: drizzle-loadgen, newTag: {TAG} }}]
"""


@pytest.fixture(scope="module", name="objects")
def _objects(tmp_path_factory: pytest.TempPathFactory) -> list[Object]:
    """The base with two workers, the load beside it, and images of this test's own tag."""
    tree = manifests.with_secrets(tmp_path_factory.mktemp("k8s") / "k8s")
    load = tree / "components" / "load" / "load.env"
    given = dict(line.split("=", 1) for line in load.read_text().splitlines()) | LOAD
    load.write_text("".join(f"{name}={value}\n" for name, value in given.items()))
    folder = tree / "test-pods"
    folder.mkdir()
    (folder / "kustomization.yaml").write_text(OVERLAY)
    return manifests.render(folder)


@pytest.fixture(scope="module", name="cluster")
def _cluster(objects: list[Object], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Play]:
    if reason := wanting():
        pytest.skip(f"{reason}: the manifests are not run as pods")
    for image, target in TARGETS.items():
        build = [
            "docker",
            "build",
            "-q",
            "-f",
            "deploy/Dockerfile",
            "--target",
            target,
            "-t",
            f"{image}:{TAG}",
            ".",
        ]
        subprocess.run(build, cwd=ROOT, check=True, stdout=subprocess.PIPE, timeout=600)
    _load_into_podman([*(f"{image}:{TAG}" for image in TARGETS), "redis:7"])
    play = Play(tmp_path_factory.mktemp("pods"), objects)
    try:
        for component in ("redis", "coordinator", "source", "worker"):
            play.up(component)
        _wait_for_members(play)
        yield play
    finally:
        play.close()


def _load_into_podman(images: list[str]) -> None:
    inspected = subprocess.run(
        ["docker", "image", "inspect", "-f", "{{.Id}}", *images], capture_output=True, text=True, check=True
    )
    known = set(podman("images", "-q", "--no-trunc").split())
    missing = [
        image for image, found in zip(images, inspected.stdout.split(), strict=True) if found not in known
    ]
    if missing:
        with subprocess.Popen(["docker", "save", *missing], stdout=subprocess.PIPE) as saved:
            podman("load", "-q", stdin=saved.stdout, timeout_s=600)
        assert saved.returncode == 0


def _not_ready(play: Play) -> str:
    return "\n".join(
        filter(None, (play.probe(found) for found in play.played.values() if found.component != "load"))
    )


def _wait_for_members(play: Play) -> None:
    """Workers and sources are ready when the coordinator that leads has welcomed them."""
    doors = [
        (play.address(name), PORTS[component])
        for component in ("source", "worker")
        for found in play.of(component)
        for name in found.pods
    ]
    _until(lambda: all(_is_ready(*door) for door in doors), READY_TIMEOUT_S, play.logs)


def _is_ready(address: str, port: int) -> bool:
    connection = http.client.HTTPConnection(address, port, timeout=5)
    try:
        connection.request("GET", "/readyz")
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()


def _until(done: Callable[[], bool], timeout_s: float, why: Callable[[], str]) -> None:
    deadline = time.monotonic() + timeout_s
    while not done():
        assert time.monotonic() < deadline, f"not within {timeout_s:g} s: {why()}"
        time.sleep(POLL_S)


# --- the load -----------------------------------------------------------------------------


def _start_load(play: Play) -> Played:
    [load] = play.up("load")
    return load


def _state(play: Play, container: str) -> Object:
    return json.loads(podman("inspect", "-f", "{{json .State}}", container))


def _acknowledged(load: Played) -> int:
    """Records acknowledged so far, from the lines of progress."""
    said = [
        line for line in podman("logs", *load.containers, check=False).splitlines() if line.startswith("{")
    ]
    return json.loads(said[-1]).get("acknowledged", 0) if said else 0


def _verdict(play: Play, load: Played, *, while_it_runs: Callable[[], None] = lambda: None) -> Object:
    """Wait for the load's end; what it said at last."""
    [container] = load.containers

    def ended() -> bool:
        while_it_runs()
        return _state(play, container)["Status"] == "exited"

    _until(ended, LOAD_TIMEOUT_S, play.logs)
    said = podman("logs", container)
    assert _state(play, container)["ExitCode"] == 0, said + play.logs()
    verdict = json.loads(next(line for line in reversed(said.splitlines()) if line.startswith('{"exact"')))
    assert verdict["exact"]
    assert verdict["lost"] == verdict["duplicates"] == verdict["wrong"] == 0
    assert verdict["counted"] > 0
    return verdict


def _components(play: Play) -> dict[str, str]:
    """Whose address it is."""
    return {play.address(name): found.component for found in play.played.values() for name in found.pods}


# --- what is shown ------------------------------------------------------------------------


def test_every_probe_says_yes(cluster: Play) -> None:
    assert _not_ready(cluster) == ""


def test_a_pod_may_do_no_more_than_it_needs(cluster: Play) -> None:
    for component in ("coordinator", "source", "worker"):
        for container in (name for found in cluster.of(component) for name in found.containers):
            status = Path(f"/proc/{cluster.process(container)}/status").read_text()
            lines = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
            assert lines["Uid"].split() == ["10001"] * 4
            assert {int(lines[f"Cap{name}"], 16) for name in ("Inh", "Prm", "Eff", "Bnd", "Amb")} == {0}
            assert lines["NoNewPrivs"] == "1"
            assert podman("exec", container, "sh", "-c", "touch /here 2>&1 || echo no").endswith("no\n")


def test_whoever_is_asked_tells_of_the_cluster(cluster: Play) -> None:
    """In the pod that stands by, too: it says who leads."""
    for container in (name for found in cluster.of("coordinator") for name in found.containers):
        status = json.loads(podman("exec", container, "drizzle", "status", "--json"))
        assert len(status["workers"]) == 2
        assert len(status["sources"]) == 2


def test_counts_are_exact_and_policies_let_all_of_it_through(cluster: Play, objects: list[Object]) -> None:
    policies = of_kind(objects, "NetworkPolicy")
    components = _components(cluster)
    forbidden = [_forbid(cluster, name, policies) for found in cluster.played.values() for name in found.pods]
    load = _start_load(cluster)
    components |= _components(cluster)
    seen: set[tuple[str, str, int]] = set()

    processes = {
        cluster.process(container): found.component
        for found in cluster.played.values()
        for container in found.containers
    }

    def look() -> None:
        for process, component in processes.items():
            seen.update(_connections(component, process, components))

    verdict = _verdict(cluster, load, while_it_runs=look)
    assert verdict["windows"] >= LOAD_SECONDS // 5
    assert {("load", "source"), ("worker", "redis"), ("coordinator", "redis")} <= {
        (source, target) for source, target, _ in seen
    }
    assert {edge for edge in seen if not _leave(policies, objects, *edge)} == set()
    # Sampling may miss what is short; a rule that drops what no policy allows counts all of it.
    assert [tried for rule in forbidden for tried in rule()] == []


def test_the_pod_that_leads_is_killed_and_counts_are_exact(cluster: Play) -> None:
    for old in cluster.of("load"):
        cluster.remove(old)
    load = _start_load(cluster)
    _until(lambda: _acknowledged(load) > 2_000, LOAD_TIMEOUT_S, cluster.logs)
    coordinators = [name for found in cluster.of("coordinator") for name in found.containers]
    leading = [name for name in coordinators if podman("exec", name, *ASK_READY, check=False) == ""]
    assert len(leading) == 1
    before = _state(cluster, leading[0])["StartedAt"]
    os.kill(cluster.process(leading[0]), signal.SIGKILL)
    _verdict(cluster, load)
    assert _state(cluster, leading[0])["StartedAt"] > before
    _wait_for_members(cluster)


def test_a_worker_pod_that_is_asked_to_stop_leaves_in_order(cluster: Play, objects: list[Object]) -> None:
    """As Kubernetes ends a pod: SIGTERM, and the grace of the manifest. Its last worker leaves under load."""
    for old in cluster.of("load"):
        cluster.remove(old)
    told = len(_story(cluster))
    load = _start_load(cluster)
    _until(lambda: _acknowledged(load) > 2_000, LOAD_TIMEOUT_S, cluster.logs)
    [workers] = cluster.of("worker")
    leaving = workers.containers[-1]
    [manifest] = [one for one in of_kind(objects, "Deployment") if one["metadata"]["name"] == "worker"]
    podman("stop", "-t", str(manifests.pod(manifest)["terminationGracePeriodSeconds"]), leaving)
    assert _state(cluster, leaving)["ExitCode"] == 0, cluster.logs()
    _verdict(cluster, load)
    left = [line["text"] for line in _story(cluster)[told:] if line["kind"] == "WorkerLeaving"]
    assert [text for text in left if text.startswith(leaving.removesuffix("-worker"))], left
    podman("start", leaving)
    _wait_for_members(cluster)


def _story(play: Play) -> list[Object]:
    """What the coordinator that leads has told."""
    [coordinators] = play.of("coordinator")
    said = podman("exec", coordinators.containers[0], "drizzle", "story", "--json")
    return [json.loads(line) for line in said.splitlines()]


# --- policies and connections -------------------------------------------------------------


def _leave(policies: list[Object], objects: list[Object], source: str, target: str, port: int) -> bool:
    return allowed(policies, _end(objects, source), _end(objects, target), port)


def _end(objects: list[Object], component: str) -> End:
    """A pod of a component, with all the labels that its manifest gives it."""
    labels = (manifests.pod_labels(one) for one in of_kind(objects, *manifests.WORKLOADS))
    return End(next(found for found in labels if found["app.kubernetes.io/component"] == component))


def _connections(component: str, process: int, components: dict[str, str]) -> Iterator[tuple[str, str, int]]:
    """Connections that a process opened to others: from whom, to whom, to which port."""
    for _, own_port, other, other_port in established(process):
        if other in components and own_port not in PORTS.values():
            yield component, components[other], other_port


def _forbid(play: Play, pod_name: str, policies: list[Object]) -> Callable[[], list[str]]:
    """Drop what other pods try here without leave; returns a function that tells who tried."""
    target = next(found for found in play.played.values() if pod_name in found.pods)
    inside = ["nsenter", "-t", str(play.process(f"{pod_name}-{target.container}")), "-n", "iptables"]
    own = play.address(pod_name)
    for address, component in _components(play).items():
        if address == own:
            continue
        new = ["-A", "INPUT", "-s", address, "-p", "tcp", "--syn"]
        if allowed(policies, pod_of(component), pod_of(target.component), PORTS[target.component]):
            port = str(PORTS[target.component])
            subprocess.run([*inside, *new, "--dport", port, "-j", "ACCEPT"], check=True)
        subprocess.run([*inside, *new, "-m", "comment", "--comment", component, "-j", "DROP"], check=True)

    def tried() -> list[str]:
        listed = subprocess.run(
            [*inside, "-L", "INPUT", "-v", "-n", "-x"], capture_output=True, text=True, check=True
        )
        return [
            f"{target.component}: {line}"
            for line in listed.stdout.splitlines()
            if " DROP " in line and line.split()[0] != "0"
        ]

    return tried


def test_what_is_needed_is_said_when_it_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert "podman" in wanting()
    assert TOOL.name == "kube-play.py"

"""Manifests as real pods by `podman kube play`, through the tool `kube-play.py` beside the repository.

podman knows less than Kubernetes. What is changed before it plays, and nothing else:

- A StatefulSet becomes a Deployment of one for each pod, with its claims, and the name that its
  Service would give the pod. A Job becomes a Deployment whose container is not started again.
- An address from the downward API is dropped: a service is then found by the name of its pod.
- A Secret becomes a ConfigMap: podman 4.3 mounts secrets in base64, and reads no environment from them.
- Each workload gets config, secrets and empty folders of its own names: the tool makes the first
  anew for each workload that it plays, and podman would have all pods share one `tmp`.

So the images, commands, environment, secrets, volumes, users, read-only file systems and dropped
capabilities are those of the manifests; scheduling, Services' addresses, probes, policies and
budgets are not there (`probe` asks each probe once).
"""

from __future__ import annotations

import base64
import copy
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import yaml

from tests.k8s.manifests import CHECKS, Object, containers, of_kind, pod

TOOL = CHECKS / "kube-play.py"
NETWORK = "drizzle-k8s-test"
HOME = Path(os.environ.get("CT_HOME", "/var/lib/ct"))
"""Where the tool keeps podman's images and containers."""
PODMAN = ("podman", "--root", str(HOME / "podman"), "--runroot", "/run/ct/podman")
COMMAND_TIMEOUT_S = 240.0
POD_NAME = "statefulset.kubernetes.io/pod-name"
_PER_WORKLOAD = ("ConfigMap", "Secret")


def wanting() -> str:
    """What is missing to play pods, empty if nothing is."""
    for program in ("podman", "runc", "catatonit", "iptables", "nsenter", "docker"):
        if shutil.which(program) is None:
            return f"{program} is not installed"
    if not Path("/usr/lib/podman/aardvark-dns").exists():
        return "podman's names (netavark, aardvark-dns) are not installed"
    if not TOOL.exists():
        return f"there is no {TOOL.name} beside the repository"
    if os.geteuid() != 0:
        return "pods are played by root only"
    engine = subprocess.run(["docker", "version"], capture_output=True, timeout=60, check=False)
    return "" if engine.returncode == 0 else "no container engine answers, so no image can be built"


def podman(
    *arguments: str, check: bool = True, stdin: IO[bytes] | None = None, timeout_s: float = COMMAND_TIMEOUT_S
) -> str:
    """What podman says on standard output."""
    answer = subprocess.run(
        [*PODMAN, *arguments], stdin=stdin, capture_output=True, text=True, timeout=timeout_s, check=False
    )
    assert answer.returncode == 0 or not check, f"podman {arguments}: {answer.stderr[-2000:]}"
    return answer.stdout


@dataclass(frozen=True, slots=True)
class Played:
    """One workload in a file of its own; its pods are named `<name>-pod-<replica>`."""

    name: str
    component: str
    replicas: int
    container: str
    grace_s: int
    """What its pods are given to end by themselves, as the manifest has it."""
    file: Path

    @property
    def pods(self) -> list[str]:
        return [f"{self.name}-pod-{replica}" for replica in range(self.replicas)]

    @property
    def containers(self) -> list[str]:
        return [f"{name}-{self.container}" for name in self.pods]


@dataclass
class Play:
    """Pods of rendered manifests; `close` removes all of it."""

    folder: Path
    objects: list[Object]
    played: dict[str, Played] = field(default_factory=dict)

    def up(self, component: str) -> list[Played]:
        """Start the pods of a component."""
        mine = [found for found in prepared(self.objects, self.folder) if found.component == component]
        assert mine, f"no workload is a {component}"
        for found in mine:
            self.played[found.name] = found
            self._tool("up", found)
        return mine

    def probe(self, found: Played) -> str:
        """Ask each probe once; the tool's lines, empty if all said yes."""
        answer = self._run("probe", found)
        return "" if answer.returncode == 0 else answer.stdout + answer.stderr

    def of(self, component: str) -> list[Played]:
        return [found for found in self.played.values() if found.component == component]

    def address(self, pod_name: str) -> str:
        """The IP address of a pod."""
        infra = json.loads(podman("pod", "inspect", pod_name))["InfraContainerID"]
        networks = json.loads(podman("inspect", "-f", "{{json .NetworkSettings.Networks}}", infra))
        return networks[NETWORK]["IPAddress"]

    def process(self, container: str) -> int:
        return int(podman("inspect", "-f", "{{.State.Pid}}", container))

    def logs(self) -> str:
        """The last lines of every container, for a failure's report."""
        names = [name for found in self.played.values() for name in found.containers]
        return "\n".join(f"--- {name}\n{_last_words(name)}" for name in names)

    def remove(self, found: Played) -> None:
        """Remove the pods of a workload; the others stay.

        With the grace of the manifest: a worker without its coordinator takes some seconds to end, and
        podman 4.3 fails where its SIGKILL meets a container that is ending by itself.
        """
        for name in found.pods:
            podman("pod", "rm", "-f", "-t", str(found.grace_s), name)
        del self.played[found.name]

    def close(self) -> None:
        """Remove all pods, the last first, so that each still has whom it takes its leave of.

        Then what the tool made for them, volumes and the network too.
        """
        played = list(reversed(self.played.values()))
        for found in played:
            self.remove(found)
        for found in played:
            self._tool("down", found)

    def _tool(self, verb: str, found: Played) -> None:
        answer = self._run(verb, found)
        assert answer.returncode == 0, f"{verb} {found.name}: {answer.stdout}{answer.stderr}"

    def _run(self, verb: str, found: Played) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, TOOL, verb, found.file],
            env={**os.environ, "KUBE_NET": NETWORK, "CT_HOME": str(HOME)},
            capture_output=True,
            text=True,
            timeout=COMMAND_TIMEOUT_S,
            check=False,
        )


def _last_words(container: str) -> str:
    answer = subprocess.run(
        [*PODMAN, "logs", "--tail", "20", container], capture_output=True, text=True, check=False
    )
    return answer.stdout + answer.stderr


# --- what is changed for podman -----------------------------------------------------------


def prepared(objects: list[Object], folder: Path) -> Iterator[Played]:
    """Each workload as a file in `folder` that the tool can play."""
    for workload in _workloads(objects):
        name = workload["metadata"]["name"]
        claims = workload.pop("claims")
        config = [copy.deepcopy(one) for one in of_kind(objects, *_PER_WORKLOAD)]
        documents = [*_renamed(workload, config), *claims, *_services(objects, name), workload]
        for document in documents:
            document["metadata"].pop("namespace", None)
        file = folder / f"{name}.yaml"
        file.write_text(yaml.safe_dump_all(documents))
        component = workload["spec"]["template"]["metadata"]["labels"]["app.kubernetes.io/component"]
        [container] = pod(workload)["containers"]
        replicas = workload["spec"].get("replicas", 1)
        grace_s = pod(workload)["terminationGracePeriodSeconds"]
        yield Played(name, component, replicas, container["name"], grace_s, file)


def _workloads(objects: Iterable[Object]) -> Iterator[Object]:
    for one in copy.deepcopy(of_kind(objects, "Deployment", "StatefulSet", "Job")):
        _drop_pod_address(one)
        _keep_apart(one)
        if one["kind"] == "StatefulSet":
            yield from (_replica(one, number) for number in range(one["spec"]["replicas"]))
            continue
        if one["kind"] == "Job":
            one["kind"], one["apiVersion"] = "Deployment", "apps/v1"
        yield one | {"claims": []}


def _replica(stateful: Object, number: int) -> Object:
    """The pod `<name>-<number>` of a StatefulSet, with the claims that are its own."""
    one = copy.deepcopy(stateful)
    name = f"{one['metadata']['name']}-{number}"
    claims = one["spec"].pop("volumeClaimTemplates")
    one["kind"], one["metadata"]["name"], one["spec"]["replicas"] = "Deployment", name, 1
    one["spec"]["template"]["metadata"]["labels"][POD_NAME] = name
    volumes = pod(one).setdefault("volumes", [])
    one["claims"] = []
    for claim in claims:
        mount = claim["metadata"]["name"]
        claim_name = f"{mount}-{name}"
        volumes.append({"name": mount, "persistentVolumeClaim": {"claimName": claim_name}})
        one["claims"].append(
            {"apiVersion": "v1", "kind": "PersistentVolumeClaim"}
            | {"metadata": {"name": claim_name}, "spec": claim["spec"]}
        )
    return one


def _services(objects: Iterable[Object], workload: str) -> Iterator[Object]:
    """The Services, and the name `<pod>.<service>` that a governing one gives each pod of a StatefulSet."""
    for one in of_kind(objects, "Service"):
        yield copy.deepcopy(one)
        if workload.rpartition("-")[0] == one["metadata"]["name"]:
            own = copy.deepcopy(one)
            own["metadata"]["name"] = f"{workload}.{one['metadata']['name']}"
            own["spec"]["selector"] = {POD_NAME: workload}
            yield own


def _drop_pod_address(workload: Object) -> None:
    for container in pod(workload)["containers"]:
        container["env"] = [
            entry for entry in container.get("env", []) if "fieldRef" not in entry.get("valueFrom", {})
        ]


def _keep_apart(workload: Object) -> None:
    """Empty folders are volumes of podman's, found by their name alone."""
    own = workload["metadata"]["name"]
    empty = {volume["name"] for volume in pod(workload).get("volumes", []) if "emptyDir" in volume}
    for found in [*pod(workload).get("volumes", []), *_mounts(workload)]:
        if found["name"] in empty:
            found["name"] += f"-of-{own}"


def _mounts(workload: Object) -> Iterator[Object]:
    for container in containers(workload):
        yield from container.get("volumeMounts", [])


def _renamed(workload: Object, config: list[Object]) -> list[Object]:
    """Config and secrets that this workload uses, under names of its own."""
    used: set[str] = set()
    for holder in _references(pod(workload)):
        used.add(holder["name"])
        holder["name"] += f"-{workload['metadata']['name']}"
    found = [one for one in config if one["metadata"]["name"] in used]
    for one in found:
        one["metadata"]["name"] += f"-{workload['metadata']['name']}"
        if one["kind"] == "Secret":
            one["kind"] = "ConfigMap"
            one["data"] = {key: base64.b64decode(value).decode() for key, value in one["data"].items()}
            del one["type"]
    return found


def _references(spec: Object) -> Iterator[dict[str, Any]]:
    """Where a pod names a ConfigMap or a Secret; a Secret's place is turned into a ConfigMap's."""
    for volume in spec.get("volumes", []):
        if "secret" in volume:
            volume["configMap"] = {"name": volume.pop("secret")["secretName"]}
        if "configMap" in volume:
            yield volume["configMap"]
    for container in [*spec.get("initContainers", []), *spec["containers"]]:
        for source in container.get("envFrom", []):
            yield source["configMapRef"]
        for entry in container.get("env", []):
            found = entry.get("valueFrom", {})
            if "secretKeyRef" in found:
                found["configMapKeyRef"] = found.pop("secretKeyRef")
            if "configMapKeyRef" in found:
                yield found["configMapKeyRef"]


def established(process: int) -> Iterator[tuple[str, int, str, int]]:
    """TCP connections of a process's network: own address and port, the other's; none if it has ended."""
    try:
        lines = Path(f"/proc/{process}/net/tcp").read_text().splitlines()[1:]
    except OSError:
        return
    for line in lines:
        own, other, state = line.split()[1:4]
        if state == "01":
            yield (*_endpoint(own), *_endpoint(other))


def _endpoint(text: str) -> tuple[str, int]:
    address, port = text.split(":")
    return ".".join(str(byte) for byte in reversed(bytes.fromhex(address))), int(port, 16)

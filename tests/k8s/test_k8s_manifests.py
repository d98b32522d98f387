"""The manifests hold what they promise: secure pods, settings that the services take, probes that exist.

The base is read as it is written, so these run wherever there is Python; what concerns overlays needs
kubectl to render them.
"""

from __future__ import annotations

import copy
import re
import stat
import subprocess
from pathlib import Path

import pytest
import yaml

from drizzle_streams import config
from drizzle_streams.cli.main import COMMANDS
from drizzle_streams.local.redis_config import append_fsync
from drizzle_streams.protocol.tokens import Keyring
from drizzle_streams.runtime.lifecycle import CANCELLED_GRACE_S, GRACE_S
from tests.k8s import manifests, restricted
from tests.k8s.manifests import OVERLAYS, ROOT, SERVICES, WORKLOADS, Object, label, named, of_kind, pod

SETTINGS = {
    "coordinator": config.CoordinatorServiceSettings,
    "worker": config.WorkerServiceSettings,
    "source": config.SourceServiceSettings,
}
UNITS = {"Mi": 1024**2, "Gi": 1024**3, "mb": 1024**2, "gb": 1024**3}


def size(text: str) -> int:
    found = re.fullmatch(r"(\d+)(Mi|Gi|mb|gb)", text)
    assert found, text
    return int(found[1]) * UNITS[found[2]]


def workload(objects: list[Object], name: str) -> Object:
    [found] = [one for one in of_kind(objects, *WORKLOADS) if one["metadata"]["name"] == name]
    return found


def the_container(objects: list[Object], name: str) -> Object:
    [found] = pod(workload(objects, name))["containers"]
    return found


# --- security -----------------------------------------------------------------------------


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_pods_are_restricted(tree: Path, overlay: str) -> None:
    objects = manifests.render(tree / overlay)
    faults = {
        label(one): found
        for one in of_kind(objects, *WORKLOADS)
        if (found := restricted.faults(one) + restricted.beyond(one))
    }
    assert faults == {}
    [namespace] = of_kind(objects, "Namespace")
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    assert {one["metadata"]["namespace"] for one in objects if one is not namespace} == {"drizzle"}


@pytest.mark.parametrize(
    ("where", "value", "fault"),
    [
        ((), {"hostNetwork": True}, "hostNetwork"),
        ((), {"volumes": [{"name": "x", "hostPath": {"path": "/"}}]}, "volume of kind hostPath"),
        (("securityContext",), {"runAsNonRoot": False}, "may run as root"),
        (("securityContext",), {"seccompProfile": {"type": "Unconfined"}}, "has no seccomp profile"),
        (("containers", 0, "securityContext"), {"privileged": True}, "worker: is privileged"),
        (("containers", 0, "securityContext"), {"capabilities": {}}, "worker: keeps capabilities"),
        (("containers", 0), {"securityContext": {}}, "worker: may gain privileges"),
    ],
)
def test_what_is_not_restricted_is_found(
    base: list[Object], where: tuple[str | int, ...], value: Object, fault: str
) -> None:
    spoilt = copy.deepcopy(workload(base, "worker"))
    place = pod(spoilt)
    for step in where:
        place = place[step]  # type: ignore[index]
    place.update(value)
    assert fault in restricted.faults(spoilt)


def test_no_secret_is_committed() -> None:
    files = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "k8s"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    assert len(files) > 10
    for name in files:
        text = (ROOT / name).read_text()
        assert not re.search(r"^kind: Secret", text, re.MULTILINE), name
        assert not re.search(r"[0-9a-f]{32}", text), name
    for name in OVERLAYS:
        kustomization = yaml.safe_load((ROOT / "k8s" / name / "kustomization.yaml").read_text())
        for secret in kustomization.get("secretGenerator", []):
            assert not secret.get("literals"), secret["name"]
            for entry in secret["files"]:
                file = f"k8s/{name}/{entry.partition('=')[2]}"
                assert (
                    subprocess.run(["git", "check-ignore", "-q", file], cwd=ROOT, check=False).returncode == 0
                )


def test_secrets_are_made_once_and_for_their_user_only(tmp_path: Path) -> None:
    copied = manifests.with_secrets(tmp_path / "k8s")
    folder = copied / "base" / "secrets"
    made = {one.name: one.read_text() for one in folder.iterdir()}
    assert Keyring.parse(made["cluster-token"].strip())
    assert len(made["cluster-token"].strip()) >= config.SECRET_CHARACTERS_MIN
    password = made["redis-password"].strip()
    assert made["redis-url"] == f"redis://:{password}@redis:6379/0\n"
    assert made["redis-auth.conf"] == f"requirepass {password}\n"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(one.stat().st_mode) for one in folder.iterdir()} == {0o600}
    (folder / "cluster-token").write_text("kept as it is\n")
    subprocess.run([copied / "make-secrets"], check=True)
    assert (folder / "cluster-token").read_text() == "kept as it is\n"
    assert (folder / "redis-password").read_text().strip() == password
    other = manifests.with_secrets(tmp_path / "other") / "base" / "secrets" / "cluster-token"
    assert other.read_text() != made["cluster-token"]


# --- settings -----------------------------------------------------------------------------


@pytest.mark.parametrize("overlay", OVERLAYS)
@pytest.mark.parametrize("service", SERVICES)
def test_services_take_their_settings(tree: Path, tmp_path: Path, overlay: str, service: str) -> None:
    objects = manifests.render(tree / overlay)
    container = the_container(objects, service)
    assert container["args"] == [service]
    assert service in COMMANDS
    given = manifests.settings_of(workload(objects, service), objects, {"DRIZZLE_ADVERTISE_HOST": "10.0.0.7"})
    known = {option.variable for option in config.options(SETTINGS[service])}
    files = {name: value for name, value in given.items() if name.endswith("_FILE")}
    odd = {name for name in given if name.startswith("DRIZZLE_")} - known - files.keys()
    # What one ConfigMap says to all of them is not for each of them.
    assert odd <= {"DRIZZLE_CLUSTER", "DRIZZLE_COORDINATOR"}
    assert {name.removesuffix("_FILE") for name in files} <= known
    for name, file in files.items():
        assert any(Path(file).is_relative_to(mount["mountPath"]) for mount in container["volumeMounts"]), file
        copied = tmp_path / name
        secret = "redis://redis:6379/0" if "REDIS" in name else "0123456789abcdef" * 2
        copied.write_text(secret + "\n")
        given[name] = str(copied)
    settings = config.load(SETTINGS[service], environ=given)
    assert settings.host == "0.0.0.0"
    assert [port["containerPort"] for port in container["ports"]] == [settings.port]
    assert settings.advertise_host == "10.0.0.7"
    if isinstance(settings, config.MemberSettings):
        assert settings.coordinator == f"http://coordinator:{config.COORDINATOR_PORT}"


@pytest.mark.parametrize("service", SERVICES)
def test_every_pod_says_its_own_address(base: list[Object], service: str) -> None:
    entries = {entry["name"]: entry for entry in the_container(base, service)["env"]}
    assert entries["DRIZZLE_ADVERTISE_HOST"]["valueFrom"]["fieldRef"]["fieldPath"] == "status.podIP"


def test_a_source_is_named_after_its_disk(base: list[Object]) -> None:
    """Its name is that of its pod, which only a StatefulSet keeps; and the disk outlives the pod."""
    source = workload(base, "source")
    assert source["kind"] == "StatefulSet"
    entries = {entry["name"]: entry for entry in the_container(base, "source")["env"]}
    assert "DRIZZLE_NAME" not in entries
    [claim] = source["spec"]["volumeClaimTemplates"]
    mounts = {mount["name"]: mount["mountPath"] for mount in the_container(base, "source")["volumeMounts"]}
    place = Path(entries["DRIZZLE_DATA_DIR"]["value"])
    assert place.is_relative_to(mounts[claim["metadata"]["name"]])
    assert place != Path(mounts[claim["metadata"]["name"]])  # a fresh disk holds lost+found
    assert set(source["spec"]["persistentVolumeClaimRetentionPolicy"].values()) == {"Retain"}
    budget = int(entries["DRIZZLE_LOG_BUDGET_BYTES"]["value"].removesuffix("GiB")) * UNITS["Gi"]
    assert size(claim["spec"]["resources"]["requests"]["storage"]) >= 2 * budget


def test_services_run_as_the_user_of_the_image(base: list[Object]) -> None:
    dockerfile = (ROOT / "deploy" / "Dockerfile").read_text()
    [user] = set(re.findall(r"^USER (\d+):(\d+)$", dockerfile, re.MULTILINE))
    for service in SERVICES:
        security = pod(workload(base, service))["securityContext"]
        assert (str(security["runAsUser"]), str(security["runAsGroup"])) == user
        assert security["fsGroup"] == security["runAsGroup"]


def test_redis_keeps_what_it_acknowledged(tree: Path, base: list[Object]) -> None:
    lines = (tree / "base" / "redis.conf").read_text().splitlines()
    settings = dict(line.split(" ", 1) for line in lines if line and not line.startswith("#"))
    assert settings["appendonly"] == "yes"
    assert append_fsync(settings["appendfsync"]).value == "always"
    assert settings["maxmemory-policy"] == "noeviction"
    container = the_container(base, "redis")
    assert size(container["resources"]["limits"]["memory"]) >= 2 * size(settings["maxmemory"])
    mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    assert settings["dir"] == mounts["data"]
    assert Path(settings["include"]).parent == Path(mounts["auth"])


# --- life ---------------------------------------------------------------------------------


@pytest.mark.parametrize("service", SERVICES)
def test_probes_ask_doors_that_are_there(base: list[Object], service: str) -> None:
    container = the_container(base, service)
    asked = {
        kind: container[f"{kind}Probe"]["httpGet"]["path"] for kind in ("startup", "readiness", "liveness")
    }
    # Both coordinators are ready, one leads: a Deployment with one that never is would never be complete.
    assert asked == {
        "startup": "/healthz",
        "readiness": "/healthz" if service == "coordinator" else "/readyz",
        "liveness": "/healthz",
    }
    patience_s = container["livenessProbe"]["periodSeconds"] * container["livenessProbe"]["failureThreshold"]
    assert patience_s >= 60  # a busy process is not a dead one
    annotations = workload(base, service)["spec"]["template"]["metadata"]["annotations"]
    assert annotations["prometheus.io/port"] == str(container["ports"][0]["containerPort"])


@pytest.mark.parametrize("service", SERVICES)
def test_there_is_time_to_stop_in_order(base: list[Object], service: str) -> None:
    spec = pod(workload(base, service))
    before = (
        spec["containers"][0]
        .get("lifecycle", {})
        .get("preStop", {})
        .get("exec", {})
        .get("command", ["", "0"])
    )
    assert spec["terminationGracePeriodSeconds"] > GRACE_S + CANCELLED_GRACE_S + float(before[-1])


def test_one_at_a_time_is_taken_away(base: list[Object]) -> None:
    for service in SERVICES:
        budget = named(base, "PodDisruptionBudget", service)["spec"]
        assert budget["maxUnavailable"] == 1
        assert manifests.matches(budget["selector"], manifests.pod_labels(workload(base, service)))


def test_the_autoscaler_alone_says_how_many_workers(base: list[Object]) -> None:
    [autoscaler] = of_kind(base, "HorizontalPodAutoscaler")
    spec = autoscaler["spec"]
    assert spec["scaleTargetRef"]["name"] == "worker"
    assert "replicas" not in workload(base, "worker")["spec"]
    [metric] = spec["metrics"]
    most = 100 * (spec["minReplicas"] - 1) / spec["minReplicas"]  # what survivors of a loss can carry
    assert metric["resource"]["target"]["averageUtilization"] <= most
    assert spec["behavior"]["scaleDown"]["stabilizationWindowSeconds"] >= 300


def test_blocks_leave_room_in_a_worker(base: list[Object]) -> None:
    container = the_container(base, "worker")
    [blocks] = [e["value"] for e in container["env"] if e["name"] == "DRIZZLE_BLOCKS_BYTES_MAX"]
    assert 2 * int(blocks.removesuffix("MiB")) * UNITS["Mi"] <= size(
        container["resources"]["limits"]["memory"]
    )


@pytest.mark.parametrize("name", ["coordinator", "source", "ingest", "redis"])
def test_services_find_their_pods(base: list[Object], name: str) -> None:
    service = named(base, "Service", name)["spec"]
    found = [
        w for w in of_kind(base, *WORKLOADS) if service["selector"].items() <= manifests.pod_labels(w).items()
    ]
    assert len(found) == 1
    [container] = pod(found[0])["containers"]
    [port] = service["ports"]
    assert {p["name"]: p["containerPort"] for p in container["ports"]}[port["targetPort"]] == port["port"]
    # A source takes records, and Redis answers, before it is ready; nobody else is sent to who is not.
    assert service.get("publishNotReadyAddresses", False) == (name in ("source", "redis"))


def test_who_watches_finds_every_service(tree: Path, base: list[Object]) -> None:
    """The Prometheus operator's kinds have no schema among Kubernetes' own, so this is read by hand."""
    [monitor] = manifests.parse((tree / "components" / "pod-monitor" / "pod-monitor.yaml").read_text())
    [endpoint] = monitor["spec"]["podMetricsEndpoints"]
    for one in of_kind(base, *WORKLOADS):
        ports = {port["name"] for port in pod(one)["containers"][0]["ports"]}
        watched = manifests.matches(monitor["spec"]["selector"], manifests.pod_labels(one))
        assert watched == (one["metadata"]["name"] in SERVICES)
        assert not watched or endpoint["port"] in ports


# --- overlays -----------------------------------------------------------------------------


def test_kind_is_small(tree: Path) -> None:
    objects = manifests.render(tree / "overlays" / "kind")
    assert not of_kind(objects, "HorizontalPodAutoscaler")
    assert workload(objects, "worker")["spec"]["replicas"] == 2
    requests = [
        (one["spec"]["replicas"], pod(one)["containers"][0]["resources"]["requests"])
        for one in of_kind(objects, *WORKLOADS)
    ]
    assert sum(count * int(each["cpu"].removesuffix("m")) for count, each in requests) <= 1000
    assert sum(count * size(each["memory"]) for count, each in requests) <= UNITS["Gi"]


def test_the_load_follows_the_cluster(tree: Path) -> None:
    objects = manifests.render(tree / "overlays" / "kind-load")
    settings = named(objects, "ConfigMap", "drizzle-load")["data"]
    sources = workload(objects, "source")["spec"]["replicas"]
    port = config.SOURCE_PORT
    assert settings["LOAD_SOURCES"].split(",") == [f"http://source-{n}.source:{port}" for n in range(sources)]
    # Whatever the scripts in the image read is set.
    for container in manifests.containers(workload(objects, "load")):
        script = container.get("args", ["/opt/drizzle/deploy/drive.py"])[0]
        text = (ROOT / "deploy" / Path(script).name).read_text()
        read = set(re.findall(r'(?:environ|settings)\["([A-Z_]+)"\]', text))
        own = {entry["name"] for entry in container.get("env", [])}
        assert read <= settings.keys() | own


def test_production_spans_zones_and_brings_no_redis(tree: Path) -> None:
    objects = manifests.render(tree / "overlays" / "production")
    assert not [
        label(one)
        for one in objects
        if one["metadata"].get("labels", {}).get("app.kubernetes.io/component") == "redis"
        or one["metadata"]["name"].startswith("redis-auth")
    ]
    for service in SERVICES:
        spec = pod(workload(objects, service))
        spread = {one["topologyKey"]: one for one in spec["topologySpreadConstraints"]}
        zones = spread["topology.kubernetes.io/zone"]
        assert zones["maxSkew"] == 1
        # Workers must find room when a zone is gone; the others must not pile up in one.
        assert zones["whenUnsatisfiable"] == ("ScheduleAnyway" if service == "worker" else "DoNotSchedule")
        affinity = spec["affinity"]["podAntiAffinity"]
        assert ("preferred" if service == "worker" else "required") in next(iter(affinity))
        assert spec["containers"][0]["image"].startswith("registry.example.com/")
    strategy = workload(objects, "coordinator")["spec"]["strategy"]["rollingUpdate"]
    assert strategy == {"maxSurge": 0, "maxUnavailable": 1}  # never two on a machine, of three
    [autoscaler] = of_kind(objects, "HorizontalPodAutoscaler")
    assert autoscaler["spec"]["minReplicas"] == 3

"""The manifests as the tests see them: a copy of k8s/ with secrets made, objects parsed, overlays rendered.

What is rendered comes from kubectl's own kustomize; where kubectl is missing those tests are skipped
and say so, and the ones that read the files of the base as they are still run.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
CHECKS = ROOT.parent / "shared" / "containers"
"""Tools that a machine for tests may have beside the repository; not part of it."""
OVERLAYS = ("base", "overlays/kind", "overlays/kind-load", "overlays/production")
WORKLOADS = ("Deployment", "StatefulSet", "Job")
SERVICES = ("coordinator", "worker", "source")
PRODUCTION_REDIS = "rediss://:a-password@redis.internal:6379/0"

Object = dict[str, Any]


def with_secrets(target: Path) -> Path:
    """A copy of k8s/ at `target`, with the secrets that its user would have made."""
    shutil.copytree(ROOT / "k8s", target, ignore=shutil.ignore_patterns("secrets"))
    subprocess.run([target / "make-secrets"], check=True, stdout=subprocess.PIPE)
    secrets = target / "overlays" / "production" / "secrets"
    secrets.mkdir()
    (secrets / "redis-url").write_text(PRODUCTION_REDIS + "\n")
    return target


def render(folder: Path) -> list[Object]:
    """The objects that `kubectl apply -k folder` would send."""
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        pytest.skip("kubectl is not installed, so nothing can be rendered: install it to test the overlays")
    return parse(_rendered(kubectl, folder))


@lru_cache(maxsize=16)
def _rendered(kubectl: str, folder: Path) -> str:
    answer = subprocess.run([kubectl, "kustomize", folder], capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stderr[-2000:]
    return answer.stdout


def parse(text: str) -> list[Object]:
    return [found for found in yaml.safe_load_all(text) if found]


def read(folder: Path) -> list[Object]:
    """The objects in the files that a kustomization lists, as they are written."""
    names = yaml.safe_load((folder / "kustomization.yaml").read_text())["resources"]
    return [found for name in names for found in parse((folder / name).read_text())]


def of_kind(objects: Iterable[Object], *kinds: str) -> list[Object]:
    return [found for found in objects if found["kind"] in kinds]


def named(objects: Iterable[Object], kind: str, name: str) -> Object:
    """The one of that name; a generated name counts without its hash."""
    found = [
        one
        for one in of_kind(objects, kind)
        if one["metadata"]["name"] == name or one["metadata"]["name"].rpartition("-")[0] == name
    ]
    assert len(found) == 1, f"{kind} {name}: {[one['metadata']['name'] for one in found]}"
    return found[0]


def label(one: Object) -> str:
    return f"{one['kind']}/{one['metadata']['name']}"


def pod(workload: Object) -> Object:
    return workload["spec"]["template"]["spec"]


def pod_labels(workload: Object) -> dict[str, str]:
    return workload["spec"]["template"]["metadata"]["labels"]


def containers(workload: Object) -> list[Object]:
    return [*pod(workload).get("initContainers", []), *pod(workload)["containers"]]


def settings_of(workload: Object, objects: Iterable[Object], values: Mapping[str, str]) -> dict[str, str]:
    """The environment of a workload's container; `values` stand for what comes from fields and secrets."""
    [container] = pod(workload)["containers"]
    found: dict[str, str] = {}
    for source in container.get("envFrom", []):
        found |= named(objects, "ConfigMap", source["configMapRef"]["name"].rpartition("-")[0])["data"]
    for entry in container.get("env", []):
        found[entry["name"]] = entry["value"] if "value" in entry else values[entry["name"]]
    return found


def matches(selector: Object, labels: Mapping[str, str]) -> bool:
    """Whether a label selector takes these labels."""
    if not selector.get("matchLabels", {}).items() <= labels.items():
        return False
    return all(_meets(one, labels) for one in selector.get("matchExpressions", []))


def _meets(expression: Object, labels: Mapping[str, str]) -> bool:
    found = labels.get(expression["key"])
    match expression["operator"]:
        case "In":
            return found in expression["values"]
        case "NotIn":
            return found not in expression["values"]
        case "Exists":
            return found is not None
        case "DoesNotExist":
            return found is None
        case other:
            raise AssertionError(f"no such operator: {other}")

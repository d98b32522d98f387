"""The manifests are what several versions of Kubernetes take, to the letter; every name is somewhere."""

from __future__ import annotations

import copy
import os
import shutil
import subprocess
import sys
from pathlib import Path

import kubernetes_validate
import pytest

from tests.k8s import manifests
from tests.k8s.manifests import CHECKS, OVERLAYS, Object, label, named

VERSIONS = ("1.30", "1.32", "1.34", "1.36")


def faults(objects: list[Object], version: str) -> list[str]:
    found: list[str] = []
    for one in objects:
        try:
            kubernetes_validate.validate(one, version, strict=True)
        except kubernetes_validate.ValidationError as error:
            found.append(f"{label(one)}: {'.'.join(map(str, error.path))}: {error.message[:200]}")
    return found


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_schemas_take_them(tree: Path, overlay: str, version: str) -> None:
    assert faults(manifests.render(tree / overlay), version) == []


@pytest.mark.parametrize("version", VERSIONS)
def test_the_autoscaler_by_slots_is_taken(tmp_path: Path, version: str) -> None:
    overlay = manifests.with_secrets(tmp_path / "k8s") / "by-slots"
    overlay.mkdir()
    (overlay / "kustomization.yaml").write_text(
        "namespace: drizzle\nresources: [../base]\ncomponents: [../components/autoscale-by-slots]\n"
    )
    objects = manifests.render(overlay)
    assert faults(objects, version) == []
    [metric] = named(objects, "HorizontalPodAutoscaler", "worker")["spec"]["metrics"]
    assert metric["external"]["target"] == {"type": "Value", "value": "500m"}
    rules = (manifests.ROOT / "deploy" / "prometheus" / "rules" / "drizzle.yml").read_text()
    assert metric["external"]["metric"]["name"].replace("_", ":") in rules


def test_the_schemas_find_what_is_misspelt(base: list[Object]) -> None:
    spoilt = copy.deepcopy(base)
    named(spoilt, "Deployment", "coordinator")["spec"]["replicas"] = "2"
    named(spoilt, "PodDisruptionBudget", "worker")["spec"]["maxUnavaliable"] = 1
    assert [fault.split(":")[0] for fault in faults(spoilt, VERSIONS[0])] == [
        "Deployment/coordinator",
        "PodDisruptionBudget/worker",
    ]


def test_every_name_is_somewhere(tree: Path) -> None:
    """By the checker that a machine for tests may have beside the repository."""
    checker = CHECKS / "k8s-check.py"
    if not checker.exists():
        pytest.skip(f"no {checker.name} beside the repository: references between objects are not checked")
    if shutil.which("kubectl") is None:
        pytest.skip("kubectl is not installed, so nothing can be rendered: install it to test the overlays")
    answer = subprocess.run(
        [sys.executable, checker, *OVERLAYS],
        cwd=tree,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONWARNINGS": "ignore"},
        check=False,
    )
    assert answer.returncode == 0, answer.stdout + answer.stderr
    assert answer.stdout.endswith("all good\n")

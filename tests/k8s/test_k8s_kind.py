"""The one command for kind; kind, docker and kubectl are scripts that write down what they are told."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.k8s.manifests import ROOT

PLAYED = """#!/bin/sh
echo "$(basename "$0") $*" >>"$TOLD"
case "$(basename "$0") $1" in
"kind get") [ -z "$CLUSTERS" ] || echo "$CLUSTERS" ;;
"docker image") cat "$IMAGE" 2>/dev/null ;;
"docker build") echo "$BUILDS" >"$IMAGE" ;;
"kubectl --context") case "$*" in *"$FAILS"*) [ -z "$FAILS" ] || exit 1 ;; esac ;;
esac
"""


class Stage:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        shutil.copytree(ROOT / "k8s", folder / "k8s", ignore=shutil.ignore_patterns("secrets"))
        (folder / "bin").mkdir()
        for name in ("kind", "docker", "kubectl"):
            (folder / "bin" / name).write_text(PLAYED)
            (folder / "bin" / name).chmod(0o755)

    def up(self, *, clusters: str = "", builds: str = "sha256:new", fails: str = "") -> tuple[int, list[str]]:
        told = self.folder / "told"
        told.unlink(missing_ok=True)
        answer = subprocess.run(
            [self.folder / "k8s" / "overlays" / "kind" / "up"],
            env={
                "PATH": f"{self.folder / 'bin'}:{os.defpath}",
                "TOLD": str(told),
                "IMAGE": str(self.folder / "image"),
                "CLUSTERS": clusters,
                "BUILDS": builds,
                "FAILS": fails,
            },
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        return answer.returncode, told.read_text().splitlines() if told.exists() else [answer.stderr]


@pytest.fixture(name="stage")
def _stage(tmp_path: Path) -> Stage:
    return Stage(tmp_path)


def test_from_nothing(stage: Stage) -> None:
    status, told = stage.up()
    assert status == 0
    steps = [" ".join(line.split()[:3]) for line in told if not line.startswith("docker image")]
    assert steps[:4] == [
        "kind get clusters",
        "kind create cluster",
        "docker build --quiet",
        "kind load docker-image",
    ]
    kubectl = [line.removeprefix("kubectl --context kind-drizzle --namespace drizzle ") for line in told[4:]]
    assert "apply --kustomize k8s/overlays/kind" in kubectl
    assert not any("restart" in line for line in kubectl)
    waits = [line.split()[-1] for line in kubectl if line.startswith("rollout status")]
    assert waits == ["statefulset/redis", "deployment/coordinator", "statefulset/source", "deployment/worker"]
    assert (stage.folder / "k8s" / "base" / "secrets" / "cluster-token").exists()


def test_again_with_another_image(stage: Stage) -> None:
    stage.up()
    secret = (stage.folder / "k8s" / "base" / "secrets" / "cluster-token").read_text()
    same, told = stage.up(clusters="drizzle")
    assert same == 0
    assert not any("create cluster" in line or "restart" in line for line in told)
    status, told = stage.up(clusters="drizzle", builds="sha256:newer")
    assert status == 0
    assert any(
        line.endswith("rollout restart deployment/coordinator statefulset/source deployment/worker")
        for line in told
    )
    assert (stage.folder / "k8s" / "base" / "secrets" / "cluster-token").read_text() == secret


def test_what_does_not_become_ready_is_a_failure(stage: Stage) -> None:
    status, told = stage.up(fails="statefulset/source")
    assert status != 0
    assert "deployment/worker" not in told[-1]


def test_a_missing_tool_is_named(stage: Stage) -> None:
    (stage.folder / "bin" / "kind").unlink()
    if shutil.which("kind", path=os.defpath):
        pytest.skip("kind is installed for everybody here, so it cannot be missing")
    status, told = stage.up()
    assert status == 2
    assert told == ["up: wanted kind on PATH, found none. Install it.\n"]

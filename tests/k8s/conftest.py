"""A copy of the manifests with its secrets made, once for all tests of a process."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.k8s import manifests


@pytest.fixture(scope="session")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """k8s/ as its user has it before `kubectl apply -k`."""
    return manifests.with_secrets(tmp_path_factory.mktemp("k8s") / "k8s")


@pytest.fixture(scope="session")
def base(tree: Path) -> list[manifests.Object]:
    """The base as it is written; this needs no kubectl."""
    return manifests.read(tree / "base")

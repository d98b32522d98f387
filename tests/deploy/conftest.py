"""A container engine for what only Prometheus itself can say; without one, tests skip and say so."""

from __future__ import annotations

import secrets
import subprocess
from collections.abc import Callable, Iterator

import pytest

from tests.compose.compose_stack import missing_engine

Run = Callable[..., str]
"""Starts a container by the arguments of `docker run`, the image and its command last; gives its name."""
START_S = 60.0


@pytest.fixture(scope="session")
def engine() -> None:
    """Skips where no container engine answers."""
    if reason := missing_engine():
        pytest.skip(f"RULES AND BOARDS ARE NOT TRIED: no container engine answers here ({reason})")


@pytest.fixture
def container(engine: None) -> Iterator[Run]:
    """Starts containers, and leaves none behind."""
    names: list[str] = []

    def run(*arguments: str) -> str:
        names.append(f"drizzle-watch-{secrets.token_hex(4)}")
        docker("run", "-d", "--name", names[-1], *arguments)
        return names[-1]

    yield run
    for name in names:
        docker("rm", "-f", "-v", name)


def docker(*arguments: str) -> str:
    ended = subprocess.run(
        ["docker", *arguments], capture_output=True, text=True, timeout=START_S, check=False
    )
    assert ended.returncode == 0, f"docker {' '.join(arguments)}:\n{ended.stdout}{ended.stderr}"
    return ended.stdout

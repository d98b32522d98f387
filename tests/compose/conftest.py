"""One cluster of containers for all tests here: they leave it whole, so the next one finds it so."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.compose.compose_stack import Load, Stack, missing_engine


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Built, up and healthy; gone with its volumes at the end."""
    if reason := missing_engine():
        pytest.skip(f"NO CONTAINERS ARE TESTED: no container engine answers here ({reason})")
    stack = Stack(tmp_path_factory.mktemp("compose"))
    try:
        stack.up()
        yield stack
    finally:
        logs = stack.compose("logs", "--no-color", "--tail", "200", check=False)
        (stack.folder / "logs.txt").write_text(logs)
        stack.down()


@pytest.fixture
def load(stack: Stack) -> Iterator[Callable[[int, float], Load]]:
    """Starts loads, and leaves none behind."""
    started: list[Load] = []

    def start(rate: int, seconds: float) -> Load:
        started.append(stack.load(rate, seconds))
        return started[-1]

    yield start
    for one in started:
        one.end()

"""One cluster and one browser for all tests of the console; every window is a new session."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from playwright.sync_api import Browser

from drizzle_streams.cli.console import sign_in_link
from drizzle_streams.local.ports import free_port
from tests.cluster.drizzle_commands import ClusterDoors, Place, doors_of, until
from tests.console.browser import NAMES, Windows, browser, chromium_path

JOB_FILE = """
import polars as pl
import drizzle_streams as dz

words = dz.stream("words", schema={"word": pl.String})
counts = words.group_by("word").agg(times=dz.count())
job = counts.to(dz.redis("words")).job("count", batch_interval="50ms", group_size="auto")
"""


@dataclass(frozen=True)
class Watchable:
    """A running cluster with a tuned job, two workers and a standby."""

    place: Place
    doors: ClusterDoors

    @property
    def secret(self) -> str:
        return self.doors.token

    def link(self, coordinator: str = "coordinator") -> str:
        return sign_in_link(self.doors.address(coordinator), self.secret)

    def workers(self) -> list[str]:
        status = until("the leader answers", lambda: self.doors.ask("/status"))
        return [worker["id"] for worker in status["workers"]]

    def kill(self, service: str) -> None:
        """SIGKILL."""
        lines = self.place.processes().items()
        (pid,) = [pid for pid, line in lines if f"--name {service} " in line]
        os.kill(pid, signal.SIGKILL)


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    executable = chromium_path()
    if executable is None:
        pytest.skip(f"the console's tests want a browser: none of {', '.join(NAMES)} is on the PATH")
    with browser(executable) as started:
        yield started


@pytest.fixture(scope="module")
def cluster(chromium: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watchable]:
    place = Place(tmp_path_factory.mktemp("console").resolve())
    try:
        running = place.start("up", "--standby", "--sources", "1", "--port", str(free_port()))
        running.says("Drizzle is up")
        (place.folder / "job.py").write_text(JOB_FILE)
        submitted = place.run("submit", "job.py")
        assert submitted.code == 0, submitted.said()
        yield Watchable(place, doors_of(place.folder / ".drizzle"))
        running.interrupt()
        assert running.ended() == 0, running.said()
        assert place.left_behind() == ([], [])
    finally:
        place.close()


@pytest.fixture
def windows(chromium: Browser) -> Iterator[Windows]:
    """At the end: nothing but loopback was asked, and no browser complained, whatever the test was about."""
    windows = Windows(chromium)
    yield windows
    windows.close()
    assert windows.watched.hosts() <= {"127.0.0.1"}
    assert windows.watched.complaints == []

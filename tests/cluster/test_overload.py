"""More than the logs may hold: producers are told to wait, nothing is lost, and the backlog is worked off.

Logs of 1 MiB hold less than what two checkpoint intervals of this load are, so 429 happens in
any case, however fast the machine is.
"""

from __future__ import annotations

import pytest

from tests.cluster import drizzle_commands
from tests.cluster.drizzle_commands import Place, doors_of, until
from tests.cluster.test_demo import ENDS_WITHIN_S, report_of
from tests.cluster.test_failover import frontier

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(240)]

RATE, SECONDS = 10_000, 6
BUDGET_BYTES = 1 << 20


def test_held_back_producers_lose_nothing(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    ours = drizzle_commands.environment
    small = {"DRIZZLE_LOG_BUDGET_BYTES": str(BUDGET_BYTES)}
    monkeypatch.setattr(drizzle_commands, "environment", lambda **more: ours(**more) | small)
    sizes = ["--rate", str(RATE), "--seconds", str(SECONDS), "--window", "1s", "--kill", "none"]
    demo = place.start("demo", *sizes, "--dir", "state", "--json", "report.json")
    doors = doors_of(place.folder / "state")

    until("batches are done", lambda: frontier(doors, "coordinator") > 0)
    until(
        "a producer is told to wait",
        lambda: doors.metric("source-1", "drizzle_posts_refused_total", status="429"),
    )
    (log,) = doors.ask("/streams", "source-1")["streams"]
    assert 0 < log["live_bytes"] <= log["budget_bytes"] == BUDGET_BYTES
    assert demo.ended(ENDS_WITHIN_S) == 0, demo.said()
    report = report_of(place)
    assert report["sent"] == RATE * SECONDS, "an open loop: what was held back is sent later"
    assert report["exact"] is True, report

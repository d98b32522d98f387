"""Redis does not answer for longer than anybody's request waits: everything waits, and goes on, exact.

The process is stopped, not killed: its connections stay open and nothing comes back, which is the worst
kind of away. 20 s are what a request waits (`LinkBounds.outage_s_max`), so the outage is a little longer.
"""

from __future__ import annotations

import os
import signal
import time

import pytest

from drizzle_streams.local.ports import free_port
from drizzle_streams.stores.redis_link import LinkBounds
from tests.cluster.drizzle_commands import Place, doors_of, until
from tests.cluster.test_late_source import JOB_FILE, become, counted, post

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]

AWAY_S = LinkBounds().outage_s_max + 4.0


def test_everything_waits_for_a_redis_that_is_away_and_goes_on(place: Place) -> None:
    (place.folder / "job.py").write_text(JOB_FILE)
    cluster = place.start("up", "--port", str(free_port()), "--workers", "2", "--sources", "1")
    cluster.says("Drizzle is up")
    doors = doors_of(place.folder / ".drizzle")
    assert place.run("submit", "job.py").code == 0
    post(doors, "source-1", 100)
    become(doors, 100)
    services = place.processes()
    redis_server = next(pid for pid, line in services.items() if "redis-server" in line)

    os.kill(redis_server, signal.SIGSTOP)
    try:
        back_at = time.monotonic() + AWAY_S
        post(doors, "source-1", 50)
        away = until(
            "the coordinator says that it waits",
            lambda: doors.metric("coordinator", "drizzle_ledger_away_seconds"),
        )
        assert away > 0
        assert doors.send("coordinator", "/readyz")[0] == 503
        post(doors, "source-1", 50)
        until("the time is over", lambda: time.monotonic() >= back_at)
        assert place.processes().keys() == services.keys(), "nobody ended"
    finally:
        os.kill(redis_server, signal.SIGCONT)

    become(doors, 200)
    post(doors, "source-1", 20)
    become(doors, 220)
    assert counted(doors) == 220
    status = until("the coordinator leads again", lambda: doors.ask("/status"))
    assert status["workers_lost"] == 0
    story = doors.ask("/debug/story")["story"]
    told = [line["kind"] for line in story]
    assert "LedgerAway" in told
    assert "LedgerBack" in told
    assert not {"WorkerLost", "SourceLost", "JobFailed"}.intersection(told)
    assert doors.metric("coordinator", "drizzle_ledger_away_seconds") == 0.0

    cluster.interrupt()
    assert cluster.ended() == 0, cluster.said()

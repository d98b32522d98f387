"""Ctrl-C leaves no process and no temporary file, whatever was going on."""

from __future__ import annotations

import pytest

from drizzle_streams.local.ports import free_port
from tests.cluster.drizzle_commands import Place

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(180)]


@pytest.mark.parametrize(("moment", "times"), [("starting", 1), ("running", 3)])
def test_a_demo_that_is_interrupted(place: Place, moment: str, times: int) -> None:
    """A second and a third interrupt do not cut the winding-up short."""
    demo = place.start("demo", "--rate", "2000", "--seconds", "60", "--window", "2s")
    demo.says(f"{moment}:")
    assert place.processes()
    assert list(place.temporary.iterdir())
    for _ in range(times):
        demo.interrupt()

    assert demo.ended() == 130, demo.said()
    assert "interrupted: everything is stopped and removed" in demo.said()
    assert "Traceback" not in demo.said()
    assert place.left_behind() == ([], [])


@pytest.mark.parametrize("moment", ["starting", "Drizzle is up"])
def test_a_cluster_that_is_interrupted(place: Place, moment: str) -> None:
    up = place.start("up", "--port", str(free_port()), "--workers", "1", "--sources", "1")
    up.says(moment)
    up.interrupt()

    assert up.ended() == 0, up.said()
    assert "Traceback" not in up.said()
    assert place.left_behind() == ([], [])
    assert not (place.folder / ".drizzle" / "cluster.json").exists(), "no note of a cluster that is gone"

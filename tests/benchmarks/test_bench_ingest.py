"""The benchmark of ingest: its bodies are what sources take, and it measures a real source."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from drizzle_benchmarks import ingest
from drizzle_benchmarks.bodies import CONTENT_TYPES, bodies
from drizzle_streams.source.formats import CONTENT_TYPES as TAKEN
from drizzle_streams.source.formats import check_body


@pytest.mark.parametrize("name", list(CONTENT_TYPES))
def test_bodies_are_what_sources_take(name: str) -> None:
    for posted in bodies(name, 50):
        assert check_body(TAKEN[CONTENT_TYPES[name]], posted.body).records == posted.events == 50


@pytest.mark.cluster
@pytest.mark.timeout(240)
async def test_a_source_is_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ingest, "DURABILITIES", ("always",))
    monkeypatch.setattr(ingest, "CONTENT_TYPES", {"arrow": CONTENT_TYPES["arrow"]})  # the others: above
    arguments = argparse.Namespace(post_events=(50,), connections=2, seconds=0.2, dir=tmp_path)
    report = await ingest.run(arguments)
    assert [row["format"] for row in report.rows] == ["arrow"]
    for row in report.rows:
        assert (row["durability"], row["post_events"]) == ("always", 50)
        assert min(row["events_per_second"], row["mb_per_second"], row["resident_mib"]) > 0
    assert all(claim.measured is None for claim in report.claims), "none had the default durability"
    ingest.plot(report, tmp_path / "ingest.png")
    assert (tmp_path / "ingest.png").read_bytes().startswith(b"\x89PNG")

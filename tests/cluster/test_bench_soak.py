"""The soak, short: it looks at a real cluster a few times, and claims that nothing grows."""

from __future__ import annotations

import argparse

import pytest

from drizzle_benchmarks import soak

pytestmark = pytest.mark.cluster


@pytest.mark.timeout(180)
async def test_a_short_soak_is_looked_at() -> None:
    parser = argparse.ArgumentParser()
    soak.add_arguments(parser)
    report = await soak.run(parser.parse_args(["--batches", "200", "--samples", "2", "--workers", "1"]))

    first, last = report.rows
    assert 100 <= first["batches"] < last["batches"]
    assert set(last["resident_bytes"]) == set(last["open_files"]) == {"coordinator", "worker-1", "source-1"}
    assert min(last["resident_bytes"].values()) > 0
    assert min(last["open_files"].values()) > 3
    assert last["log_bytes"] > 0
    assert last["redis_keys"] > 0
    assert last["batch_latency_p50_ms"] > 0
    assert len(report.claims) == 8

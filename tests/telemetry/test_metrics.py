"""Names, bounds and contents of what Prometheus sees."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client import Counter as PrometheusCounter
from prometheus_client.parser import text_string_to_metric_families

from drizzle_streams import telemetry
from drizzle_streams.model.ids import NodeId
from drizzle_streams.telemetry.families import OTHER, SERIES_MAX, Family, Readings
from drizzle_streams.telemetry.metrics import (
    CoordinatorMetrics,
    RuntimeMetrics,
    SourceMetrics,
    WorkerMetrics,
)
from drizzle_streams.transport.base import DropReason
from drizzle_streams.transport.memory import MemoryNetwork, MemoryTransport


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry(auto_describe=True)


def samples(registry: CollectorRegistry) -> dict[str, float]:
    """Every sample as Prometheus would store it: 'name{labels}' → value."""
    text = generate_latest(registry).decode()
    lines = [line.rpartition(" ") for line in text.splitlines() if not line.startswith("#")]
    return {name: float(value) for name, _, value in lines}


def test_all_services_metrics_live_together_with_names_in_one_style(registry: CollectorRegistry) -> None:
    CoordinatorMetrics(registry)
    worker = WorkerMetrics(registry)
    worker.read_blocks(lambda: 1, lambda: 2)
    worker.read_tasks(lambda: {"blocks": 1})
    SourceMetrics(registry)
    runtime = RuntimeMetrics(registry, service="worker", node="w1", version="1.0")
    runtime.read_loop(lambda: 0.1)
    runtime.read_messages(lambda: {"A": 1}, lambda: {"B": 2}, lambda: {"stale": 3}, lambda: 4)
    runtime.read_queues(lambda: {"events": 5})
    runtime.read_transport(MemoryTransport(NodeId("w1"), MemoryNetwork(), "token"))
    families = list(text_string_to_metric_families(generate_latest(registry).decode()))
    ours = [family for family in families if not family.name.startswith("process_")]
    assert len(ours) > 50
    for family in ours:
        assert re.fullmatch(r"drizzle_[a-z]+(_[a-z]+)*", family.name), family.name
        assert not family.name.endswith(("_ms", "_millis", "_count", "_kb", "_mb")), family.name
        assert len(family.documentation) > 3
        assert not family.documentation.endswith("."), family.documentation


def test_metrics_are_declared_in_one_room() -> None:
    """Only what is declared there gets into docs/metrics.md."""
    rooms = Path(telemetry.__file__).parents[1]
    for path in rooms.rglob("*.py"):
        if path.parent.name != "telemetry":
            text = path.read_text()
            assert not re.search(r"import .*\b(Readings|Sheet)\b", text), path
            assert not re.search(r"from prometheus_client import .*\b(Counter|Gauge|Histogram)\b", text), path


def test_batch_latency_has_buckets_around_the_targets(registry: CollectorRegistry) -> None:
    worker = WorkerMetrics(registry)
    for milliseconds in (0.4, 12, 40, 70_000):
        worker.batch_latency_seconds.of("ysb", 1).observe(milliseconds / 1000)
    found = samples(registry)

    def below(le: str) -> float:
        return found[f'drizzle_batch_latency_seconds_bucket{{job="ysb",le="{le}",stage="1"}}']

    assert [below(le) for le in ("0.001", "0.01", "0.015", "0.05", "60.0", "+Inf")] == [1, 1, 2, 3, 3, 4]
    assert found['drizzle_batch_latency_seconds_count{job="ysb",stage="1"}'] == 4


def test_a_job_that_ended_leaves_no_series(registry: CollectorRegistry) -> None:
    worker, coordinator, source = (
        WorkerMetrics(registry),
        CoordinatorMetrics(registry),
        SourceMetrics(registry),
    )
    for job in ("stays", "goes"):
        for stage in (0, 1):
            worker.task_seconds.of(job, stage).observe(0.1)
            worker.state_keys.of(job, stage).set(7)
        coordinator.frontier_batch.of(job).set(3)
        source.batches_sealed.of(job).inc()
    before = samples(registry)
    for metrics in (worker, coordinator, source):
        metrics.forget_job("goes")
        metrics.forget_job("never was")
    after = samples(registry)
    assert not [name for name in after if '"goes"' in name]
    assert {name for name in after if '"stays"' in name} == {name for name in before if '"stays"' in name}


def test_labels_are_bounded_and_nothing_is_lost(registry: CollectorRegistry) -> None:
    metric = PrometheusCounter("things", "Things", ["job", "stage"], registry=registry)
    family = Family(metric, 2, series_max=3)
    for job in range(10):
        family.of(job, 0).inc()
    found = {name: value for name, value in samples(registry).items() if name.startswith("things_total")}
    assert len(found) == 4
    assert found[f'things_total{{job="{OTHER}",stage="{OTHER}"}}'] == 7
    family.forget(0)
    family.of("new", 0).inc()
    assert samples(registry)['things_total{job="new",stage="0"}'] == 1


def test_readings_show_what_is_there_when_asked(registry: CollectorRegistry) -> None:
    readings, counts, depth = Readings(registry), Counter({"stale": 2}), [0]
    readings.add("drizzle_things_total", "Things", lambda: counts, "reason")
    readings.add("drizzle_depth", "Depth", lambda: depth[0])
    counts["garbage"] += 1
    depth[0] = 9
    assert samples(registry) == {
        'drizzle_things_total{reason="stale"}': 2,
        'drizzle_things_total{reason="garbage"}': 1,
        "drizzle_depth": 9,
    }
    depth[0] = 8
    assert samples(registry)["drizzle_depth"] == 8


def test_readings_are_bounded_too(registry: CollectorRegistry) -> None:
    Readings(registry).add(
        "drizzle_things_total", "Things", lambda: {f"r{n}": 1.0 for n in range(SERIES_MAX + 5)}, "reason"
    )
    found = samples(registry)
    assert len(found) == SERIES_MAX + 1
    assert found[f'drizzle_things_total{{reason="{OTHER}"}}'] == 5


async def test_a_transport_is_read_not_told(registry: CollectorRegistry) -> None:
    transport = MemoryTransport(NodeId("a"), MemoryNetwork(), "token")
    RuntimeMetrics(registry, service="worker", node="a", version="1").read_transport(transport)
    transport.send(NodeId("b"), "http://nowhere:1", b"x")
    transport.counters.frames_received += 5
    found = samples(registry)
    assert found[f'drizzle_link_frames_dropped_total{{reason="{DropReason.CLOSED.value}"}}'] == 1
    assert found['drizzle_link_frames_total{direction="received"}'] == 5
    assert found['drizzle_info{node="a",service="worker",version="1"}'] == 1
    assert found["process_resident_memory_bytes"] > 1_000_000

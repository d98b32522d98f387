"""Decisions on the group size, as they are shown."""

from __future__ import annotations

from prometheus_client import CollectorRegistry

from drizzle_streams.telemetry.families import Sheet
from drizzle_streams.telemetry.tuning import TunerMetrics


def test_what_bound_before_is_shown_as_not_binding_any_more() -> None:
    registry = CollectorRegistry()
    sheet = Sheet(registry)
    tuner = TunerMetrics(sheet)
    tuner.show("ysb", target=8, lower=2, upper=40, binding="optimum", inputs={"interval_seconds": 0.1})
    tuner.show("ysb", target=9, lower=9, upper=4, binding="overhead", inputs={"interval_seconds": 0.2})

    def shows(name: str, **labels: str) -> float | None:
        return registry.get_sample_value(f"drizzle_tuner_{name}", {"job": "ysb", **labels})

    assert shows("binding", constraint="optimum") == 0
    assert shows("binding", constraint="overhead") == 1
    assert shows("band_empty") == 1
    assert shows("target_batches") == 9
    assert shows("input", input="interval_seconds") == 0.2
    sheet.forget_job("ysb")
    tuner.forget_job("ysb")
    assert [sample for family in registry.collect() for sample in family.samples] == []
    tuner.show("ysb", target=8, lower=8, upper=8, binding="fixed", inputs={})
    assert shows("binding", constraint="overhead") is None

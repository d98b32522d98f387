"""Decisions on the group size, as they are shown."""

from __future__ import annotations

from prometheus_client import CollectorRegistry

from drizzle_streams.telemetry.families import Sheet
from drizzle_streams.telemetry.tuning import TunerMetrics


def test_what_bound_before_is_shown_as_not_binding_any_more() -> None:
    registry = CollectorRegistry()
    sheet = Sheet(registry)
    tuner = TunerMetrics(sheet)
    sizes = {"target": 8, "optimum": 8, "lower": 2, "upper": 40}
    binds = {"target": "optimum", "lower": "stability", "upper": "recovery"}
    tuner.show("ysb", sizes=sizes, binds=binds, inputs={"interval_seconds": 0.1})
    sizes = {"target": 9, "optimum": 3, "lower": 9, "upper": 4}
    binds = {"target": "overhead", "lower": "overhead", "upper": "recovery"}
    tuner.show("ysb", sizes=sizes, binds=binds, inputs={"interval_seconds": 0.2}, band_empty=True)

    def shows(name: str, **labels: str) -> float | None:
        return registry.get_sample_value(f"drizzle_tuner_{name}", {"job": "ysb", **labels})

    assert shows("binding", size="target", constraint="optimum") == 0
    assert shows("binding", size="target", constraint="overhead") == 1
    assert shows("binding", size="lower", constraint="stability") == 0
    assert shows("binding", size="upper", constraint="recovery") == 1
    assert shows("band_empty") == 1
    assert [shows(f"{name}_batches") for name in sizes] == [9, 3, 9, 4]
    assert shows("input", input="interval_seconds") == 0.2
    sheet.forget_job("ysb")
    tuner.forget_job("ysb")
    assert [sample for family in registry.collect() for sample in family.samples] == []
    tuner.show("ysb", sizes=sizes, binds=binds, inputs={})
    assert shows("binding", size="target", constraint="optimum") is None

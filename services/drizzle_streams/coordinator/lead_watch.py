"""What every coordinator shows of its leadership, leader or standby."""

from __future__ import annotations

from prometheus_client import CollectorRegistry

from drizzle_streams.coordinator.leadership import Leadership
from drizzle_streams.coordinator.outage import LedgerOutage
from drizzle_streams.telemetry.reading import LeadMetrics


def watch_leadership(registry: CollectorRegistry, leadership: Leadership, outage: LedgerOutage) -> None:
    """Export it, read when somebody looks."""
    LeadMetrics(
        registry,
        lambda: leadership.leads,
        lambda: leadership.taken,
        lambda: leadership.lost,
        lambda: outage.seconds,
    )

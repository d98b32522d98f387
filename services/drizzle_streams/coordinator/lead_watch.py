"""What every coordinator shows of its leadership, leader or standby."""

from __future__ import annotations

from prometheus_client import CollectorRegistry

from drizzle_streams.coordinator.leadership import Leadership
from drizzle_streams.telemetry.families import Readings


def watch_leadership(registry: CollectorRegistry, leadership: Leadership) -> None:
    """Export it, read when somebody looks."""
    add = Readings(registry).add
    add("drizzle_leading", "1 while this coordinator leads, 0 while it stands by", lambda: leadership.leads)
    add("drizzle_leads_taken_total", "Times this coordinator took the lead", lambda: leadership.taken)
    add("drizzle_leads_lost_total", "Times it found that another one leads", lambda: leadership.lost)

"""Metrics that are only read when somebody asks: what a worker holds and refused, and who leads.

See `families.Readings`. They are declared here, and not where the numbers are, so that names and
help texts stay in one room with all others (`metrics`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from prometheus_client import CollectorRegistry

from drizzle_streams.telemetry.families import Readings

Counts = Callable[[], Mapping[str, float]]
Count = Callable[[], float]


class LeadMetrics:
    """What leader and standby show of their leadership."""

    def __init__(
        self, registry: CollectorRegistry, leads: Count, taken: Count, lost: Count, away_seconds: Count
    ) -> None:
        add = Readings(registry).add
        away = "How long the ledger has not answered this coordinator; 0 while it does"
        add("drizzle_ledger_away_seconds", away, away_seconds)
        add("drizzle_leading", "1 while this coordinator leads, 0 while it stands by", leads)
        add("drizzle_leads_taken_total", "Times this coordinator took the lead", taken)
        add("drizzle_leads_lost_total", "Times it found that another one leads", lost)


class WorkerReadings:
    """The plain numbers of a worker; see `metrics.WorkerMetrics`."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._readings = Readings(registry)

    def read_blocks(self, held: Count, held_bytes: Count) -> None:
        """Blocks kept for other workers and for replay."""
        self._readings.add("drizzle_blocks_held", "Blocks held here", held)
        self._readings.add("drizzle_blocks_held_bytes", "Bytes of the blocks held here", held_bytes)

    def read_tasks(self, by_state: Counts) -> None:
        """Tasks that wait, by what for ("blocks": an awaited block, "slot": a free thread)."""
        self._readings.add("drizzle_tasks_waiting", "Tasks that wait, by what for", by_state, "for")

    def read_slots(self, slots: Count, busy_seconds: Count) -> None:
        """Slots, and how long tasks have had them in all."""
        add = self._readings.add
        add("drizzle_slots", "Tasks that may run here at once", slots)
        add(
            "drizzle_slot_seconds_total",
            "Slot time spent in tasks; per second and slot it is the utilisation",
            busy_seconds,
        )

    def read_fragments(self, held: Count, held_bytes: Count) -> None:
        """What came from others for tasks that have not run yet."""
        self._readings.add("drizzle_fragments_held", "Fragments held for tasks here", held)
        self._readings.add("drizzle_fragments_held_bytes", "Bytes of the fragments held", held_bytes)

    def read_states(self, by_origin: Counts) -> None:
        """Where the state of moved partitions came from ("worker", "checkpoint")."""
        text = "States of moved partitions, by whether their former owner gave them or the checkpoint"
        self._readings.add("drizzle_states_taken_over_total", text, by_origin, "origin")

    def read_refused(self, payloads: Counts, fetches: Counts) -> None:
        """What was not taken in, and not given out, by reason."""
        add = self._readings.add
        text = "Payloads in messages that were not kept, by reason"
        add("drizzle_payloads_refused_total", text, payloads, "reason")
        text = "Fetches of blocks that were answered with an error, by reason"
        add("drizzle_block_fetches_refused_total", text, fetches, "reason")

    def read_failures(
        self,
        *,
        fetches: Count,
        tasks: Count,
        snapshots: Count,
        outages: Count,
        snapshots_damaged: Count,
        letters_dropped: Count,
    ) -> None:
        """What went wrong here, one number each."""
        add = self._readings.add
        add("drizzle_fetches_failed_total", "Fetches that brought nothing", fetches)
        add("drizzle_tasks_failed_total", "Tasks that failed their job", tasks)
        add("drizzle_snapshots_failed_total", "Snapshots not stored", snapshots)
        text = "Times a sink's write or a restore was tried again because its store was away"
        add("drizzle_outages_waited_total", text, outages)
        text = "Restores that found a part missing or damaged; the checkpoint before it is used"
        add("drizzle_snapshots_damaged_total", text, snapshots_damaged)
        text = "Dead letters that were counted and not kept"
        add("drizzle_dead_letters_dropped_total", text, letters_dropped)

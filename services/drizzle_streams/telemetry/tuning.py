"""What the group-size tuner knows and decides, as metrics: its band, what binds it, every input.

One call shows a decision, whichever mode made it; a fixed group size is a band of one value.
Labels of inputs carry their unit at the end (`coordination_seconds`, `utilisation_ratio`), so
that a dashboard can draw like with like without knowing them one by one.
"""

from __future__ import annotations

from collections.abc import Mapping

from drizzle_streams.telemetry.families import Sheet

FIXED = "fixed"
"""What binds a group size that the job itself states."""


class TunerMetrics:
    """Declared on the coordinator's sheet, so a job that ends takes its series with it."""

    def __init__(self, sheet: Sheet) -> None:
        gauge = sheet.gauge
        self._sizes = {
            "target": gauge(
                "drizzle_tuner_target_batches", "Group size that the tuner is heading for", "job"
            ),
            "optimum": gauge(
                "drizzle_tuner_optimum_batches", "Group size with the least loss, before any bound", "job"
            ),
            "lower": gauge(
                "drizzle_tuner_lower_batches",
                "Least group size that is feasible: stability, overhead, tail",
                "job",
            ),
            "upper": gauge(
                "drizzle_tuner_upper_batches",
                "Greatest group size that is feasible: recovery, adaptation, memory",
                "job",
            ),
        }
        self._band_empty = gauge(
            "drizzle_tuner_band_empty",
            "1 while no group size suits the tuner: lower is above upper",
            "job",
        )
        self._binding = gauge(
            "drizzle_tuner_binding",
            "1 for what sets the target, lower or upper group size now, 0 for what did before",
            "job",
            "size",
            "constraint",
        )
        self._input = gauge(
            "drizzle_tuner_input",
            "What the tuner reckons with, each in the unit its name ends in",
            "job",
            "input",
        )
        self._bound_by: dict[str, Mapping[str, str]] = {}

    def show(
        self,
        job: str,
        *,
        sizes: Mapping[str, float],
        binds: Mapping[str, str],
        inputs: Mapping[str, float],
        band_empty: bool = False,
    ) -> None:
        """The newest decision for a job.

        `sizes` are batches: target, optimum, lower, upper (perhaps infinite). `binds` names the
        constraint that sets the target, the lower and the upper one. `band_empty`: these two
        contradict each other, and the size is the tuner's to choose.
        """
        for name, batches in sizes.items():
            self._sizes[name].of(job).set(batches)
        self._band_empty.of(job).set(band_empty)
        for size, constraint in self._bound_by.get(job, {}).items():
            self._binding.of(job, size, constraint).set(0)
        for size, constraint in binds.items():
            self._binding.of(job, size, constraint).set(1)
        self._bound_by[job] = binds
        for name, value in inputs.items():
            self._input.of(job, name).set(value)

    def forget_job(self, job: str) -> None:
        """Nothing binds a job that has ended; its series go with the sheet's."""
        self._bound_by.pop(job, None)

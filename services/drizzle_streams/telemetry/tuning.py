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
        self._target = sheet.gauge(
            "drizzle_tuner_target_batches", "Group size that the tuner asks for; the next group has it", "job"
        )
        self._lower = sheet.gauge(
            "drizzle_tuner_lower_batches",
            "Least group size that is feasible: stability, overhead, tail",
            "job",
        )
        self._upper = sheet.gauge(
            "drizzle_tuner_upper_batches",
            "Greatest group size that is feasible: recovery, adaptation, memory",
            "job",
        )
        self._band_empty = sheet.gauge(
            "drizzle_tuner_band_empty", "1 while no group size is feasible: lower is above upper", "job"
        )
        self._binding = sheet.gauge(
            "drizzle_tuner_binding", "1 for what decides the group size now, 0 for what did before",
            "job", "constraint",
        )  # fmt: skip
        self._input = sheet.gauge(
            "drizzle_tuner_input", "What the tuner reckons with, each in the unit its name ends in",
            "job", "input",
        )  # fmt: skip
        self._bound_by: dict[str, str] = {}

    def show(
        self,
        job: str,
        *,
        target: float,
        lower: float,
        upper: float,
        binding: str,
        inputs: Mapping[str, float],
    ) -> None:
        """The newest decision for a job. Group sizes in batches; `binding` names a constraint."""
        self._target.of(job).set(target)
        self._lower.of(job).set(lower)
        self._upper.of(job).set(upper)
        self._band_empty.of(job).set(lower > upper)
        before = self._bound_by.get(job)
        if before is not None and before != binding:
            self._binding.of(job, before).set(0)
        self._bound_by[job] = binding
        self._binding.of(job, binding).set(1)
        for name, value in inputs.items():
            self._input.of(job, name).set(value)

    def forget_job(self, job: str) -> None:
        """Nothing binds a job that has ended; its series go with the sheet's."""
        self._bound_by.pop(job, None)

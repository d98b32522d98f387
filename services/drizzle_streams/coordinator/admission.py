"""What a job must be to be taken: whatever the machines rely on is checked here, once.

A job file comes from whoever holds the cluster's token, made by any release or by hand. The
machines divide by its intervals and index by its stages, so a job that is not sound must be
refused with its reason before they see it.
"""

from __future__ import annotations

import re

from drizzle_streams.errors import ProtocolError, explain
from drizzle_streams.model.files import CHUNKS_MAX
from drizzle_streams.model.job import JobSpec, StageSpec
from drizzle_streams.model.tuning import GROUP_SIZE_MAX, Tuning

STAGES_MAX = 64
PARTITIONS_MAX = 1_024
KEY_GROUPS_MAX = 65_536
INTERVAL_MS_MIN, INTERVAL_MS_MAX = 1.0, 60_000.0
CHECKPOINT_INTERVAL_MS_MAX = 3_600_000.0
OVERHEAD_MIN = 1e-6
OBJECTIVE_MS_MAX = 366 * 86_400_000.0
MEMORY_BYTES_MAX = 1 << 50
STARTS = ("earliest", "latest")

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_NAME_WANTED = "1 to 64 letters, digits, '.', '_' or '-', a letter or digit first"


def check_job(spec: JobSpec) -> None:
    """Raise `ProtocolError` with the reason unless the machines can run this job."""
    if not _NAME.fullmatch(spec.job):
        raise _refused("job name", _NAME_WANTED, repr(spec.job[:100]))
    job = f"job {spec.job!r}"
    interval_ms, checkpoint_ms = spec.batch_interval_ms, spec.checkpoint_interval_ms
    _within(f"{job}: batch_interval_ms", interval_ms, INTERVAL_MS_MIN, INTERVAL_MS_MAX)
    _within(f"{job}: checkpoint_interval_ms", checkpoint_ms, interval_ms, CHECKPOINT_INTERVAL_MS_MAX)
    _within(f"{job}: group_size", spec.group_size, 1, GROUP_SIZE_MAX)
    _check_tuning(f"{job}: tuning", spec.tuning)
    _within(f"{job}: key_groups", spec.key_groups, 1, KEY_GROUPS_MAX)
    _within(f"{job}: number of stages", len(spec.stages), 1, STAGES_MAX)
    if spec.start_from not in STARTS:
        raise _refused(f"{job}: start_from", " or ".join(STARTS), repr(spec.start_from[:100]))
    if spec.born:
        raise _refused(f"{job}: born", "0: the coordinator sets it", str(spec.born))
    for number, stage in enumerate(spec.stages):
        _check_stage(f"{job}, stage {number}", spec, stage, number)


def _check_tuning(thing: str, tuning: Tuning) -> None:
    """The tuner divides by these, or takes their logarithm."""
    _within(f"{thing}, group_size_max", tuning.group_size_max, 1, GROUP_SIZE_MAX)
    _within(f"{thing}, group_size_min", tuning.group_size_min, 1, tuning.group_size_max)
    _within(f"{thing}, overhead_upper", tuning.overhead_upper, OVERHEAD_MIN, 1.0)
    _within(f"{thing}, overhead_lower", tuning.overhead_lower, 0.0, tuning.overhead_upper)
    _within(f"{thing}, recovery_objective_ms", tuning.recovery_objective_ms, 0.0, OBJECTIVE_MS_MAX)
    _within(f"{thing}, adaptation_objective_ms", tuning.adaptation_objective_ms, 0.0, OBJECTIVE_MS_MAX)
    _within(f"{thing}, tail_quantile", tuning.tail_quantile or 0.0, 0.0, 1.0)
    _within(f"{thing}, wait_cost", tuning.wait_cost or 0.0, 0.0, 1.0)
    _within(f"{thing}, utilisation_target", tuning.utilisation_target, 0.0, 1.0)
    _within(f"{thing}, memory_bytes", tuning.memory_bytes, 0, MEMORY_BYTES_MAX)


def _check_stage(thing: str, spec: JobSpec, stage: StageSpec, number: int) -> None:
    if stage.stage != number:
        raise _refused(thing, f"number {number}, since numbers are dense and in order", str(stage.stage))
    if stage.stream is None:
        _within(f"{thing}: partitions", stage.partitions, 1, min(PARTITIONS_MAX, spec.key_groups))
        _within(f"{thing}: partitions_least", stage.partitions_least, 0, stage.partitions)
        _within(f"{thing}: laid", stage.laid, 0, 0)
        if not stage.inputs or not all(0 <= upstream < number for upstream in stage.inputs):
            raise _refused(f"{thing}: inputs", "earlier stages, or a stream", str(stage.inputs))
        return
    _within(f"{thing}: chunks", stage.chunks or 0, 0, CHUNKS_MAX)
    if not _NAME.fullmatch(stage.stream):
        raise _refused(f"{thing}: stream name", _NAME_WANTED, repr(stage.stream[:100]))
    if stage.inputs or stage.partitions or stage.stateful:
        found = f"inputs {stage.inputs}, partitions {stage.partitions}, stateful {stage.stateful}"
        raise _refused(thing, "a stream and nothing else to read, laid out by the coordinator", found)


def _within(thing: str, value: float, least: float, most: float) -> None:
    if not least <= value <= most:  # not so for NaN either
        raise _refused(thing, f"{least:g} to {most:g}", f"{value:g}")


def _refused(thing: str, wanted: str, found: str) -> ProtocolError:
    remedy = "Correct the job; Job.to_bytes() of this release makes sound ones."
    return ProtocolError(explain(thing, wanted=wanted, found=found, remedy=remedy))

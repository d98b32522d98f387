"""What a worker refused or lost, by reason: plain numbers that telemetry reads when asked.

None of these is an error of the worker: it answers, counts and goes on.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from enum import StrEnum


class Refusal(StrEnum):
    """Why a payload that came along, or a fetch of blocks, was not taken."""

    GARBAGE = "garbage"
    NOT_HELD = "not_held"
    OTHER_RUN = "other_run"
    GENERATION = "generation"
    FULL = "full"


@dataclass(slots=True)
class WorkerCounters:
    """Only grow."""

    payloads_refused: Counter[Refusal] = field(default_factory=Counter[Refusal])
    """Payloads that rode in a message; they are pulled instead, or the message is refused too."""
    fetches_refused: Counter[Refusal] = field(default_factory=Counter[Refusal])
    """Fetches of blocks that were answered with an error."""
    fetches_failed: int = 0
    """Fetches of ours that brought nothing."""
    states_taken_over: int = 0
    """States that came from their former owner, in memory."""
    states_not_taken_over: int = 0
    """Former owners that could not give what was asked; the checkpoint did."""
    tasks_failed: int = 0
    snapshots_failed: int = 0
    outages_waited: int = 0
    """Times that a store was away beyond its own bound and was asked again."""
    snapshots_damaged: int = 0
    """Restores that found a part missing or not what was stored; the checkpoint before it is used."""

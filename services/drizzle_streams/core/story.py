"""The story: what happened and why, so that a person can read a recovery afterwards.

A bounded ring of past-tense lines; the coordinator tells it, `/debug/story` and the console show it.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

STORY_LINES_MAX = 2_000


@dataclass(frozen=True, slots=True)
class StoryLine:
    """At cluster time `at` (seconds), `kind` happened, with details in words."""

    number: int
    at: float
    kind: str
    job: str
    text: str


@dataclass(slots=True)
class Story:
    """The last STORY_LINES_MAX lines, numbered for ever."""

    lines: deque[StoryLine] = field(default_factory=lambda: deque[StoryLine](maxlen=STORY_LINES_MAX))
    _told: int = 0

    def tell(self, now: float, kind: str, text: str, job: str = "") -> None:
        """Add a line. `kind` is a past-tense name such as WorkerLost."""
        self._told += 1
        self.lines.append(StoryLine(self._told, now, kind, job, text))

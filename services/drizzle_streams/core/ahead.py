"""What is said in the name of a generation before its assignment is here.

Nodes hear of a new generation one after another, and who has heard of it speaks in its name at once.
So an offer, or an announcement of blocks, may come before the assignment which says that its batches
are needed here: the job is not even known, or they lie before what has been computed, or its partitions
are other ranges of key groups than those of the same numbers here (`core.resizing`). It is kept until
then, and only then taken in, as not carried: what rode in with it may be gone by then. Dropped, it would
come again only when a task has waited for it for a second.
"""

from __future__ import annotations

from collections import deque

from drizzle_streams.model.ids import Generation, JobId
from drizzle_streams.protocol.messages import BlocksReady, Offer

AHEAD_MESSAGES_MAX = 4_096
"""Messages of generations to come that a worker keeps; the oldest is dropped then, and asked for later."""

AheadMessage = Offer | BlocksReady


class Ahead:
    """Offers and announcements of all jobs that came too early, in the order in which they came."""

    def __init__(self) -> None:
        self._kept: deque[AheadMessage] = deque(maxlen=AHEAD_MESSAGES_MAX)

    def __len__(self) -> int:
        return len(self._kept)

    def keep(self, message: AheadMessage) -> None:
        """Until its generation is assigned here, or a later one."""
        self._kept.append(message)

    def take(self, job: JobId, generation: Generation) -> list[AheadMessage]:
        """What was said of that job in the name of just this generation.

        Generations are assigned in order, whatever the job, so nothing older is ever asked for again.
        """
        mine: list[AheadMessage] = []
        kept: list[AheadMessage] = []
        for message in self._kept:
            if message.generation == generation and message.job == job:
                mine.append(message)
            elif message.generation >= generation:
                kept.append(message)
        self._kept = deque(kept, maxlen=AHEAD_MESSAGES_MAX)
        return mine

    def forget(self, job: JobId) -> None:
        """The job is over."""
        self._kept = deque((m for m in self._kept if m.job != job), maxlen=AHEAD_MESSAGES_MAX)

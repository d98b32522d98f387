"""How far a worker whose memory for blocks is full may still compute: to where memory becomes free.

Blocks go when a checkpoint moves the floor (law 5), and a checkpoint needs every stage to have passed
its batch. So a full worker must not stop at once: it goes on to the batch of the next checkpoint after
the newest, and waits there for its commit. What it has not computed its sources are not credited
for, so they keep the records, and tell producers to wait (law 9).

That checkpoint may never become whole: a snapshot failed, or was told a coordinator that died. Then it
is *doubtful*, and the one after it must be reached: more memory rather than a standstill. Who else has
stored its part cannot know that, so one that is not committed for `DOUBT_AFTER_S` is doubtful to everybody.
"""

from __future__ import annotations

from collections.abc import Sequence

from drizzle_streams.model.ids import BatchId

DOUBT_AFTER_S = 5.0
"""A full worker waits so long for a commit; then it goes on for another interval, and waits again."""


def allowed_through(newest: BatchId, every: int, doubtful: BatchId) -> BatchId:
    """The last batch that a full worker begins: of the first checkpoint of which there is hope."""
    return BatchId(((max(newest, doubtful) + 1) // every + 1) * every - 1)


def doubtful_from(needed: Sequence[Sequence[BatchId]], every: int) -> BatchId:
    """In a new generation: where the furthest owner stands, and an interval for what it has not said yet."""
    return BatchId(max((batch for row in needed for batch in row), default=0) - 1 + every)

"""What producers have posted already, so that posting again is harmless.

A producer that wants this names itself and numbers its posts; a number stands for the
same body for ever, and goes to the same source and stream. Numbers may skip and may
arrive out of order (several posts in the air); each is taken once:

- known number: the answer that was given then, word for word, as a duplicate
- number not seen: taken, also if there is a gap before it
- `SEQUENCES_MAX` or more behind the highest seen: refused (`SequenceError`, HTTP 409),
  since nobody can say any more whether it was taken

Bounds, per stream: `SEQUENCES_MAX` numbers of each producer, `PRODUCERS_MAX` producers,
`POSTS_MAX` posts in all (about 10 MB). The producer that was silent longest is forgotten
first; should it then re-post an old number, its records are taken again.

After a crash the table comes back from the log: each segment's head holds it as it
stood when the segment began, and the entries that follow carry the rest. So trimming
needs to save nothing, and works on a full disk.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from drizzle_streams.errors import ProtocolError, explain

SEQUENCES_MAX = 512
PRODUCERS_MAX = 1024
POSTS_MAX = 32_768
SEQUENCE_MAX = 2**63 - 1


class SequenceError(ProtocolError):
    """A post is too old to tell whether it was taken."""


@dataclass(frozen=True, slots=True)
class Sequenced:
    """A producer's number for one post."""

    producer: str
    sequence: int


@dataclass(frozen=True, slots=True)
class Range:
    """Records [first, end) of one partition."""

    partition: int
    first: int
    end: int


@dataclass(slots=True)
class _Posts:
    """One producer's posts by number."""

    highest: int = -1
    taken: dict[int, tuple[Range, ...]] = field(default_factory=dict)

    def is_too_old(self, sequence: int) -> bool:
        """Below the window in which numbers are remembered."""
        return sequence <= self.highest - SEQUENCES_MAX

    def add(self, sequence: int, ranges: tuple[Range, ...]) -> None:
        """Remember a number, and forget those that the window leaves behind."""
        if self.is_too_old(sequence):
            return
        self.taken[sequence] = ranges
        step = sequence - self.highest
        if step <= 0:
            return
        self.highest = sequence
        if step < SEQUENCES_MAX:
            for old in range(sequence - step - SEQUENCES_MAX + 1, sequence - SEQUENCES_MAX + 1):
                self.taken.pop(old, None)
        else:
            self.taken = {sequence: ranges}


Row = tuple[Sequenced, tuple[Range, ...]]
"""One remembered post and where its records lie."""


class ProducerTable:
    """Producer and sequence -> the ranges that were answered."""

    def __init__(self) -> None:
        self._producers: OrderedDict[str, _Posts] = OrderedDict()
        self._posts = 0

    def find(self, post: Sequenced) -> tuple[Range, ...] | None:
        """Where that post lies; None if it is new. Raises `SequenceError` when it is too old."""
        posts = self._producers.get(post.producer)
        if posts is None:
            return None
        taken = posts.taken.get(post.sequence)
        if taken is None and posts.is_too_old(post.sequence):
            raise SequenceError(
                explain(
                    f"sequence {post.sequence} of producer {post.producer}",
                    wanted=f"one less than {SEQUENCES_MAX} behind {posts.highest}, the highest seen",
                    found="an older one",
                    remedy="It may have been taken long ago; number new posts upwards.",
                )
            )
        return taken

    def add(self, post: Sequenced, ranges: tuple[Range, ...]) -> None:
        """Remember a post; forget numbers and producers beyond the bounds."""
        posts = self._producers.setdefault(post.producer, _Posts())
        self._producers.move_to_end(post.producer)
        self._posts -= len(posts.taken)
        posts.add(post.sequence, ranges)
        self._posts += len(posts.taken)
        while len(self._producers) > PRODUCERS_MAX or self._posts > POSTS_MAX:
            _, forgotten = self._producers.popitem(last=False)
            self._posts -= len(forgotten.taken)

    def rows(self) -> list[Row]:
        """All that is remembered, producers in the order in which they would be forgotten."""
        return [
            (Sequenced(producer, sequence), ranges)
            for producer, posts in self._producers.items()
            for sequence, ranges in posts.taken.items()
        ]


def rows_to_json(rows: Sequence[Row]) -> list[Any]:
    """A table as plain lists, for a segment's head."""
    return [
        [post.producer, post.sequence, [[r.partition, r.first, r.end] for r in ranges]]
        for post, ranges in rows
    ]


def rows_from_json(plain: list[Any]) -> list[Row]:
    """The reverse of `rows_to_json`."""
    return [
        (Sequenced(producer, sequence), tuple(Range(*numbers) for numbers in ranges))
        for producer, sequence, ranges in plain
    ]

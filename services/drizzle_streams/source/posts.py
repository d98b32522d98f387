"""Posts and receipts, and how posts become entries: no file, no loop."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple

from drizzle_streams.source.producers import Range, Sequenced
from drizzle_streams.transport.entries import Entry, EntryFormat, entry_size

_UNNUMBERED = Sequenced("", 0)


class Part(NamedTuple):
    """The records of a post that go to one partition."""

    partition: int
    records: int
    payload: bytes


@dataclass(frozen=True, slots=True)
class Post:
    """What a producer sent, split by partition; each partition at most once."""

    format: EntryFormat
    parts: tuple[Part, ...]
    sequenced: Sequenced | None = None


@dataclass(frozen=True, slots=True)
class Receipt:
    """Where the records of a post lie; `duplicate` when they were there already."""

    ranges: tuple[Range, ...]
    duplicate: bool

    @property
    def records(self) -> int:
        """How many records the post had."""
        return sum(found.end - found.first for found in self.ranges)


def encoded_size(post: Post) -> int:
    """Bytes that a post takes in the log."""
    producer = (post.sequenced or _UNNUMBERED).producer
    return sum(entry_size(len(part.payload), producer) for part in post.parts)


def place_posts(posts: Sequence[Post], ends: Sequence[int]) -> list[Entry]:
    """The posts as entries, one behind the other; `ends` are the partitions' next offsets."""
    following = list(ends)
    entries: list[Entry] = []
    for post in posts:
        named = post.sequenced or _UNNUMBERED
        for number, (partition, records, payload) in enumerate(post.parts):
            base = following[partition]
            following[partition] = base + records
            entries.append(
                Entry(
                    partition,
                    base,
                    records,
                    post.format,
                    payload,
                    named.producer,
                    named.sequence,
                    part=number,
                    parts=len(post.parts),
                )
            )
    return entries


def receipts(posts: Sequence[Post], entries: Sequence[Entry]) -> list[Receipt]:
    """One receipt per post, from the entries that `place_posts` made of them."""
    rest = iter(entries)
    return [
        Receipt(
            tuple(Range(e.partition, e.base_offset, e.end_offset) for e in islice(rest, len(post.parts))),
            duplicate=False,
        )
        for post in posts
    ]

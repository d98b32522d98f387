"""Values of the delivery to one source: its bounds, what is on its way, what was answered."""

from __future__ import annotations

from dataclasses import dataclass, field

from drizzle_loadgen.report import Histogram
from drizzle_loadgen.schedule import Block

FIRST_SEQUENCE = 1
MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Bounds:
    """Bounds of the delivery to one source."""

    # Blocks posted and not answered. One keeps the order even when a block is refused, and costs no more than
    # the round trip: a source takes the posts of one connection one after the other anyway.
    in_flight_max: int = 1
    outstanding_bytes_max: int = 64 * MIB  # of blocks due and not acknowledged
    connect_timeout_s: float = 2.0
    answer_timeout_s: float = 5.0
    give_up_after_s: float = 60.0  # without one acknowledgement while there is something to acknowledge


@dataclass(slots=True)
class Parcel:
    """A block on its way to a source, under the number that it keeps however often it is posted."""

    block: Block
    sequence: int
    posts: int = 0


@dataclass(slots=True)
class Delivery:
    """What one source has answered so far."""

    taken_blocks: int = 0  # the first ones of this source, without gaps
    taken_beyond: dict[int, int] = field(default_factory=dict)  # sequence to block number, behind a gap
    acknowledged_events: int = 0
    posts: int = 0
    retries: int = 0  # posts beyond the first of a block
    throttled: int = 0  # answers 429
    refused: int = 0  # answers 5xx and 408
    overtaken: int = 0  # answers that a block was taken while one before it was refused
    connections: int = 0
    posted_late: Histogram = field(default_factory=Histogram)  # ms from due to first post
    acknowledged_late: Histogram = field(default_factory=Histogram)  # ms from due to acknowledgement

    def posted(self, parcel: Parcel, now_ms: float) -> None:
        """Count one post."""
        self.posts += 1
        if parcel.posts:
            self.retries += 1
        else:
            self.posted_late.add(now_ms - parcel.block.due_ms)
        parcel.posts += 1

    def acknowledged(self, parcel: Parcel, now_ms: float) -> None:
        """Count the answer that a block was taken."""
        self.acknowledged_events += parcel.block.events
        self.acknowledged_late.add(now_ms - parcel.block.due_ms)
        self.taken_beyond[parcel.sequence] = parcel.block.number
        while self.taken_beyond.pop(FIRST_SEQUENCE + self.taken_blocks, None) is not None:
            self.taken_blocks += 1

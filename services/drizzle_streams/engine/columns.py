"""Reserved column names: what the engine adds to a user's frames.

Every name the engine adds starts with `__`, so a user's column can never collide
with one as long as the API refuses names that start so (`is_reserved`).
The window columns are the exception: they are part of the result the user asked for.
"""

from __future__ import annotations

from typing import Final

RESERVED_PREFIX: Final = "__"

PARTITION: Final = "__partition"
"""uint16: the upstream partition a row came from."""
OFFSET: Final = "__offset"
"""int64: the row's place in its upstream partition; with `PARTITION` a total order of a batch."""
KEY_GROUP: Final = "__key_group"
"""uint16: the key group of a row's key; partitions of a shuffle stage own ranges of them."""
KEY_HASH: Final = "__key_hash"
"""uint64: stable hash of the key columns."""

JOINED: Final = "__joined"
"""uint16: the partition of a stage that joins where a row finds its match."""
BELOW: Final = "__below"
"""uint16: key group in the aggregation of a row that goes by the key of a join first (`KEY_GROUP`)."""
ORIGIN: Final = "__origin"
"""uint16: `PARTITION` of a row before a stage that joins, where `PARTITION` is one of that stage."""
ORDER: Final = "__order"
"""uint64: tells rows of one offset apart, in the order in which one stage alone would have made them."""

WINDOW_START: Final = "window_start"
"""int64, ms: first instant of a row's window."""
WINDOW_END: Final = "window_end"
"""int64, ms: first instant after a row's window."""


def is_reserved(name: str) -> bool:
    """Whether a column name belongs to the engine."""
    return name.startswith(RESERVED_PREFIX)

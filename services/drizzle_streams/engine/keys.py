"""Stable hash of keys, and the key groups cut from it.

The hash outlives processes and versions (snapshots, placement), so it is xxHash64, not
Polars' own. Rules:

- Equal keys hash alike whatever the integer width of the column: values are hashed as text.
- A key group is a range of hashes, not a remainder: sorted by hash means sorted by key
  group, so a partition's share of a sorted frame is one slice. Only the upper 48 bits
  count, so that a slot has room for a window beside them.
- Floats and nested values cannot be keys: their text or their equality is not stable.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import polars as pl
from polars_hash import NonCryptographicHashingNameSpace

from drizzle_streams.engine.columns import KEY_GROUP, KEY_HASH
from drizzle_streams.errors import BuildError, explain

KEY_GROUPS_MAX: Final = 65_536
"""A key group is a uint16."""

HASH_BITS: Final = 48
"""The upper bits of a hash that key groups and sort keys use."""

_LOWER: Final = 1 << (64 - HASH_BITS)
_NULL_HASH: Final = 0x9E37_79B9_7F4A_7C15
"""Hash of a null key part: 2^64 / golden ratio; any constant does."""
_COMBINE: Final = 0xC2B2_AE3D_27D4_EB4F
"""Odd (so no key part is lost), large (so that each part reaches the upper bits): xxHash's second prime."""

_AS_IS: Final = (pl.String, pl.Binary)
_AS_TEXT: Final = (pl.Boolean, pl.Categorical, pl.Enum, pl.Decimal)
_AS_NUMBER: Final = (pl.Date, pl.Time, pl.Datetime, pl.Duration)


def is_key_type(dtype: pl.DataType) -> bool:
    """Whether a column of that type can be a key."""
    return dtype.is_integer() or isinstance(dtype, (*_AS_IS, *_AS_TEXT, *_AS_NUMBER))


def key_hash(columns: Sequence[str], schema: Mapping[str, pl.DataType]) -> pl.Expr:
    """The stable hash (uint64) of some columns of a frame with that schema; null hashes too."""
    hashes = [_column_hash(name, schema[name]) for name in columns]
    combined = hashes[0]
    for one in hashes[1:]:
        combined = combined * pl.lit(_COMBINE, dtype=pl.UInt64) + one
    return combined.alias(KEY_HASH)


def key_group(key_groups: int) -> pl.Expr:
    """The key group (uint16) of the hash in column `KEY_HASH`; grows with the hash."""
    if not 1 <= key_groups <= KEY_GROUPS_MAX:
        raise BuildError(
            explain(
                "key_groups",
                wanted=f"1 to {KEY_GROUPS_MAX}",
                found=str(key_groups),
                remedy="The default of 1024 fits up to 1024 partitions.",
            )
        )
    width = -(-(1 << HASH_BITS) // key_groups)
    upper = upper_bits(pl.col(KEY_HASH))
    return (upper // pl.lit(width, dtype=pl.UInt64)).cast(pl.UInt16).alias(KEY_GROUP)


def upper_bits(hashed: pl.Expr) -> pl.Expr:
    """The upper `HASH_BITS` of a hash, as a number."""
    return hashed // pl.lit(_LOWER, dtype=pl.UInt64)


def _column_hash(name: str, dtype: pl.DataType) -> pl.Expr:
    column = pl.col(name)
    if isinstance(dtype, _AS_NUMBER):
        column = column.to_physical().cast(pl.String)
    elif dtype.is_integer() or isinstance(dtype, _AS_TEXT):
        column = column.cast(pl.String)
    elif not isinstance(dtype, _AS_IS):
        raise BuildError(
            explain(
                f"key column {name!r}",
                wanted="text, an integer, a boolean, a date or a time",
                found=str(dtype),
                remedy="Cast it, for example with_columns(pl.col(...).cast(pl.String)).",
            )
        )
    hashed = NonCryptographicHashingNameSpace(column).xxhash64()
    return hashed.fill_null(pl.lit(_NULL_HASH, dtype=pl.UInt64))

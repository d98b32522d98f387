"""A hash that makes event i from the seed alone, the same on every machine and in every version.

SplitMix64 (Steele, Lea and Flood, 2014): a counter times an odd constant, then two rounds of
xor-shift-multiply. It is chosen because it is random access (no state to walk), passes BigCrush, and needs
only integer arithmetic that Polars does on whole columns. Polars' own hash is not used: it changes between
versions.
"""

from __future__ import annotations

import polars as pl

MASK = (1 << 64) - 1
_GOLDEN = 0x9E3779B97F4A7C15
_MIX_A = 0xBF58476D1CE4E5B9
_MIX_B = 0x94D049BB133111EB


def finalize(value: int) -> int:
    """Mix one 64-bit value so that each input bit reaches each output bit."""
    value &= MASK
    value = ((value ^ (value >> 30)) * _MIX_A) & MASK
    value = ((value ^ (value >> 27)) * _MIX_B) & MASK
    return value ^ (value >> 31)


def base_of(seed: int, purpose: int) -> int:
    """Start of an independent series for (seed, purpose); neighbouring seeds share nothing."""
    return finalize(finalize(seed) + (purpose + 1) * _GOLDEN)


def hash_at(base: int, index: int) -> int:
    """Value `index` of the series: what `hash_column` computes, for one index."""
    return finalize(base + index * _GOLDEN)


def hash_column(base: int, index: pl.Expr) -> pl.Expr:
    """`hash_at` for a whole UInt64 column; Polars' unsigned arithmetic wraps, as the algorithm wants."""
    value = index * _u64(_GOLDEN) + _u64(base)
    value = (value ^ (value // _u64(1 << 30))) * _u64(_MIX_A)
    value = (value ^ (value // _u64(1 << 27))) * _u64(_MIX_B)
    return value ^ (value // _u64(1 << 31))


def _u64(value: int) -> pl.Expr:
    return pl.lit(value, dtype=pl.UInt64)

"""Lists of numbers on the command line, and percentiles of lists of numbers."""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence


def numbers(text: str) -> tuple[int, ...]:
    """`4,8,16` as whole numbers from 1 on; raises what argparse shows."""
    try:
        found = tuple(int(part) for part in text.split(","))
    except ValueError:
        found = ()
    if not found or min(found) < 1:
        raise argparse.ArgumentTypeError(f"wanted numbers from 1 on between commas, found {text!r}")
    return found


def listed(values: Sequence[int]) -> str:
    """As `numbers` reads them."""
    return ",".join(map(str, values))


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that so large a share of the values does not exceed."""
    ranked = sorted(values)
    return ranked[max(0, math.ceil(share * len(ranked)) - 1)]


def percentiles(values: Sequence[float]) -> dict[str, float] | None:
    """p50, p95, p99, max and the count; None of nothing."""
    if not values:
        return None
    shares = {"p50": 0.50, "p95": 0.95, "p99": 0.99, "max": 1.0}
    return {name: round(percentile(values, share), 3) for name, share in shares.items()} | {
        "count": len(values)
    }

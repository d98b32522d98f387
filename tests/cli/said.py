"""What a command said, and how it ended."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple


class Said(NamedTuple):
    """Exit code, standard output, standard error."""

    code: int
    out: str
    error: str


Drizzle = Callable[..., Said]
"""Runs a command with the given arguments."""

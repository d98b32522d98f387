"""Numbers on the command line, checked where they are read: argparse words the refusal."""

from __future__ import annotations

import argparse
from collections.abc import Callable


def whole(least: int, most: int) -> Callable[[str], int]:
    """A type for `add_argument`: a whole number from `least` to `most`."""

    def parse(text: str) -> int:
        if not text.isascii() or not text.isdigit() or not least <= int(text) <= most:
            raise argparse.ArgumentTypeError(
                f"wanted a whole number from {least:,} to {most:,}, found {text!r}"
            )
        return int(text)

    return parse


def whole_or(word: str, least: int, most: int) -> Callable[[str], int | str]:
    """A type for `add_argument`: a whole number from `least` to `most`, or that word."""
    parse = whole(least, most)
    return lambda text: word if text == word else parse(text)


def number(least: float, most: float) -> Callable[[str], float]:
    """A type for `add_argument`: a number from `least` to `most`."""

    def parse(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = float("nan")
        if not least <= value <= most:  # not so for NaN either
            raise argparse.ArgumentTypeError(f"wanted a number from {least:g} to {most:g}, found {text!r}")
        return value

    return parse

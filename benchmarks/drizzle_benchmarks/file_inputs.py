"""Files that benchmarks read: events of the Yahoo Streaming Benchmark, and lines of text of 100 bytes.

A line is `1700000000000: v0a3 v01f ...`: when it happened (ms), and 17 words of a vocabulary, the first
of which are far more frequent than the last. The same numbers give the same files.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import polars as pl

from drizzle_loadgen.events import Workload, ads_table

SEED = 7
START_MS = 1_700_000_000_000
EVENTS_PER_S = 100_000
"""Of event time: with 5 million events there are 5 windows of 100 campaigns."""
LINES_PER_S = 10_000
"""Of event time: with a million lines there are 4 windows of 30 s."""
MADE_AT_ONCE = 65_536
"""Events or lines."""
LINE_WORDS = 17
VOCABULARY = 4_096
SKEW = 3
"""A word's number is the share of the vocabulary that this power of an even draw gives."""
WORDS_FROM = 15
"""The character of a line at which its words begin."""


@dataclass(frozen=True, slots=True)
class Input:
    """What is read: `events` NDJSON records with a table of ads, `lines` lines of text; all in one folder."""

    folder: Path
    events: int
    lines: int

    @property
    def events_file(self) -> Path:
        """NDJSON."""
        return self.folder / "events.ndjson"

    @property
    def ads_file(self) -> Path:
        """Ads and their campaigns."""
        return self.folder / "ads.parquet"

    @property
    def lines_file(self) -> Path:
        """Text."""
        return self.folder / "lines.txt"

    def write(self) -> None:
        """Make the files."""
        workload = Workload(SEED, START_MS, EVENTS_PER_S)
        with self.events_file.open("wb") as file:
            for first in range(0, self.events, MADE_AT_ONCE):
                file.write(workload.ndjson(first, min(MADE_AT_ONCE, self.events - first)))
        ads_table(SEED).write_parquet(self.ads_file)
        with self.lines_file.open("wb") as file:
            for first in range(0, self.lines, MADE_AT_ONCE):
                some = lines(first, min(MADE_AT_ONCE, self.lines - first))
                some.to_frame().write_csv(file, include_header=False, quote_style="never")


def lines(first: int, count: int) -> pl.Series:
    """Lines by number, without what ends them."""
    drawn = pl.int_range(first * LINE_WORDS, (first + count) * LINE_WORDS, eager=True).hash(SEED)
    numbers = ((drawn / 2.0**64) ** SKEW * VOCABULARY).cast(pl.UInt32).clip(upper_bound=VOCABULARY - 1)
    vocabulary = pl.Series([f"v{number:03x}" for number in range(VOCABULARY)])
    words = vocabulary[numbers].reshape((count, LINE_WORDS)).arr.join(" ")
    at = START_MS + pl.int_range(first, first + count, eager=True) * 1_000 // LINES_PER_S
    return (at.cast(pl.String) + ": " + words).alias("line")

"""The truth about a run: every (campaign, window) count from the seed, held against the sink.

The oracle never looks at what was sent or stored on the way. It makes the acknowledged events again,
counts the views per campaign and window, and compares with what the sink shows, value by value. What a
verdict calls lost is the sum of what counts fall short by, duplicates the sum of what they exceed by.

Latency is that of the benchmark: from the end of a window to the moment at which its final count was
visible in the sink, for each (campaign, window) whose events were all acknowledged. The last view of a
campaign comes a little before its window ends, so the latency from that view's due time is given as well.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import polars as pl

from drizzle_loadgen.errors import UsageError
from drizzle_loadgen.events import ADS_PER_CAMPAIGN, EVENT_TYPES, Universe, Workload
from drizzle_loadgen.report import Percentiles, as_json

CHUNK_EVENTS = 1 << 20  # events recomputed at a time; about 50 MB
EXAMPLES_MAX = 10  # differing counts shown in a verdict
WINDOWS_MAX = 20_000  # newest windows whose latency is given one by one

_KEYS = ("campaign_id", "window_start")


@dataclass(frozen=True, slots=True)
class Coverage:
    """Which events of a workload were acknowledged.

    Block k of `block_events` events (the last block of `events` may be shorter) went to source k mod S,
    where S is the number of entries in `acknowledged_blocks`; source s acknowledged the first
    `acknowledged_blocks[s]` of its blocks. `acknowledged_beyond` are further block numbers, acknowledged
    although one before them at their source was not.
    """

    events: int
    block_events: int
    acknowledged_blocks: tuple[int, ...]
    acknowledged_beyond: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        counts = self.acknowledged_blocks
        if self.events < 0 or self.block_events < 1 or not counts or min(counts) < 0:
            raise UsageError(f"acknowledged events: {self} cannot be")

    @classmethod
    def of_first(cls, events: int) -> Coverage:
        """The first `events` events, without gaps."""
        return cls(events, max(events, 1), (1,))

    @property
    def first_gap(self) -> int:
        """Index of the first event that was not acknowledged; `events` if there is none."""
        sources = len(self.acknowledged_blocks)
        block = min(count * sources + source for source, count in enumerate(self.acknowledged_blocks))
        return min(self.events, block * self.block_events)

    def only_acknowledged(self, facts: pl.DataFrame) -> pl.DataFrame:
        """Rows of `Workload.facts` whose event was acknowledged."""
        if facts.is_empty() or int(facts["index"][-1]) < self.first_gap:
            return facts
        sources = len(self.acknowledged_blocks)
        block = facts["index"].cast(pl.Int64) // self.block_events
        counts = pl.Series(self.acknowledged_blocks, dtype=pl.Int64)
        beyond = pl.Series(self.acknowledged_beyond, dtype=pl.Int64)
        return facts.filter(
            (block // sources < counts.gather(block % sources)) | block.is_in(beyond.implode())
        )


def expected_counts(workload: Workload, coverage: Coverage, window_ms: int) -> pl.DataFrame:
    """Views per campaign and window among the acknowledged events.

    Columns: `campaign_id` String, `window_start` Int64 (ms), `expected` Int64 (at least 1), `last_due_ms`
    Int64 (due time of the window's last acknowledged view of the campaign). Sorted by window, then
    campaign.
    """
    if window_ms < 1:
        raise UsageError(f"window: wanted at least 1 ms, found {window_ms}")
    spans = range(0, coverage.events, CHUNK_EVENTS)
    chunks = [_count(workload, coverage, window_ms, first) for first in spans] or [_no_counts()]
    sums = (
        pl.concat(chunks).group_by("campaign", "window_start").agg(pl.sum("expected"), pl.max("last_due_ms"))
    )
    campaign_ids = pl.Series(Universe.of(workload.seed).campaign_ids)
    return sums.select(
        campaign_ids.gather(sums["campaign"]).alias("campaign_id"), "window_start", "expected", "last_due_ms"
    ).sort("window_start", "campaign_id")


def _count(workload: Workload, coverage: Coverage, window_ms: int, first: int) -> pl.DataFrame:
    facts = workload.facts(first, min(CHUNK_EVENTS, coverage.events - first))
    views = coverage.only_acknowledged(facts).filter(pl.col("event_type") == EVENT_TYPES.index("view"))
    return (
        views.group_by(
            (pl.col("ad") // ADS_PER_CAMPAIGN).cast(pl.UInt32).alias("campaign"),
            (pl.col("event_time") // window_ms * window_ms).alias("window_start"),
        )
        .agg(pl.len().cast(pl.Int64).alias("expected"), pl.max("due_ms").alias("last_due_ms"))
        .select("campaign", "window_start", "expected", "last_due_ms")
    )


def _no_counts() -> pl.DataFrame:
    return pl.DataFrame(
        schema={
            "campaign": pl.UInt32,
            "window_start": pl.Int64,
            "expected": pl.Int64,
            "last_due_ms": pl.Int64,
        }
    )


@dataclass(frozen=True, slots=True)
class Difference:
    """One count that is not what it should be; None where there is no such row."""

    campaign_id: str
    window_start: int
    expected: int | None
    found: int | None


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the sink shows, held against the truth. All but the latencies are numbers of rows or of views."""

    exact: bool
    windows: int  # distinct windows that should be there
    rows: int  # (campaign, window) pairs that should be there
    expected: int  # views that should be counted
    counted: int  # views that are counted
    missing: int  # rows that should be there and are not
    extra: int  # rows that are there and should not be
    wrong: int  # rows with another count
    lost: int
    duplicates: int
    differences: tuple[Difference, ...]  # the first EXAMPLES_MAX of missing, extra and wrong
    latency: Percentiles | None  # ms from window end to the last update; complete windows only
    last_view_latency: Percentiles | None  # ms from the due time of a row's last view to the last update
    # end of each complete window, ms to the last update of its last campaign, and of its first
    by_window: tuple[tuple[int, float, float], ...] = ()

    def as_json(self) -> dict[str, Any]:
        """Every figure; percentiles under `latency_ms` and `last_view_latency_ms`."""
        figures = asdict(self)
        figures["differences"] = list(figures["differences"])
        del figures["latency"], figures["last_view_latency"]
        return {
            **figures,
            "by_window": [list(pair) for pair in self.by_window],
            "latency_ms": as_json(self.latency),
            "last_view_latency_ms": as_json(self.last_view_latency),
        }


def compare(
    expected: pl.DataFrame,
    found: pl.DataFrame,
    window_ms: int,
    complete_until_ms: float,
    warm_from_ms: float = 0.0,
) -> Verdict:
    """Hold the sink's rows (`found`, as `RedisSink.read` gives them) against `expected_counts`.

    Windows that end after `complete_until_ms` (Unix ms) or begin before `warm_from_ms` count for
    exactness, but not for latency.
    """
    both = expected.join(found, on=_KEYS, how="full", coalesce=True, nulls_equal=True).sort(
        "window_start", "campaign_id"
    )
    surplus = pl.col("counted").fill_null(0) - pl.col("expected").fill_null(0)
    both = both.with_columns(surplus.alias("surplus"))
    off = both.filter(pl.col("expected").is_null() | pl.col("counted").is_null() | (pl.col("surplus") != 0))
    missing = off["counted"].null_count()
    extra = off["expected"].null_count()
    final = both.drop_nulls(["expected", "counted"]).filter(
        pl.col("window_start") + window_ms <= complete_until_ms, pl.col("window_start") >= warm_from_ms
    )
    return Verdict(
        exact=off.is_empty(),
        windows=expected["window_start"].n_unique(),
        rows=expected.height,
        expected=int(expected["expected"].sum()),
        counted=int(found["counted"].sum()),
        missing=missing,
        extra=extra,
        wrong=off.height - missing - extra,
        lost=-int(off["surplus"].clip(upper_bound=0).sum()),
        duplicates=int(off["surplus"].clip(lower_bound=0).sum()),
        differences=_examples(off),
        latency=Percentiles.of(_late(final, pl.col("window_start") + window_ms)),
        last_view_latency=Percentiles.of(_late(final, pl.col("last_due_ms"))),
        by_window=_by_window(final, window_ms),
    )


def _by_window(rows: pl.DataFrame, window_ms: int) -> tuple[tuple[int, float, float], ...]:
    """Where in a run it was slow: the windows in the order of time."""
    end = pl.col("window_start") + window_ms
    late = (pl.col("updated_ms") - end).cast(pl.Float64)
    windows = rows.group_by(end.alias("end")).agg(late.max().alias("last"), late.min().alias("first"))
    return tuple(windows.sort("end").tail(WINDOWS_MAX).iter_rows())


def _late(rows: pl.DataFrame, since_ms: pl.Expr) -> Sequence[float]:
    return rows.select((pl.col("updated_ms") - since_ms).cast(pl.Float64).alias("late"))["late"].to_list()


def _examples(off: pl.DataFrame) -> tuple[Difference, ...]:
    rows = off.head(EXAMPLES_MAX).select(*_KEYS, "expected", "counted")
    return tuple(Difference(*row) for row in rows.iter_rows())

"""The events of the Yahoo Streaming Benchmark, where event i is a function of (seed, i).

Why: an oracle that can make the same events again needs no log of what was sent, and any block [i, i + n)
can be made alone, on any machine, in any order. Fields, values, text and the optional skew are the original
generator's (the `data` tool of yahoo/streaming-benchmarks): 100 campaigns of 10 ads, 100 users, 100 pages,
5 ad types, 3 event types, all uniform, so that a third of the events are views.

Speed comes from fragments: all but the time of an event is one of 10,000 beginnings and one of 15,000
middles, made once per seed; a block is two gathers and one concatenation over whole columns.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise

import polars as pl

from drizzle_loadgen.errors import UsageError
from drizzle_loadgen.hashing import MASK, base_of, hash_at, hash_column
from drizzle_loadgen.surge import Surge

CAMPAIGNS = 100
ADS_PER_CAMPAIGN = 10
USERS = 100
PAGES = 100
AD_TYPES = ("banner", "modal", "sponsored-search", "mail", "mobile")
EVENT_TYPES = ("view", "click", "purchase")
IP_ADDRESS = "1.2.3.4"  # the original's events all carry this one

RENDER_EVENTS_MAX = 65_536  # one vectorised call; about 16 MB of text
JITTER_MS = 50  # with skew: time + 50 - r, r in 0..99
LATE_ONE_IN = 100_000
LATE_MS = 60_000

_ADS = CAMPAIGNS * ADS_PER_CAMPAIGN
_HEADS = USERS * PAGES
_MIDDLES = _ADS * len(AD_TYPES) * len(EVENT_TYPES)

# Purposes of the hash series: what is drawn from one says nothing about another.
_OF_USERS, _OF_PAGES, _OF_CAMPAIGNS, _OF_ADS, _OF_CONTENT, _OF_SKEW = range(6)


@dataclass(frozen=True, slots=True)
class Universe:
    """All ids that can occur for one seed; ad `a` belongs to campaign `a // ADS_PER_CAMPAIGN`."""

    user_ids: tuple[str, ...]
    page_ids: tuple[str, ...]
    campaign_ids: tuple[str, ...]
    ad_ids: tuple[str, ...]

    @classmethod
    def of(cls, seed: int) -> Universe:
        """The ids of `seed`, as random (version 4) UUIDs."""
        return cls(
            user_ids=_uuids(seed, _OF_USERS, USERS),
            page_ids=_uuids(seed, _OF_PAGES, PAGES),
            campaign_ids=_uuids(seed, _OF_CAMPAIGNS, CAMPAIGNS),
            ad_ids=_uuids(seed, _OF_ADS, _ADS),
        )


def ads_table(seed: int) -> pl.DataFrame:
    """The static side of the benchmark's join: 1,000 rows (`ad_id`, `campaign_id`)."""
    universe = Universe.of(seed)
    campaigns = [campaign for campaign in universe.campaign_ids for _ in range(ADS_PER_CAMPAIGN)]
    return pl.DataFrame({"ad_id": universe.ad_ids, "campaign_id": campaigns})


@dataclass(frozen=True)
class Workload:
    """A series of events: what they are (`seed`) and when they are due (`start_ms`, `rate` per second).

    Event i is due at `start_ms + i * 1000 // rate` (Unix time, ms) and carries that as its event time; with
    `skew` the event time is moved by -49..50 ms, and for one event in 100,000 by up to 60 s into the past.
    `surge` is a time in which more are due.
    Not slotted, because the tables of text fragments are made on first use and kept.
    """

    seed: int
    start_ms: int
    rate: int
    skew: bool = False
    surge: Surge | None = None
    _content_base: int = field(init=False, repr=False, compare=False)
    _skew_base: int = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not 0 <= self.seed <= MASK:
            raise UsageError(f"seed: wanted 0 to 2**64 - 1, found {self.seed}")
        if self.rate < 1:
            raise UsageError(f"rate: wanted at least 1 event per second, found {self.rate}")
        object.__setattr__(self, "_content_base", base_of(self.seed, _OF_CONTENT))
        object.__setattr__(self, "_skew_base", base_of(self.seed, _OF_SKEW))

    def due_ms(self, index: int) -> float:
        """When event `index` is due, in Unix ms, not rounded."""
        if self.surge is not None:
            return self.start_ms + self.surge.due_ms(index, self.rate)
        return self.start_ms + index * 1000 / self.rate

    def events(self, seconds: float) -> int:
        """How many events are due in the first seconds, at least one."""
        due = self.rate * seconds if self.surge is None else self.surge.events(self.rate, seconds)
        return max(1, round(due))

    @property
    def highest_rate(self) -> int:
        """Events per second when most are due."""
        return self.rate if self.surge is None else max(self.rate, self.surge.rate)

    def facts(self, first: int, count: int) -> pl.DataFrame:
        """What the oracle needs of events [first, first + count).

        Columns: `index` UInt64, `ad` UInt64 (0..999), `event_type` UInt64 (index into EVENT_TYPES),
        `due_ms` Int64, `event_time` Int64.
        """
        middle = pl.col("middle")
        return self._numbers(first, count).select(
            "index",
            (middle // pl.lit(len(AD_TYPES) * len(EVENT_TYPES), pl.UInt64)).alias("ad"),
            (middle % pl.lit(len(EVENT_TYPES), pl.UInt64)).alias("event_type"),
            "due_ms",
            "event_time",
        )

    def ndjson(self, first: int, count: int) -> bytes:
        """Events [first, first + count) as lines of JSON, each ended by a newline."""
        return b"".join(self.blocks(first, count, max(count, 1)))

    def blocks(self, first: int, count: int, block_events: int) -> list[bytes]:
        """`ndjson` of [first, first + count) cut after every `block_events` events; the last may be shorter.

        One vectorised call makes many blocks: a call costs about as much for 10 events as for 1,000.
        """
        if block_events > RENDER_EVENTS_MAX:
            return [
                b"".join(
                    self._render(start, min(RENDER_EVENTS_MAX, end - start), RENDER_EVENTS_MAX)[0]
                    for start in range(begin, end, RENDER_EVENTS_MAX)
                )
                for begin, end in _spans(first, count, block_events)
            ]
        stride = RENDER_EVENTS_MAX // block_events * block_events
        rendered: list[bytes] = []
        for begin, end in _spans(first, count, stride):
            rendered.extend(self._render(begin, end - begin, block_events))
        return rendered

    def _render(self, first: int, count: int, block_events: int) -> list[bytes]:
        numbers = self._numbers(first, count)
        heads, middles = self._fragments
        parts = pl.DataFrame(
            {"head": heads.gather(numbers["head"]), "middle": middles.gather(numbers["middle"])}
        ).with_columns(numbers["event_time"].cast(pl.String))
        ending = pl.lit(f'", "ip_address": "{IP_ADDRESS}"}}\n')
        lines = parts.select(pl.concat_str("head", "middle", "event_time", ending).alias("line"))["line"]
        ends = lines.str.len_bytes().cast(pl.UInt64).cum_sum().gather_every(block_events, block_events - 1)
        text = lines.str.join("")[0].encode("ascii")
        cuts = [0, *ends.to_list()]
        if cuts[-1] != len(text):
            cuts.append(len(text))
        return [text[begin:end] for begin, end in pairwise(cuts)]

    @cached_property
    def _fragments(self) -> tuple[pl.Series, pl.Series]:
        universe = Universe.of(self.seed)
        heads = [
            f'{{"user_id": "{user}", "page_id": "{page}", '
            for user in universe.user_ids
            for page in universe.page_ids
        ]
        middles = [
            f'"ad_id": "{ad}", "ad_type": "{ad_type}", "event_type": "{event_type}", "event_time": "'
            for ad in universe.ad_ids
            for ad_type in AD_TYPES
            for event_type in EVENT_TYPES
        ]
        return pl.Series(heads), pl.Series(middles)

    def _numbers(self, first: int, count: int) -> pl.DataFrame:
        """`index`, `head` and `middle` (which fragments), `due_ms`, `event_time`.

        Fragments are mixed-radix digits of one hash; the bias of `%` is below 10,000 * 15,000 / 2**64.
        """
        index = pl.col("index")
        drawn = pl.DataFrame(
            {"index": pl.int_range(first, first + count, dtype=pl.UInt64, eager=True)}
        ).select(
            index,
            hash_column(self._content_base, index).alias("drawn"),
            (pl.lit(self.start_ms, pl.Int64) + self._due(index.cast(pl.Int64))).alias("due_ms"),
        )
        heads, middles = pl.lit(_HEADS, pl.UInt64), pl.lit(_MIDDLES, pl.UInt64)
        return drawn.select(
            index,
            (pl.col("drawn") % heads).alias("head"),
            (pl.col("drawn") // heads % middles).alias("middle"),
            "due_ms",
            self._event_time().alias("event_time"),
        )

    def _due(self, index: pl.Expr) -> pl.Expr:
        return index * 1000 // self.rate if self.surge is None else self.surge.due(index, self.rate)

    def _event_time(self) -> pl.Expr:
        due_ms = pl.col("due_ms")
        if not self.skew:
            return due_ms
        drawn = hash_column(self._skew_base, pl.col("index"))
        span, one_in, late = (pl.lit(n, pl.UInt64) for n in (2 * JITTER_MS, LATE_ONE_IN, LATE_MS))
        jitter = JITTER_MS - (drawn % span).cast(pl.Int64)
        is_late = drawn // span % one_in == 0
        late_by = (drawn // span // one_in % late).cast(pl.Int64)
        return due_ms + jitter - pl.when(is_late).then(late_by).otherwise(0)


def _spans(first: int, count: int, size: int) -> list[tuple[int, int]]:
    end = first + count
    return [(begin, min(begin + size, end)) for begin in range(first, end, size)]


def _uuids(seed: int, purpose: int, count: int) -> tuple[str, ...]:
    base = base_of(seed, purpose)
    return tuple(_uuid4(hash_at(base, 2 * k), hash_at(base, 2 * k + 1)) for k in range(count))


def _uuid4(high: int, low: int) -> str:
    """128 random bits with the version and variant of a random UUID."""
    high = high & ~0xF000 | 0x4000
    low = low & ~(0b11 << 62) | 0b10 << 62
    digits = f"{high:016x}{low:016x}"
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))

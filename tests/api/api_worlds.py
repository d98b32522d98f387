"""What the tests of the user's language share: a stream with many types of columns, a sink for all."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import polars as pl

import drizzle_streams as dz

CLICKS = {
    "page": pl.String,
    "user": pl.String,
    "amount": pl.Int64,
    "small": pl.Int32,
    "count8": pl.UInt8,
    "price": pl.Float64,
    "paid": pl.Boolean,
    "day": pl.Date,
    "when": pl.Datetime("us"),
    "tags": pl.List(pl.String),
    "at": pl.Int64,
}


@dataclass(frozen=True)
class AnySink:
    """A sink that takes every row and is never opened."""

    kind: str = "any"

    def validate(self, schema: dict[str, pl.DataType], keys: tuple[str, ...]) -> None:
        pass

    def create(self, settings: Any) -> Any:
        raise NotImplementedError


def clicks(**declared: Any) -> dz.Stream:
    """The stream of the tests, with event time unless told otherwise."""
    return dz.stream("clicks", schema=CLICKS, **({"event_time": "at"} | declared))


def counted(**window: Any) -> dz.Stream:
    """Clicks per page in windows of ten seconds."""
    return clicks().window(dz.tumbling("10s", **window)).group_by("page").agg(n=dz.count())

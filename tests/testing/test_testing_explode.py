"""Words of lines counted by a job: as Python counts them, wherever batches are cut and whoever crashes."""

from __future__ import annotations

from collections import Counter
from typing import Any

import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

import drizzle_streams as dz
from drizzle_streams.api.job import Job
from drizzle_streams.api.stream import Stream
from drizzle_streams.engine.program import Explode
from drizzle_streams.testing import crash

WORDS = st.sampled_from(["a", "bb", "ü", ""])
LINES = st.lists(st.lists(WORDS, max_size=6).map(" ".join), max_size=20)


def words() -> Stream:
    lines = dz.files(__file__, format="lines")  # any file: the test gives the lines
    return lines.with_columns(word=pl.col("line").str.split(" ")).explode("word")


def words_job() -> Job:
    return words().filter(pl.col("word") != "").group_by("word").agg(n=dz.count()).to(dz.redis("w")).job("w")


@settings(max_examples=30)
@given(lines=LINES, place=st.integers(0, 20), workers=st.integers(1, 3))
def test_words_are_counted_once(lines: list[str], place: int, workers: int) -> None:
    job = words_job()
    given_lines: list[Any] = [{"line": line} for line in lines]
    batches = [given_lines[:place], crash(), given_lines[place:]]
    result = dz.testing.run(job, batches, workers=workers, partitions=3, stream_partitions=2)
    wanted = Counter(word for line in lines for word in line.split(" ") if word)
    assert {row["word"]: row["n"] for row in result.rows.to_dicts()} == wanted


def test_the_first_element_is_the_first_of_the_list() -> None:
    stream = dz.stream("orders", schema={"who": pl.String, "items": pl.List(pl.String)})
    ends = stream.explode("items").group_by("who").agg(first=dz.first("items"), last=dz.last("items"))
    batches: list[Any] = [
        [{"who": "ann", "items": ["x", "y"]}, {"who": "bob", "items": []}],
        [{"who": "ann", "items": ["z", "w"]}],
    ]
    result = dz.testing.run(ends.to(dz.redis("o")).job("o"), batches)
    assert result.rows.select("who", "first", "last").rows()[-1:] == [("ann", "x", "w")]


def test_columns_that_nothing_reads_are_not_repeated() -> None:
    (step,) = [one for one in words_job().compile().program.stages[0].steps if isinstance(one, Explode)]
    assert step == Explode("word", kept=("word",))


def test_a_filter_that_may_fail_stays_behind() -> None:
    """It would meet rows that the explode leaves out: there, a division that it is never asked for."""
    stream = dz.stream("s", schema={"n": pl.Int64, "many": pl.List(pl.Int64)}).explode("many")
    kept = (
        stream.filter(pl.col("n").cast(pl.String).str.to_integer(base=2) > 0).group_by("n").agg(c=dz.count())
    )
    batches: list[Any] = [[{"n": 2, "many": []}, {"n": 1, "many": [1, 2]}]]
    result = dz.testing.run(kept.to(dz.redis("k")).job("k"), batches)
    assert result.rows.select("n", "c").rows() == [(1, 2)]

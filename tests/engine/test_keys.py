"""The stable hash: pinned for ever, because snapshots and placement outlive processes and versions."""

from __future__ import annotations

from datetime import date, datetime

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from drizzle_streams.engine.keys import is_key_type, key_group, key_hash
from drizzle_streams.engine.layout import Layout
from drizzle_streams.errors import BuildError
from drizzle_streams.model.job import key_group_range
from tests.engine.world import Player, aggregation

PINNED = {"campaign-1": 0xA6E95D5B956BB9D7, "7": 0x184A52B6A00D7AB7, "-1": 0x3D62C7C8A7A6E2D8}


def hashes(frame: pl.DataFrame) -> list[int]:
    return frame.select(key_hash(frame.columns, frame.schema)).to_series().to_list()


def test_hashes_are_pinned() -> None:
    assert hashes(pl.DataFrame({"k": ["", "a", "campaign-1", None]})) == [
        0xEF46DB3751D8E999,  # xxHash64 of nothing with seed 0, from its specification
        0xD24EC4F1A98C6E5B,  # of "a", likewise
        PINNED["campaign-1"],
        0x9E3779B97F4A7C15,
    ]
    assert hashes(pl.DataFrame({"k": [7, -1]})) == [PINNED["7"], PINNED["-1"]]
    assert hashes(pl.DataFrame({"k": ["a"], "j": [7]})) == [
        (0xD24EC4F1A98C6E5B * 0xC2B2AE3D27D4EB4F + PINNED["7"]) % 2**64
    ]
    assert hashes(pl.DataFrame({"k": [True]})) == hashes(pl.DataFrame({"k": ["true"]}))
    assert hashes(pl.DataFrame({"k": [date(1970, 1, 2)]})) == hashes(pl.DataFrame({"k": ["1"]}))
    moment = pl.DataFrame({"k": [datetime(1970, 1, 1, 0, 0, 1)]}, schema={"k": pl.Datetime("ms")})  # noqa: DTZ001
    assert hashes(moment) == hashes(pl.DataFrame({"k": ["1000"]}))


@pytest.mark.parametrize(
    "dtype", [pl.Int8, pl.Int16, pl.Int32, pl.UInt8, pl.UInt64, pl.String, pl.Categorical]
)
def test_equal_keys_hash_alike_whatever_the_width(dtype: type[pl.DataType]) -> None:
    frame = pl.DataFrame({"k": ["0", "7", "100", None]}).with_columns(pl.col("k").cast(pl.Int64))
    cast = frame.with_columns(pl.col("k").cast(pl.String).cast(dtype))
    assert hashes(frame) == hashes(cast)


@pytest.mark.parametrize("dtype", [pl.Float64(), pl.List(pl.Int64), pl.Struct({"a": pl.Int64}), pl.Null()])
def test_floats_and_nested_values_are_no_keys(dtype: pl.DataType) -> None:
    assert not is_key_type(dtype)
    with pytest.raises(BuildError, match="'k'"):
        key_hash(["k"], {"k": dtype})
    assert is_key_type(pl.String())


@given(hashed=st.lists(st.integers(0, 2**64 - 1), min_size=1), groups=st.integers(1, 65_536))
def test_key_groups_are_ranges_of_hashes(hashed: list[int], groups: int) -> None:
    edges = [0, 2**64 - 1, 2**63, 2**63 - 1]
    frame = pl.DataFrame({"__key_hash": sorted(hashed + edges)}, schema={"__key_hash": pl.UInt64})
    found = frame.select(key_group(groups)).to_series()
    assert found.dtype == pl.UInt16
    assert found.is_sorted()
    assert found.to_list()[0] == 0
    assert found.to_list()[-1] == groups - 1 or groups > 4096  # ranges are rounded up: tiny ones fall short
    assert max(found.to_list()) < groups


@pytest.mark.parametrize("groups", [0, 65_537])
def test_key_groups_have_bounds(groups: int) -> None:
    with pytest.raises(BuildError, match="key_groups"):
        key_group(groups)


def test_key_groups_are_used_evenly() -> None:
    frame = pl.DataFrame({"k": [f"key-{n}" for n in range(64_000)]})
    placed = frame.with_columns(key_hash(["k"], frame.schema)).select(key_group(64)).to_series()
    counts = placed.value_counts().get_column("count").to_list()
    assert len(counts) == 64
    assert min(counts) > 800
    assert max(counts) < 1200


@given(partitions=st.integers(1, 12), groups=st.sampled_from([12, 16, 100, 1024]))
def test_partitions_own_all_key_groups_once(partitions: int, groups: int) -> None:
    player = Player(aggregation())
    layout = Layout(player.reducer.layout.plan, partitions, groups)
    assert layout.ranges(range(partitions)) == ((0, groups),)
    single = [layout.ranges([partition]) for partition in range(partitions)]
    assert [edge for ranges in single for edge in ranges] == [
        key_group_range(partition, partitions, groups) for partition in range(partitions)
    ]

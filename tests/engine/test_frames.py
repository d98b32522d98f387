"""Blocks as bytes, and the index behind every look-up."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from drizzle_streams.engine.frames import Block, decode_block, encode_block, slice_block
from drizzle_streams.engine.index import HashIndex, equal_keys
from drizzle_streams.errors import CorruptError

rows = st.lists(
    st.tuples(st.none() | st.text(max_size=20), st.none() | st.integers(-5, 5), st.integers(0, 15)),
    max_size=20,
)
marks = st.lists(st.tuples(st.integers(0, 9), st.none() | st.integers(-(2**53), 2**53)), max_size=4).map(
    tuple
)


def block_of(given: list[Any], its_marks: Any = ()) -> Block:
    schema = {"k": pl.String, "v": pl.Int64, "__key_group": pl.UInt16}
    frame = pl.DataFrame(given, schema=schema, orient="row").sort("__key_group", maintain_order=True)
    return Block(frame if frame.height else None, its_marks)


@given(given_rows=rows, its_marks=marks)
def test_a_block_comes_back_as_it_was(given_rows: list[Any], its_marks: Any) -> None:
    block = block_of(given_rows, its_marks)
    encoded = encode_block(block)
    back = decode_block(encoded)
    assert back.marks == block.marks
    assert back.rows == block.rows
    if block.frame is None:
        assert back.frame is None
        assert len(encoded) < 200
    else:
        assert back.frame is not None
        assert back.frame.equals(block.frame)
        assert back.frame.schema == block.frame.schema
    assert encode_block(back) == encoded


@given(given_rows=rows, edges=st.lists(st.integers(0, 16), max_size=6, unique=True))
def test_slices_hold_the_key_groups_asked_for(given_rows: list[Any], edges: list[int]) -> None:
    block = block_of(given_rows, ((0, 5),))
    ordered = sorted(edges)[: len(edges) // 2 * 2]
    ranges = list(zip(ordered[::2], ordered[1::2], strict=True))
    found = slice_block(block, ranges)
    wanted = [
        row
        for row in (block.frame.rows() if block.frame is not None else [])
        if any(a <= row[2] < b for a, b in ranges)
    ]
    assert ([] if found.frame is None else found.frame.rows()) == wanted
    assert found.marks == block.marks
    assert decode_block(encode_block(found)).rows == len(wanted)


@given(cut=st.integers(0, 2000), flip=st.integers(0, 2000), junk=st.binary(max_size=40))
def test_damaged_blocks_never_crash(cut: int, flip: int, junk: bytes) -> None:
    encoded = encode_block(block_of([("a", 1, 2), ("b", None, 3)], ((0, 1),)))
    flipped = bytearray(encoded)
    flipped[flip % len(flipped)] ^= 0xFF
    for damaged in (encoded[: cut % len(encoded)], junk, bytes(flipped)):
        with suppress(CorruptError):  # and nothing else
            decode_block(damaged)


def test_a_header_without_rows_or_marks_is_refused() -> None:
    for junk in (
        b"",
        b"\x00\x00\x00\x00",
        b"\x01\x00\x00\x00\x01",
        b"\x01\x00\x00\x00\x80",
        b"\xff\xff\xff\xff",
    ):
        with pytest.raises(CorruptError):
            decode_block(junk)


@given(hashes=st.lists(st.integers(0, 12), max_size=20), probes=st.lists(st.integers(0, 14), max_size=10))
def test_candidates_are_all_neighbours_with_the_hash(hashes: list[int], probes: list[int]) -> None:
    ordered = sorted(hashes)
    index = HashIndex(pl.Series(ordered, dtype=pl.UInt64))
    found = [
        pair
        for at, positions in index.candidates(pl.Series(probes, dtype=pl.UInt64))
        for pair in zip(at.to_list(), positions.to_list(), strict=True)
    ]
    wanted = [(p, n) for p, probe in enumerate(probes) for n, one in enumerate(ordered) if one == probe]
    assert sorted(found) == wanted
    assert index.longest == max((ordered.count(one) for one in ordered), default=0)


def test_equality_of_keys_says_what_null_means() -> None:
    one = pl.DataFrame({"a": ["x", None, None], "b": [1, 2, 3]})
    other = pl.DataFrame({"a": ["x", None, "y"], "b": [1, 2, 3]})
    assert equal_keys(one.get_columns(), other.get_columns(), nulls_equal=True).to_list() == [
        True,
        True,
        False,
    ]
    assert equal_keys(one.get_columns(), other.get_columns(), nulls_equal=False).to_list() == [
        True,
        False,
        False,
    ]
    with pytest.raises(ValueError, match="no columns"):
        equal_keys([], [], nulls_equal=True)

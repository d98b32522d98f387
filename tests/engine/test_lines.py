"""Lines read as one array: the same rows as the line reader gives, or no answer."""

from __future__ import annotations

import json

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from drizzle_streams.engine.failures import POLARS_ERRORS
from drizzle_streams.engine.formats import read_lines
from drizzle_streams.engine.lines import ARRAY_BYTES_MAX, read_as_array

TYPES = {"a": pl.String(), "b": pl.String()}

plain = st.one_of(st.none(), st.booleans(), st.integers(-(10**18), 10**18), st.floats(), st.text(max_size=6))
values = st.one_of(
    plain, st.lists(plain, max_size=2), st.dictionaries(st.text(max_size=2), plain, max_size=2)
)
records = st.dictionaries(st.sampled_from(["a", "b", "c"]), values, max_size=3).map(json.dumps)
pieces = st.sampled_from(
    ["{", "}", "[", "]", ",", ":", '"a"', '"b"', "1", "{}", '{"a":1}', '{"a":[{}', "{}]}", " ", "null", "\r"]
)
broken = st.lists(pieces, max_size=6).map("".join)


def by_lines(payload: bytes) -> pl.DataFrame | None:
    try:
        return pl.read_ndjson(payload, schema=TYPES)
    except POLARS_ERRORS:
        return None


@given(st.lists(records, min_size=1, max_size=8), st.booleans())
def test_good_lines_give_the_same_rows(lines: list[str], ended: bool) -> None:
    payload = ("\n".join(lines) + "\n" * ended).encode()
    expected = by_lines(payload)
    if expected is None:  # NaN and the infinities are no JSON
        with pytest.raises(POLARS_ERRORS):
            read_lines(payload, TYPES)
    else:
        assert read_lines(payload, TYPES).equals(expected)


@given(st.lists(st.one_of(records, broken), min_size=1, max_size=6))
def test_what_the_line_reader_refuses_is_never_taken(lines: list[str]) -> None:
    payload = "\n".join(lines).encode()
    found = read_as_array(payload, TYPES)
    expected = by_lines(payload)
    if found is not None:
        assert expected is not None
        assert found.equals(expected)


@pytest.mark.parametrize(
    "lines",
    [
        ['{"a":[{}', "{}]}", '{"a":1},{"a":2}'],  # one record in two lines, two records in one
        ['{"a":1', '"b":2}', '{"a":3}'],
        ['{"a":1}],[{"a":2}'],
        ['{"a":1},{"a":2}'],
        ["{}", '{"a":1}'],
        ['{"a":1}', "", '{"a":2}'],
        ['{"a":1}', " {}"],
        ["[1]"],
        ["null"],
        ['{"a":"x"', '{"b":"y"}}'],
    ],
)
def test_lines_that_are_not_one_record_each_have_no_answer(lines: list[str]) -> None:
    assert read_as_array("\n".join(lines).encode(), TYPES) is None


def test_one_record_a_line_has_an_answer() -> None:
    frame = read_as_array(b'{"a":"x","b":1.50}\n{"b":true,"a":null}\n', TYPES)
    assert frame is not None
    assert frame.rows() == [("x", "1.5"), (None, "true")]
    assert frame.schema == TYPES


def test_payloads_on_both_sides_of_the_bound_read_alike() -> None:
    line = b'{"a":"' + b"x" * 1_000 + b'"}\n'
    for count in (ARRAY_BYTES_MAX // len(line), ARRAY_BYTES_MAX // len(line) + 1):
        assert read_lines(line * count, TYPES).height == count

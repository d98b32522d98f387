"""Entries to frames: every format, every declared type, and the records that cannot be read."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

import msgpack
import polars as pl
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from drizzle_streams.engine.formats import read_lines, split_lines
from drizzle_streams.engine.parsing import Parsed, Parser
from drizzle_streams.engine.program import Read
from drizzle_streams.engine.records import DEAD_LETTER_BYTES_MAX, DEAD_LETTER_REASON_MAX, InputEntry
from drizzle_streams.model.ids import StreamId

SCHEMA: dict[str, pl.DataType] = {"a": pl.String(), "n": pl.Int64(), "t": pl.Int64()}


def parser(schema: dict[str, pl.DataType] = SCHEMA, event_time: str | None = None) -> Parser:
    return Parser(Read(StreamId("s"), schema, event_time), with_offsets=True)


def entry(*lines: str | bytes, partition: int = 0, first: int = 0) -> InputEntry:
    encoded = [line.encode() if isinstance(line, str) else line for line in lines]
    return InputEntry(partition, first, len(lines), "ndjson", b"\n".join(encoded))


def values(parsed: Parsed, name: str) -> list[Any]:
    return parsed.frame.get_column(name).to_list()


def test_the_ysb_event_time_is_text_and_becomes_a_number() -> None:
    parsed = parser().parse([entry('{"a": "x", "n": 1, "t": "1700000000000", "other": [1, {"b": 2}]}')])
    assert parsed.frame.to_dicts() == [
        {"a": "x", "n": 1, "t": 1_700_000_000_000, "__partition": 0, "__offset": 0}
    ]
    assert parsed.frame.schema["t"] == pl.Int64
    assert parsed.records == 1


def test_rows_are_ordered_by_partition_then_offset() -> None:
    entries = [
        entry('{"n": 5}', partition=2, first=7),
        entry('{"n": 1}', '{"n": 2}', partition=0, first=40),
        entry('{"n": 4}', partition=2, first=6),
        entry('{"n": 0}', partition=0, first=39),
    ]
    parsed = parser().parse(entries)
    assert values(parsed, "n") == [0, 1, 2, 4, 5]
    assert values(parsed, "__partition") == [0, 0, 0, 2, 2]
    assert values(parsed, "__offset") == [39, 40, 41, 6, 7]
    assert parsed.lengths == ((0, 3), (2, 2))


def test_no_entries_give_a_frame_with_the_right_columns() -> None:
    parsed = parser().parse([])
    assert parsed.frame.height == 0
    assert dict(parsed.frame.schema) == {**SCHEMA, "__partition": pl.UInt16, "__offset": pl.Int64}
    assert parser().parse([InputEntry(3, 0, 0, "ndjson", b"")]).frame.schema == parsed.frame.schema


def test_bad_records_become_dead_letters_and_the_others_stay() -> None:
    lines = [
        '{"n": 0}',
        "not json",
        '{"n": 2}',
        "[1]",
        '{"n": "x"}',
        '{"n": 5} {"n": 6}',
        '{"n": 6, "t": 1.5}',
        '{"n": 7',
        "null",
        '{"n": 9}',
    ]
    parsed = parser().parse([entry(*lines[:4], first=100), entry(*lines[4:], first=104)])
    assert values(parsed, "n") == [0, 2, 9]
    assert values(parsed, "__offset") == [100, 102, 109]
    assert [letter.offset for letter in parsed.dead] == [101, 103, 104, 105, 106, 107, 108]
    assert [letter.record.decode() for letter in parsed.dead] == [lines[n] for n in (1, 3, 4, 5, 6, 7, 8)]
    reasons = {letter.offset: letter.reason for letter in parsed.dead}
    assert "'n'" in reasons[104]
    assert "Int64" in reasons[104]
    assert "'x'" in reasons[104]
    assert "not a JSON object: list" in reasons[103]
    assert parsed.records == 10


def test_a_record_without_its_event_time_is_a_dead_letter() -> None:
    parsed = parser(event_time="t").parse([entry('{"t": 1}', '{"n": 1}', '{"t": null}', '{"t": 4}', first=5)])
    assert values(parsed, "t") == [1, 4]
    assert [(letter.offset, letter.reason) for letter in parsed.dead] == [
        (6, "column 't': the event time is missing"),
        (7, "column 't': the event time is missing"),
    ]


def test_dead_letters_are_bounded() -> None:
    huge = '{"n": "' + "x" * 20_000 + '"}'
    (letter,) = parser().parse([entry(huge)]).dead
    assert len(letter.record) == DEAD_LETTER_BYTES_MAX
    assert len(letter.reason) <= DEAD_LETTER_REASON_MAX


def test_lines_of_white_space_are_no_records() -> None:
    payload = b'\n{"n": 1}\r\n \t \n\n{"n": 2}\n{"n": "bad"}\n'
    parsed = parser().parse([InputEntry(0, 10, 3, "ndjson", payload)])
    assert values(parsed, "n") == [1, 2]
    assert values(parsed, "__offset") == [10, 11]
    assert [letter.offset for letter in parsed.dead] == [12]


READABLE: list[tuple[pl.DataType, str, Any]] = [
    (pl.String(), '"x"', "x"),
    (pl.String(), "12", "12"),
    (pl.String(), "true", "true"),
    (pl.Int64(), "-3", -3),
    (pl.Int64(), '"-3"', -3),
    (pl.Int64(), "3.0", 3),
    (pl.Int8(), "100", 100),
    (pl.UInt64(), "18446744073709551615", 2**64 - 1),
    (pl.Float64(), "0.1", 0.1),
    (pl.Float64(), "7", 7.0),
    (pl.Float64(), '"2.5e3"', 2500.0),
    (pl.Float32(), "0.5", 0.5),
    (pl.Boolean(), "true", True),
    (pl.Boolean(), '"false"', False),
    (pl.Decimal(10, 2), '"1.25"', Decimal("1.25")),
    (pl.Date(), '"2020-02-29"', date(2020, 2, 29)),
    (pl.Time(), '"10:20:30.5"', time(10, 20, 30, 500_000)),
    (pl.Duration("ms"), "1500", timedelta(milliseconds=1500)),
    (pl.Datetime("ms"), '"2020-01-01T01:02:03.004"', datetime(2020, 1, 1, 1, 2, 3, 4000)),  # noqa: DTZ001
    (pl.Datetime("ms"), '"2020-01-01T01:02:03+01:00"', datetime(2020, 1, 1, 0, 2, 3)),  # noqa: DTZ001
    (pl.Datetime("us", "UTC"), '"2020-01-01T01:02:03Z"', datetime(2020, 1, 1, 1, 2, 3, tzinfo=UTC)),
    (pl.Enum(["x", "y"]), '"y"', "y"),
    (pl.List(pl.Int64), "[1, 2]", [1, 2]),
    (pl.Struct({"b": pl.Int64}), '{"b": 1, "c": 2}', {"b": 1}),
]


@pytest.mark.parametrize(("dtype", "text", "expected"), READABLE, ids=lambda one: str(one)[:30])
def test_every_declared_type_is_read(dtype: pl.DataType, text: str, expected: Any) -> None:
    parsed = parser({"c": dtype}).parse([entry(f'{{"c": {text}}}', '{"c": null}', "{}")])
    assert parsed.dead == ()
    assert values(parsed, "c") == [expected, None, None]
    assert parsed.frame.schema["c"] == dtype


UNREADABLE: list[tuple[pl.DataType, str]] = [
    (pl.Int64(), "1.5"),
    (pl.Int64(), '""'),
    (pl.Int64(), "true"),
    (pl.Int64(), "9223372036854775808"),
    (pl.Int8(), "128"),
    (pl.UInt8(), "-1"),
    (pl.Float64(), '"x"'),
    (pl.Boolean(), "1"),
    (pl.Date(), '"2020-13-01"'),
    (pl.Datetime("ms"), "5"),
    (pl.Datetime("us", "UTC"), '"2020-01-01T01:02:03"'),
    (pl.Enum(["x", "y"]), '"z"'),
    (pl.List(pl.Int64), "1"),
    (pl.Struct({"b": pl.Int64}), '{"b": "x"}'),
]


@pytest.mark.parametrize(("dtype", "text"), UNREADABLE, ids=lambda one: str(one)[:30])
def test_what_does_not_convert_is_a_dead_letter_and_harms_no_neighbour(dtype: pl.DataType, text: str) -> None:
    parsed = parser({"c": dtype}).parse([entry("{}", f'{{"c": {text}}}', "{}")])
    assert [letter.offset for letter in parsed.dead] == [1]
    assert values(parsed, "c") == [None, None]


def packed(*records: Any) -> InputEntry:
    return InputEntry(1, 20, len(records), "msgpack", b"".join(msgpack.packb(one) for one in records))


def test_messagepack_maps_are_read_like_lines() -> None:
    parsed = parser().parse(
        [packed({"a": "x", "n": 1, "z": b"\xff"}, {"n": "2", "t": None}, {"a": b"raw", "n": 3.0}, {1: 2})]
    )
    assert parsed.dead == ()
    assert values(parsed, "a") == ["x", None, "raw", None]
    assert values(parsed, "n") == [1, 2, 3, None]
    assert values(parsed, "__offset") == [20, 21, 22, 23]


def test_bad_messagepack_records_are_dead_letters() -> None:
    parsed = parser().parse(
        [packed([1], {"n": 1}, {"a": b"\xff"}, {"n": float("nan")}, {"n": "q"}, {"n": 5})]
    )
    assert values(parsed, "n") == [1, 5]
    assert values(parsed, "__offset") == [21, 25]
    assert [letter.offset for letter in parsed.dead] == [20, 22, 23, 24]


def test_messagepack_that_breaks_off_keeps_what_came_before() -> None:
    whole = packed({"n": 1}, {"n": 2}, {"n": 3})
    for cut in (whole.payload[:-1], whole.payload[:-3] + b"\xc1\xc1\xc1"):
        parsed = parser().parse([InputEntry(1, 20, 3, "msgpack", cut)])
        assert values(parsed, "n") == [1, 2]
        assert [(letter.offset, letter.reason[:15]) for letter in parsed.dead] == [(22, "not MessagePack")]


def arrow(frame: pl.DataFrame) -> InputEntry:
    return InputEntry(2, 5, frame.height, "arrow", frame.write_ipc_stream(None).getvalue())


def test_arrow_streams_are_read_and_converted() -> None:
    frame = pl.DataFrame(
        {"t": ["7", "8"], "n": [1, 2], "other": [0.1, 0.2]}, schema_overrides={"n": pl.UInt8}
    )
    parsed = parser().parse([arrow(frame)])
    assert parsed.dead == ()
    assert values(parsed, "t") == [7, 8]
    assert values(parsed, "n") == [1, 2]
    assert values(parsed, "a") == [None, None]
    assert parsed.frame.schema["n"] == pl.Int64


def test_bad_arrow_values_and_streams_are_dead_letters() -> None:
    parsed = parser().parse([arrow(pl.DataFrame({"n": ["1", "x", "3"]}))])
    assert values(parsed, "__offset") == [5, 7]
    assert [letter.offset for letter in parsed.dead] == [6]
    assert json.loads(parsed.dead[0].record) == {"n": "x"}
    binary = parser().parse([arrow(pl.DataFrame({"a": [b"ok", b"\xff", b"fine"]}))])
    assert values(binary, "a") == ["ok", "fine"]
    junk = parser().parse([InputEntry(2, 5, 3, "arrow", b"junk")])
    assert [letter.offset for letter in junk.dead] == [5, 6, 7]
    assert junk.frame.height == 0


def test_formats_may_be_mixed_in_a_batch() -> None:
    parsed = parser().parse([packed({"n": 2}), arrow(pl.DataFrame({"n": [3, 4]})), entry('{"n": 1}', "bad")])
    assert values(parsed, "n") == [1, 2, 3, 4]
    assert values(parsed, "__partition") == [0, 1, 2, 2]
    assert [(letter.partition, letter.offset) for letter in parsed.dead] == [(0, 1)]


GOOD = st.fixed_dictionaries(
    {},
    optional={
        "a": st.text(max_size=8) | st.integers() | st.booleans(),
        "n": st.integers(-(2**63), 2**63 - 1),
        "t": st.integers(0, 9).map(str),
        "other": st.lists(st.integers(), max_size=2),
    },
).map(json.dumps)
BAD = st.sampled_from(
    [
        "nope",
        "[1]",
        '{"n": "x"}',
        '{"n": 1.5}',
        '{"n"',
        '{"n": 1}}',
        "{}{}",
        '{"a": "\x01"}',
        '{"n": NaN}',
        '"',
    ]
)


@settings(max_examples=40)
@given(
    lines=st.lists(GOOD.map(lambda s: (s, True)) | BAD.map(lambda s: (s, False)), min_size=1, max_size=12),
    cut=st.integers(1, 12),
)
def test_a_record_is_judged_alike_whatever_it_is_read_with(lines: list[tuple[str, bool]], cut: int) -> None:
    texts = [line for line, _ in lines]
    pieces = [entry(*texts[:cut]), entry(*texts[cut:], partition=1)] if cut < len(texts) else [entry(*texts)]
    together = parser().parse(pieces)
    good = [text for text, is_good in lines if is_good]
    assert together.frame.height == len(good)
    assert len(together.dead) == len(lines) - len(good)
    alone = [parser().parse([entry(text)]) for text in texts]
    rows = [row for one in alone for row in one.frame.drop("__partition", "__offset").rows()]
    assert together.frame.drop("__partition", "__offset").rows() == rows
    assert [letter.reason for one in alone for letter in one.dead] == [
        letter.reason for letter in together.dead
    ]


@settings(max_examples=300)
@given(line=GOOD, at=st.integers(0, 60), change=st.binary(max_size=2), drop=st.integers(0, 3))
@example(line="{}", at=0, change=b"\xef\xbb\xbf", drop=0)
def test_what_pythons_json_refuses_the_reader_refuses_too(
    line: str, at: int, change: bytes, drop: int
) -> None:
    """`salvage` relies on it."""
    mutated = line.encode()[:at] + change + line.encode()[at + drop :]
    for record in split_lines(mutated):
        try:
            refused = not isinstance(json.loads(record, strict=False), dict)
        except ValueError:
            refused = True
        if refused:
            with pytest.raises(pl.exceptions.PolarsError):
                read_lines(record, SCHEMA)


def test_a_flood_of_garbage_does_not_cost_a_reader_call_each(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = 0
    real = pl.read_ndjson

    def counted(*given: Any, **named: Any) -> pl.DataFrame:
        nonlocal calls
        calls += 1
        return real(*given, **named)

    monkeypatch.setattr(pl, "read_ndjson", counted)
    lines = ["garbage"] * 2000 + ['{"n": 1}'] * 10 + ["[]"] * 2000
    parsed = parser().parse([entry(*lines)])
    assert (parsed.frame.height, len(parsed.dead)) == (10, 4000)
    assert calls <= 3

"""Splitting by a key: same key, same partition, in every format; nothing lost, order kept."""

from __future__ import annotations

import datetime
import io
import json

import msgpack
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from drizzle_streams.errors import ProtocolError
from drizzle_streams.source.formats import FormatError, check_body
from drizzle_streams.source.posts import Part
from drizzle_streams.source.repartition import check_key, split_by_key
from drizzle_streams.transport.entries import EntryFormat

Record = dict[str, object]


def encode(entry_format: EntryFormat, records: list[Record]) -> bytes:
    match entry_format:
        case EntryFormat.NDJSON:
            return b"".join(json.dumps(record).encode() + b"\n" for record in records)
        case EntryFormat.MSGPACK:
            return b"".join(map(msgpack.packb, records))
        case EntryFormat.ARROW:
            encoded = io.BytesIO()
            pl.DataFrame(records).write_ipc_stream(encoded)
            return encoded.getvalue()


def decode(entry_format: EntryFormat, payload: bytes) -> list[Record]:
    match entry_format:
        case EntryFormat.NDJSON:
            return [json.loads(line) for line in payload.splitlines()]
        case EntryFormat.MSGPACK:
            return list(msgpack.Unpacker(io.BytesIO(payload)))
        case EntryFormat.ARROW:
            return pl.read_ipc_stream(io.BytesIO(payload)).to_dicts()


def split(entry_format: EntryFormat, body: bytes, key: str, partitions: int) -> tuple[Part, ...]:
    return split_by_key(entry_format, check_body(entry_format, body), key, partitions)


KEYS = st.lists(st.text(max_size=10) | st.none(), min_size=1, max_size=30)


@pytest.mark.parametrize("entry_format", EntryFormat)
@given(keys=KEYS, partitions=st.integers(2, 9))
def test_every_record_is_in_one_part_in_its_order(
    entry_format: EntryFormat, keys: list[str | None], partitions: int
) -> None:
    records: list[Record] = [{"key": key, "n": n} for n, key in enumerate(keys)]
    parts = split(entry_format, encode(entry_format, records), "key", partitions)
    assert [part.partition for part in parts] == sorted({part.partition for part in parts})
    assert all(part.partition < partitions for part in parts)
    where: dict[object, int] = {}
    found: list[Record] = []
    for part in parts:
        content = decode(entry_format, part.payload)
        assert len(content) == part.records > 0
        numbers = [record["n"] for record in content]
        assert numbers == sorted(numbers)  # type: ignore[type-var]
        assert all(where.setdefault(record["key"], part.partition) == part.partition for record in content)
        found += content
    assert sorted(found, key=lambda record: str(record["n"]).zfill(9)) == records


@pytest.mark.parametrize(
    "values", [["a", "b", "ä", ""], [17, -3, 0, 2**40], [True, False], [1.5, -0.25, 1.0]]
)
def test_a_key_goes_to_the_same_partition_in_every_format(values: list[object]) -> None:
    for value in values:
        found = {
            entry_format: split(entry_format, encode(entry_format, [{"key": value}]), "key", 97)[0].partition
            for entry_format in EntryFormat
        }
        assert len(set(found.values())) == 1, (value, found)


def test_a_number_and_its_text_are_the_same_key() -> None:
    parts = split(EntryFormat.NDJSON, b'{"key":17}\n{"key":"17"}\n', "key", 97)
    assert [part.records for part in parts] == [2]


def test_the_partition_of_a_key_is_for_ever() -> None:
    """Logs outlive releases: if this changes, a key's records are torn apart."""
    body = b"".join(b'{"key":"%d"}\n' % i for i in range(12))
    numbers = {}
    for part in split(EntryFormat.NDJSON, body, "key", 4):
        for record in decode(EntryFormat.NDJSON, part.payload):
            numbers[record["key"]] = part.partition
    assert [numbers[str(i)] for i in range(12)] == [0, 0, 3, 0, 1, 1, 3, 3, 0, 2, 3, 2]


def test_lines_that_are_bad_or_lack_the_key_stay_together_untouched() -> None:
    body = b'{"key":"a"}\nnot json\n{"other":1}\n{"key":null}\n\xff\xfe\n{"key":"a"}\n'
    parts = split(EntryFormat.NDJSON, body, "key", 997)
    assert sorted(part.records for part in parts) == [2, 4]
    assert b"".join(sorted(part.payload for part in parts)) in (
        b'not json\n{"other":1}\n{"key":null}\n\xff\xfe\n{"key":"a"}\n{"key":"a"}\n',
        b'{"key":"a"}\n{"key":"a"}\nnot json\n{"other":1}\n{"key":null}\n\xff\xfe\n',
    )


def test_a_key_is_a_column_at_the_top() -> None:
    parts = split(EntryFormat.NDJSON, b'{"a.b":"x","a":{"b":"y"}}\n{"a.b":"x","a":{"b":"z"}}\n', "a.b", 997)
    assert len(parts) == 1


def test_an_arrow_body_without_the_column_is_refused() -> None:
    with pytest.raises(FormatError, match="a column 'key'"):
        split(EntryFormat.ARROW, encode(EntryFormat.ARROW, [{"a": 1}]), "key", 2)


@pytest.mark.parametrize("value", [{"a": 1}, [1], b"\xff", datetime.timedelta(1)])
def test_an_arrow_column_that_has_no_text_is_refused(value: object) -> None:
    with pytest.raises(FormatError, match="text or numbers"):
        split(EntryFormat.ARROW, encode(EntryFormat.ARROW, [{"key": value}]), "key", 2)


def test_msgpack_maps_may_have_odd_keys() -> None:
    body = msgpack.packb({1: 2, "key": b"x", b"y": None}) + b"\x81\x91\x01\x02"
    with pytest.raises(FormatError, match="another one"):
        split(EntryFormat.MSGPACK, body, "key", 2)
    assert len(split(EntryFormat.MSGPACK, body[:-4], "key", 2)) == 1


@pytest.mark.parametrize("key", ["", "a'b", "a]b", "$", "a\\b", "a\nb", "x" * 101])
def test_a_key_that_could_be_a_path_is_refused(key: str) -> None:
    with pytest.raises(ProtocolError, match="key column"):
        check_key(key)


@pytest.mark.parametrize("key", ["campaign_id", "a.b", "user id", "x-y:z", "0"])
def test_a_key_may_have_any_usual_name(key: str) -> None:
    assert check_key(key) == key
    assert len(split(EntryFormat.NDJSON, encode(EntryFormat.NDJSON, [{key: "v"}] * 5), key, 97)) == 1
    differ = encode(EntryFormat.NDJSON, [{key: str(i)} for i in range(20)])
    assert len(split(EntryFormat.NDJSON, differ, key, 97)) > 10

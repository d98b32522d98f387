"""The binary form of entries: whole and true, or refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drizzle_streams.errors import CorruptError
from drizzle_streams.transport.entries import (
    Entry,
    EntryFormat,
    decode_entries,
    encode_entries,
    encode_header,
    entry_size,
)


@st.composite
def entries(draw: st.DrawFn) -> Entry:
    parts = draw(st.integers(1, 65_535))
    return Entry(
        partition=draw(st.integers(0, 65_535)),
        base_offset=draw(st.integers(0, 2**63)),
        records=draw(st.integers(0, 2**32 - 1)),
        format=draw(st.sampled_from(EntryFormat)),
        payload=draw(st.binary(max_size=300)),
        producer=draw(st.text(max_size=30)),
        sequence=draw(st.integers(0, 2**63 - 1)),
        part=draw(st.integers(0, parts - 1)),
        parts=parts,
    )


@given(st.lists(entries(), max_size=5))
def test_what_is_encoded_is_decoded(some: list[Entry]) -> None:
    data = encode_entries(some)
    assert decode_entries(data) == some
    assert len(data) == sum(entry_size(len(entry.payload), entry.producer) for entry in some)


def test_no_entries_are_no_bytes() -> None:
    assert encode_entries([]) == b""
    assert decode_entries(b"") == []


SAMPLE = Entry(3, 700, 2, EntryFormat.NDJSON, b'{"a":1}\n{"a":2}\n', "loadgen-1", 17)


def test_every_torn_end_is_refused() -> None:
    data = encode_entries([SAMPLE, SAMPLE])
    whole = len(data) // 2
    for length in range(len(data)):
        if length in (0, whole):
            continue
        with pytest.raises(CorruptError, match="entry at byte"):
            decode_entries(data[:length])


def test_every_wrong_byte_is_refused() -> None:
    data = encode_entries([SAMPLE])
    for position in range(len(data)):
        wrong = bytearray(data)
        wrong[position] ^= 0x10
        with pytest.raises(CorruptError):
            decode_entries(bytes(wrong))


@given(st.binary(max_size=200))
def test_garbage_is_refused_and_never_crashes(data: bytes) -> None:
    if data:
        with pytest.raises(CorruptError):
            decode_entries(data)


def test_zeros_are_no_entries() -> None:
    with pytest.raises(CorruptError):
        decode_entries(bytes(4096))


def test_formats_are_named_as_the_engine_names_them() -> None:
    assert [f.word for f in EntryFormat] == ["ndjson", "arrow", "msgpack"]


def test_a_header_is_small() -> None:
    assert len(encode_header(Entry(0, 0, 1, EntryFormat.NDJSON, b"x"))) < 40

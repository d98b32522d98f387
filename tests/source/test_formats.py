"""What bodies are taken, how many records they have, and why others are not."""

from __future__ import annotations

import datetime
import io
import os
import subprocess
import sys
from typing import Literal

import msgpack
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from drizzle_streams.source import formats
from drizzle_streams.source.arrow_ipc import ArrowFormatError, arrow_size
from drizzle_streams.source.formats import FormatError, check_body
from drizzle_streams.transport.entries import EntryFormat

NDJSON, ARROW, MSGPACK = EntryFormat.NDJSON, EntryFormat.ARROW, EntryFormat.MSGPACK


def arrow(frame: pl.DataFrame, compression: Literal["uncompressed", "lz4", "zstd"] = "uncompressed") -> bytes:
    encoded = io.BytesIO()
    frame.write_ipc_stream(encoded, compression=compression)
    return encoded.getvalue()


FRAME = pl.DataFrame(
    {
        "text": ["a", None, "c" * 100, "ä"],
        "number": [1, 2, None, 4],
        "flag": [True, False, None, True],
        "list": [[1], [], None, [2, 3]],
        "struct": [{"x": 1}] * 4,
        "none": [None] * 4,
        "when": [datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)] * 4,
        "word": pl.Series(["x", "y", "x", None], dtype=pl.Categorical),
    }
)


# --- NDJSON --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "payload", "records"),
    [
        (b'{"a":1}\n', b'{"a":1}\n', 1),
        (b'{"a":1}\n{"a":2}', b'{"a":1}\n{"a":2}\n', 2),
        (b'{"a":1}\r\n{"a":2}\r\n', b'{"a":1}\r\n{"a":2}\r\n', 2),
        (b'\n\n{"a":1}\n\n\r\n{"a":2}\n\n', b'{"a":1}\n{"a":2}\n', 2),
        (b'{"a":1}\nnot json\n{"a":3}\n', b'{"a":1}\nnot json\n{"a":3}\n', 3),
        (b'bad first line\n{"a":2}\n', b'bad first line\n{"a":2}\n', 2),
        (b'{"a":1}\nbad last line\n', b'{"a":1}\nbad last line\n', 2),
        (b' {"a":1} \n', b' {"a":1} \n', 1),
        (b"{}", b"{}\n", 1),
    ],
)
def test_ndjson_is_kept_line_by_line(body: bytes, payload: bytes, records: int) -> None:
    assert check_body(NDJSON, body) == (payload, records)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\n",
        b"\n \n\t\n",
        b'[{"a":1},\n{"a":2}]',
        b'{\n  "a": 1\n}\n',
        b"user,page\n1,2\n",
        b"hello",
        b"17\n18\n",
        b'{"a":1',
        b"\x00\x01\x02",
        b'\xef\xbb\xbf{"a":1}\n',
    ],
)
def test_what_is_no_ndjson_of_objects_is_refused(body: bytes) -> None:
    with pytest.raises(FormatError, match="Nothing was taken"):
        check_body(NDJSON, body)


@given(
    st.lists(
        st.binary(min_size=1, max_size=20).filter(lambda line: b"\n" not in line and line.strip()),
        max_size=20,
    )
)
def test_lines_are_neither_lost_nor_made(lines: list[bytes]) -> None:
    body = b"\n".join([b'{"first":1}', *lines])
    checked = check_body(NDJSON, body)
    assert checked.records == len(lines) + 1
    assert checked.payload.split(b"\n")[:-1] == body.split(b"\n")


# --- Arrow ---------------------------------------------------------------------------------


@pytest.mark.parametrize("compression", ["uncompressed", "lz4", "zstd"])
def test_arrow_is_kept_as_it_is(compression: Literal["uncompressed", "lz4", "zstd"]) -> None:
    body = arrow(FRAME, compression)
    assert check_body(ARROW, body) == (body, 4)


def test_the_size_once_decompressed_is_known_before_decoding() -> None:
    frame = pl.DataFrame({"zeros": pl.Series([0] * 100_000, dtype=pl.Int64)})
    plain, packed = arrow(frame), arrow(frame, "zstd")
    assert len(packed) < len(plain) / 50
    rows, decoded = arrow_size(packed)
    assert rows == 100_000
    assert 800_000 <= decoded <= arrow_size(plain).decoded_bytes + 64


def test_an_arrow_bomb_is_refused_undecoded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(formats, "DECODED_BYTES_MAX", 100_000)
    monkeypatch.setattr(formats, "read_arrow", lambda body: pytest.fail("decoded"))
    bomb = arrow(pl.DataFrame({"zeros": pl.Series([0] * 100_000, dtype=pl.Int64)}), "zstd")
    with pytest.raises(FormatError, match="once decompressed"):
        check_body(ARROW, bomb)


def test_a_batch_of_nothing_times_a_billion_is_refused_undecoded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(formats, "read_arrow", lambda body: pytest.fail("decoded"))
    body = arrow(pl.DataFrame({"none": [None] * (formats.RECORDS_MAX + 1)}))
    assert len(body) < 10_000
    with pytest.raises(FormatError, match="at most 1000000 records"):
        check_body(ARROW, body)


def test_several_batches_are_one_stream() -> None:
    frame = pl.concat([FRAME, FRAME], rechunk=False)
    assert check_body(ARROW, arrow(frame)).records == 8


def test_arrow_without_rows_is_refused() -> None:
    with pytest.raises(FormatError, match="wanted records, found none"):
        check_body(ARROW, arrow(FRAME.clear()))


def test_arrow_that_is_cut_off_is_refused() -> None:
    body = arrow(FRAME)
    for length in [*range(200), *range(200, len(body) - 8, 97)]:
        with pytest.raises(FormatError):
            check_body(ARROW, body[:length])


def test_bytes_behind_the_end_are_refused() -> None:
    with pytest.raises(FormatError, match="behind the end"):
        check_body(ARROW, arrow(FRAME) + arrow(FRAME))


@given(st.binary(max_size=300))
def test_garbage_is_no_arrow(body: bytes) -> None:
    with pytest.raises(FormatError):
        check_body(ARROW, body)


@given(st.integers(0, 10_000), st.integers(0, 255))
def test_a_wrong_byte_in_arrow_is_refused_or_harmless(position: int, value: int) -> None:
    body = bytearray(arrow(FRAME.select("text", "number"), "lz4"))
    body[position % len(body)] = value
    try:
        size = arrow_size(bytes(body))
    except ArrowFormatError:
        return
    assert size.rows >= 0
    assert size.decoded_bytes >= 0


HOSTILE = """
import random
from drizzle_streams.source.formats import FormatError, check_body
from drizzle_streams.transport.entries import EntryFormat
from tests.source.test_formats import FRAME, arrow

chance = random.Random(7)
bodies = [arrow(FRAME), arrow(FRAME, "lz4"), arrow(FRAME, "zstd")]
taken = refused = 0
for _ in range(1500):
    body = bytearray(chance.choice(bodies))
    at = chance.randrange(len(body) - 8)
    wrong = chance.choice([0, 1, 5, 2**31, 2**40, 2**55, 2**62, 2**64 - 1, chance.getrandbits(64)])
    body[at : at + 8] = wrong.to_bytes(8, "little")
    try:
        check_body(EntryFormat.ARROW, bytes(body))
        taken += 1
    except FormatError:
        refused += 1
assert taken and refused > 500, (taken, refused)
"""


def test_wrong_lengths_in_arrow_never_end_the_process() -> None:
    """A decoder that believes a wrong length aborts: in a process of its own, so that this can fail."""
    done = subprocess.run(
        [sys.executable, "-c", HOSTILE],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:].decode()


# --- MessagePack ---------------------------------------------------------------------------


def packed(*values: object) -> bytes:
    return b"".join(map(msgpack.packb, values))


def test_msgpack_maps_are_counted() -> None:
    records = [
        {"a": 1},
        {},
        {str(i): [i, None, {"x": b"y"}] for i in range(20)},
        {str(i): i for i in range(70_000)},
    ]
    body = packed(*records)
    assert check_body(MSGPACK, body) == (body, 4)


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b"", "empty body"),
        (packed([1, 2]), "another type at byte 0"),
        (packed({"a": 1}, 17), "another type at byte 4"),
        (packed({"a": 1}, {"b": "text"})[:-1], "cut off at byte 4"),
        (b"\x81\xa1a\xc1", "MessagePack maps"),
        (b"\x81\xa1a" + b"\x91" * 5000 + b"\xc0", "MessagePack maps"),
        (b"{}", "another type"),
    ],
)
def test_what_is_no_row_of_maps_is_refused(body: bytes, why: str) -> None:
    with pytest.raises(FormatError, match=why):
        check_body(MSGPACK, body)


@given(st.binary(max_size=200))
def test_garbage_is_refused_or_counted_and_never_crashes(body: bytes) -> None:
    try:
        checked = check_body(MSGPACK, body)
    except FormatError:
        return
    assert checked.records >= 1


@pytest.mark.parametrize(("entry_format", "body"), [(NDJSON, b"{}\n" * 11), (MSGPACK, b"\x80" * 11)])
def test_records_in_a_post_are_bounded(
    monkeypatch: pytest.MonkeyPatch, entry_format: EntryFormat, body: bytes
) -> None:
    monkeypatch.setattr(formats, "RECORDS_MAX", 10)
    with pytest.raises(FormatError, match="at most 10 records"):
        check_body(entry_format, body)

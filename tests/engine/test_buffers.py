"""Large frames are written past the interpreter: the same bytes, wherever they are written."""

from __future__ import annotations

import polars as pl
import pytest

from drizzle_streams.engine import buffers
from drizzle_streams.engine.frames import decode_frame, encode_frame


def frame(rows: int) -> pl.DataFrame:
    numbers = pl.int_range(0, rows, eager=True)
    return pl.DataFrame([numbers.alias("n"), numbers.cast(pl.String).alias("text")])


@pytest.mark.parametrize("whole", [frame(0), frame(1), frame(3_000), pl.concat([frame(9), frame(9)])])
def test_both_ways_give_the_same_bytes(whole: pl.DataFrame, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(buffers, "LARGE_BYTES", 1 << 60)
    expected = buffers.written(b"head", whole)
    monkeypatch.setattr(buffers, "LARGE_BYTES", 0)
    assert buffers.written(b"head", whole) == expected
    assert expected.startswith(b"head")
    assert pl.read_ipc_stream(expected[4:]).equals(whole)


def test_where_the_system_has_no_such_memory_the_interpreter_does(monkeypatch: pytest.MonkeyPatch) -> None:
    large = frame(100_000)
    assert large.estimated_size() > buffers.LARGE_BYTES
    expected = encode_frame({"a": 1}, large)
    monkeypatch.setattr(buffers, "_HAS_MEMORY_FILES", False)
    assert encode_frame({"a": 1}, large) == expected
    header, back = decode_frame(expected)
    assert header == {"a": 1, "r": 100_000}
    assert back is not None
    assert back.equals(large)

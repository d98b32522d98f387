"""Chunks of files: whatever the lines and wherever chunks are cut, every line is read once, in order."""

from __future__ import annotations

import os
from pathlib import Path

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from drizzle_streams.api.files import found_files
from drizzle_streams.api.plan import Files
from drizzle_streams.engine.columns import OFFSET
from drizzle_streams.engine.parsing import Parser
from drizzle_streams.engine.program import Read
from drizzle_streams.engine.records import END, InputEntry
from drizzle_streams.errors import BuildError
from drizzle_streams.model import files as model
from drizzle_streams.model.bounds import Bounds
from drizzle_streams.model.files import FileSet, Format, chunks_of
from drizzle_streams.model.ids import BatchId, Offset, PartitionId, StreamId
from drizzle_streams.worker import chunks as worker_chunks
from drizzle_streams.worker.chunks import Chunks, InputFileError, named_chunks


def read(files: FileSet, partition: int, partitions: int) -> list[InputEntry]:
    """All that a partition ever reads: a batch per chunk, the last one ends it."""
    end = chunks_of(partition, partitions, files.chunks) + 1
    bounds = Bounds(BatchId(0), PartitionId(partition), Offset(0), Offset(end))
    chunks = Chunks(files, partitions)
    placed = chunks.placed(named_chunks([bounds])[PartitionId(partition)])
    return [entry if entry.format == END else chunks.read(entry) for entry in placed]


def write(folder: Path, contents: list[bytes], form: Format = "ndjson") -> FileSet:
    for number, content in enumerate(contents):
        (folder / f"{number}.ndjson").write_bytes(content)
    return found_files(Files(str(folder / "*.ndjson"), form))


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model, "CHUNK_BYTES_MIN", 7)
    monkeypatch.setattr(model, "CHUNK_BYTES_MAX", 7)
    monkeypatch.setattr(worker_chunks, "LOOK_BYTES", 3)


LINES = st.lists(st.binary(max_size=20).map(lambda line: line.replace(b"\n", b"-")), max_size=12)


@pytest.mark.usefixtures("small_chunks")
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    contents=st.lists(st.tuples(LINES, st.booleans()), min_size=1, max_size=3), partitions=st.integers(1, 4)
)
def test_every_line_is_read_once(tmp_path_factory, contents, partitions):
    folder = tmp_path_factory.mktemp("files")
    texts = [b"\n".join(lines) + (b"\n" if whole and lines else b"") for lines, whole in contents]
    files = write(folder, texts)
    entries = [read(files, partition, partitions) for partition in range(partitions)]
    assert all([entry.format == END for entry in of][-1:] == [True] for of in entries), "each one ends"
    chunks = [entry for of in entries for entry in of if entry.format != END]
    chunks.sort(key=lambda entry: entry.first_offset)
    assert b"".join(entry.payload for entry in chunks) == b"".join(texts)
    for of in entries:
        offsets = [entry.first_offset for entry in of if entry.format != END]
        assert offsets == sorted(offsets)


def test_an_input_is_cut_by_its_size_alone(tmp_path):
    files = write(tmp_path, [b"x" * 100 + b"\n", b""])
    assert (files.chunk_bytes, files.chunks) == (model.CHUNK_BYTES_MIN, 1)
    large = FileSet((model.FilePart("a", 10**12, 0), model.FilePart("b", 10, 0)))
    assert large.chunk_bytes == model.CHUNK_BYTES_MAX
    assert large.range_of(large.chunks - 1) == model.FileRange(large.files[1], 0, 10, 10**12)
    assert sum(chunks_of(p, 7, large.chunks) for p in range(7)) == large.chunks


@pytest.mark.parametrize("change", ["longer", "touched", "gone"])
def test_a_file_that_changed_says_so(tmp_path, change):
    files = write(tmp_path, [b'{"a": 1}\n'])
    path = tmp_path / "0.ndjson"
    match change:
        case "longer":
            path.write_bytes(b'{"a": 1}\n{"a": 2}\n')
        case "touched":
            os.utime(path, ns=(0, 0))
        case _:
            path.unlink()
    with pytest.raises(InputFileError, match=r"0\.ndjson.*9 bytes, as when the job was submitted"):
        read(files, 0, 1)


def test_a_line_without_an_end_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(worker_chunks, "LINE_BYTES_MAX", 1_000)
    monkeypatch.setattr(model, "CHUNK_BYTES_MAX", 100)
    monkeypatch.setattr(model, "CHUNK_BYTES_MIN", 100)
    monkeypatch.setattr(worker_chunks, "LOOK_BYTES", 100)
    files = write(tmp_path, [b"x" * 10_000])
    with pytest.raises(InputFileError, match="lines of at most 1000 bytes"):
        read(files, 0, 1)


def test_records_are_counted_as_they_are_read(tmp_path):
    lines = [b'{"a": 1}', b"", b'{"a": 2}{"a": 3}', b" ", b'{"a": 4}', b'{"a":', b"5}"]
    files = write(tmp_path, [b"\n".join(lines[:2]) + b"\n", b"\n".join(lines)])
    chunks = Chunks(files, 1)
    parser = Parser(Read(StreamId("files"), {"a": pl.Int64()}), with_offsets=True)
    bounds = Bounds(BatchId(0), PartitionId(0), Offset(0), Offset(3))
    parsed = parser.parse(chunks.placed(named_chunks([bounds])[PartitionId(0)]), chunks.read)
    assert parsed.frame["a"].to_list() == [1, 1, 4]
    assert [letter.record for letter in parsed.dead] == [lines[2], lines[5], lines[6]]
    assert parsed.records == 6
    offsets = parsed.frame[OFFSET].to_list()
    assert offsets == sorted(set(offsets))


def test_lines_of_text_are_rows_as_they_are(tmp_path):
    lines = ["a b", "", " ", '{"a": 1}', "ü"]
    files = write(tmp_path, ["\n".join(lines).encode(), "\r\n".join(lines).encode() + b"\n", b""], "lines")
    entries = [entry for entry in read(files, 0, 1) if entry.format != END]
    parsed = Parser(Read(StreamId("files"), {"line": pl.String()}), with_offsets=True).parse(entries)
    assert parsed.frame["line"].to_list() == lines * 2
    assert (parsed.dead, parsed.records) == ((), 10)
    offsets = parsed.frame[OFFSET].to_list()
    assert offsets == sorted(set(offsets))


def test_a_line_that_is_no_text_is_a_dead_letter(tmp_path):
    files = write(tmp_path, [b"a\n\xff\xfe\nb\r\n\xc3"], "lines")
    parser = Parser(Read(StreamId("files"), {"line": pl.String()}), with_offsets=True)
    parsed = parser.parse([entry for entry in read(files, 0, 1) if entry.format != END])
    assert parsed.frame["line"].to_list() == ["a", "b"]
    assert parsed.frame[OFFSET].to_list() == [0, 2]
    assert [(letter.offset, letter.record) for letter in parsed.dead] == [(1, b"\xff\xfe"), (3, b"\xc3")]
    assert all(letter.reason.startswith("not UTF-8") for letter in parsed.dead)


def test_no_files_is_an_error_where_the_job_is_made(tmp_path):
    with pytest.raises(BuildError, match="wanted 1 to 10000 files, found none"):
        found_files(Files(str(tmp_path / "*.ndjson"), "ndjson"))

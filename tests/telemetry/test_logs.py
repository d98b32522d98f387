"""Log lines: what they hold, and that writing them never holds anybody up."""

from __future__ import annotations

import io
import json
import logging
import os
import re
from collections.abc import Callable, Iterator

import pytest

from drizzle_streams.telemetry import logs
from drizzle_streams.telemetry.logs import LineWriter, LogFormat, configure

log = logging.getLogger("drizzle.test")


@pytest.fixture
def lines() -> Iterator[Callable[[LogFormat], tuple[io.StringIO, LineWriter]]]:
    """Configures logging into a string; puts the root logger back afterwards."""
    root = logging.getLogger()
    level, writers = root.level, list[LineWriter]()

    def begin(style: LogFormat) -> tuple[io.StringIO, LineWriter]:
        stream = io.StringIO()
        writers.append(configure("worker", "w1", style=style, stream=stream))
        return stream, writers[-1]

    yield begin
    root.setLevel(level)
    for writer in writers:
        root.removeHandler(writer)
        writer.close()


Begin = Callable[[LogFormat], tuple[io.StringIO, LineWriter]]


def test_json_lines_hold_the_event_and_its_fields(lines: Begin) -> None:
    stream, writer = lines(LogFormat.JSON)
    log.warning("dial %s", "failed", extra={"peer": "w2", "attempt": 3, "limits": {"a"}})
    log.debug("not asked for")
    writer.close()
    (line,) = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+00:00", line.pop("at"))
    assert line == {
        "level": "warning",
        "service": "worker",
        "node": "w1",
        "logger": "drizzle.test",
        "event": "dial failed",
        "peer": "w2",
        "attempt": 3,
        "limits": "{'a'}",
    }


def test_console_lines_are_for_people(lines: Begin) -> None:
    stream, writer = lines(LogFormat.CONSOLE)
    log.error("dial failed", extra={"peer": "w2"})
    writer.close()
    assert re.fullmatch(r"\d\d:\d\d:\d\d\.\d{3} ERROR    worker w1: dial failed peer=w2\n", stream.getvalue())


@pytest.mark.parametrize("style", list(LogFormat))
def test_a_traceback_is_kept_whole(lines: Begin, style: LogFormat) -> None:
    stream, writer = lines(style)
    try:
        raise ValueError("a bug")
    except ValueError:
        log.exception("crashed", extra={"value": "v" * 10_000})
    writer.close()
    text = stream.getvalue()
    assert "Traceback" in text
    assert "ValueError: a bug" in text
    assert "v" * logs.VALUE_CHARACTERS_MAX + "…" in text
    if style is LogFormat.JSON:
        assert text.count("\n") == 1


def test_a_reader_that_stopped_costs_lines_and_no_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "LINES_WAITING_MAX", 10)
    read_end, write_end = os.pipe()
    with os.fdopen(write_end, "w") as stream:
        writer = LineWriter(stream)
        record = logging.makeLogRecord({"msg": "x" * 100_000})  # one line is more than the pipe holds
        for _ in range(50):
            writer.emit(record)
        assert writer.dropped >= 50 - 10 - 1

        with os.fdopen(read_end) as reader:
            assert reader.read(200_000)
            while writer.dropped:
                reader.read(100_001)
                writer.emit(logging.makeLogRecord({"msg": "short"}))
            rest = ""
            while "short" not in rest:
                rest += reader.readline()
            assert "log lines were dropped" in rest
            writer.close()


def test_a_closed_stream_ends_the_writing_and_nothing_else() -> None:
    stream = io.StringIO()
    writer = LineWriter(stream)
    stream.close()
    for _ in range(3):
        writer.emit(logging.makeLogRecord({"msg": "to nobody"}))
    writer.close()
    writer.close()

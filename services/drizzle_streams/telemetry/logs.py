"""Logs: one line per event on stderr, for machines (JSON) or for people (console).

Rules:
- An event is a short phrase in the past tense; what it is about stands in fields
  (`extra={"peer": …}`) that are called the same in code, metrics and docs.
- Writing never blocks a service: lines wait in a bounded queue for a thread of
  their own, since whoever reads our stderr may have stopped reading. Lines that
  find it full are dropped, counted, and the count is logged.
"""

from __future__ import annotations

import json
import logging
import queue
import sys
import threading
from datetime import UTC, datetime
from enum import StrEnum
from typing import TextIO

LINES_WAITING_MAX = 10_000
"""Lines between the services' threads and the writing thread."""
VALUE_CHARACTERS_MAX = 4_000
"""Longest value of a field; a traceback is never cut."""
DRAIN_S = 2.0
"""What a close gives the writing thread to get rid of what waits."""

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class LogFormat(StrEnum):
    """For whom the lines are."""

    JSON = "json"
    CONSOLE = "console"


def configure(
    service: str,
    node: str = "",
    *,
    style: LogFormat = LogFormat.CONSOLE,
    level: str = "INFO",
    stream: TextIO | None = None,
) -> LineWriter:
    """Send every log of this process to stderr as `style`. Close what it returns at the end."""
    writer = LineWriter(stream or sys.stderr)
    writer.setFormatter(JsonLines(service, node) if style is LogFormat.JSON else ConsoleLines(service, node))
    root = logging.getLogger()
    for old in [handler for handler in root.handlers if isinstance(handler, LineWriter)]:
        root.removeHandler(old)
        old.close()
    root.addHandler(writer)
    root.setLevel(level)
    return writer


class LineWriter(logging.Handler):
    """Writes formatted records from a thread of its own."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__()
        self._stream = stream
        self._lines: queue.Queue[str | None] = queue.Queue(LINES_WAITING_MAX)
        self._closed = False
        self.dropped = 0
        """Lines that found the queue full since it was last not."""
        self._thread = threading.Thread(target=self._write, name="logs", daemon=True)
        self._thread.start()

    def emit(self, record: logging.LogRecord) -> None:
        """Called by logging, one thread at a time."""
        line = self.format(record)
        try:
            if self.dropped:
                self._lines.put_nowait(self.format(_dropped(self.dropped)))
                self.dropped = 0
            self._lines.put_nowait(line)
        except queue.Full:
            self.dropped += 1

    def close(self) -> None:
        """Write what waits, in bounded time, and end the thread."""
        if not self._closed:
            self._closed = True
            try:
                self._lines.put(None, timeout=DRAIN_S)
            except queue.Full:
                pass  # Nobody reads. The thread is a daemon and ends with the process.
            else:
                self._thread.join(DRAIN_S)
        super().close()

    def _write(self) -> None:
        try:
            while (line := self._lines.get()) is not None:
                self._stream.write(line + "\n")
                if self._lines.empty():
                    self._stream.flush()
        except (OSError, ValueError):
            return  # The stream is closed: there is nobody left to tell.


class JsonLines(logging.Formatter):
    """One JSON object per line: at, level, service, node, logger, event, then the fields."""

    def __init__(self, service: str, node: str) -> None:
        super().__init__()
        self._who = {"service": service, "node": node}

    def format(self, record: logging.LogRecord) -> str:
        """The line without its end."""
        line: dict[str, object] = {"at": _at(record).isoformat(timespec="milliseconds")}
        line |= {"level": record.levelname.lower(), **self._who, "logger": record.name}
        line |= {"event": record.getMessage(), **_fields(record)}
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str, ensure_ascii=False)


class ConsoleLines(logging.Formatter):
    """For people: time, level, who, event, then the fields as name=value."""

    def __init__(self, service: str, node: str) -> None:
        super().__init__()
        self._who = f"{service} {node}".strip()

    def format(self, record: logging.LogRecord) -> str:
        """The line without its end."""
        time = _at(record).astimezone().strftime("%H:%M:%S.%f")[:-3]
        fields = "".join(f" {name}={value}" for name, value in _fields(record).items())
        line = f"{time} {record.levelname:<8} {self._who}: {record.getMessage()}{fields}"
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


def _at(record: logging.LogRecord) -> datetime:
    return datetime.fromtimestamp(record.created, UTC)


def _fields(record: logging.LogRecord) -> dict[str, object]:
    """What was given as `extra`."""
    fields = {name: value for name, value in vars(record).items() if name not in _STANDARD}
    return {name: _cut(value) for name, value in fields.items()}


def _cut(value: object) -> object:
    if isinstance(value, int | float | bool | None):
        return value
    text = str(value)
    return text if len(text) <= VALUE_CHARACTERS_MAX else text[:VALUE_CHARACTERS_MAX] + "…"


def _dropped(lines: int) -> logging.LogRecord:
    return logging.makeLogRecord(
        {
            "name": "drizzle.logs",
            "levelno": logging.WARNING,
            "levelname": "WARNING",
            "msg": "log lines were dropped: nobody read them in time",
            "lines": lines,
        }
    )

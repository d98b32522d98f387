"""Whose directory it is: a source's name is the name of its log, wherever it runs.

The cluster addresses offsets by (source, partition, offset). A directory that were served under
another name, or with another number of partitions, would be other records under known offsets.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from drizzle_streams.errors import ConfigError, explain
from drizzle_streams.source.files import write_whole
from drizzle_streams.source.log import StreamLog

FILE = "source"


def claim(directory: Path, name: str) -> None:
    """Take a directory that nobody has, or our own. Raises `ConfigError` for another source's. Blocks."""
    path = directory / FILE
    if not path.exists():
        write_whole(path, name.encode())
    owner = path.read_text(encoding="utf-8", errors="replace")
    if owner != name:
        raise ConfigError(
            explain(
                f"log directory {directory}",
                wanted=f"the log of source {name}",
                found=f"the log of source {owner[:100]!r}",
                remedy="Set DRIZZLE_NAME to that name, or DRIZZLE_DATA_DIR to another directory.",
            )
        )


def check_partitions(logs: Iterable[StreamLog], partitions: int) -> None:
    """Raise `ConfigError` unless every log has as many partitions as the source says it has."""
    for log in logs:
        if log.partitions != partitions:
            raise ConfigError(
                explain(
                    "DRIZZLE_PARTITIONS",
                    wanted=f"{log.partitions}, which stream {log.stream} has on this disk",
                    found=str(partitions),
                    remedy="Partitions of a source are fixed when its directory is first used; add a source.",
                )
            )

"""Static tables: the side of a join that does not stream.

A table is read twice: its schema when it is named, its rows when the job is built. They travel
inside the job, so that every worker joins with the same rows, in a replay too; that bounds their size.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import polars as pl

from drizzle_streams.api.names import listed
from drizzle_streams.api.trees import first_line
from drizzle_streams.errors import BuildError, explain

TABLE_BYTES_MAX: Final = 16 * 1024 * 1024
"""In memory, of a table that every worker holds whole, per job: all tables of a job travel in one job
file (`jobfile.JOB_BYTES_MAX`)."""
SHUFFLED_TABLE_BYTES_MAX: Final = 128 * 1024 * 1024
"""In memory, of a table that workers share: it travels in compressed parts, in the same job file."""

_SCANS: Final[dict[str, Callable[[str], pl.LazyFrame]]] = {
    ".parquet": pl.scan_parquet,
    ".csv": lambda path: pl.scan_csv(path, try_parse_dates=True),
    ".ndjson": pl.scan_ndjson,
    ".jsonl": pl.scan_ndjson,
    ".ipc": pl.scan_ipc,
    ".arrow": pl.scan_ipc,
    ".feather": pl.scan_ipc,
}


class Table:
    """A static table to join streams with. Made by `table`."""

    __slots__ = ("_frame", "name", "schema")

    def __init__(self, frame: pl.LazyFrame, name: str) -> None:
        self._frame = frame
        self.name = name
        try:
            self.schema: dict[str, pl.DataType] = dict(frame.collect_schema())
        except (pl.exceptions.PolarsError, OSError) as error:
            raise _unreadable(name, error) from error

    def rows(self, columns: Sequence[str]) -> pl.DataFrame:
        """The rows, with these columns only. Raises `BuildError` when they cannot be read or are too many."""
        try:
            frame = self._frame.select(columns).collect()
        except (pl.exceptions.PolarsError, OSError) as error:
            raise _unreadable(self.name, error) from error
        if frame.estimated_size() > SHUFFLED_TABLE_BYTES_MAX:
            raise BuildError(
                explain(
                    f"table {self.name!r}",
                    wanted=f"at most {SHUFFLED_TABLE_BYTES_MAX} bytes for the columns {listed(columns)}",
                    found=f"{frame.estimated_size()} bytes in {frame.height} rows",
                    remedy="Keep only the rows that can match, or use narrower types.",
                )
            )
        return frame

    def __repr__(self) -> str:
        return f"dz.table({self.name!r}, {len(self.schema)} columns)"


def table(source: str | Path | pl.DataFrame | pl.LazyFrame) -> Table:
    """A static table from a file, a DataFrame or a LazyFrame.

    Files are read by suffix: .parquet, .csv (with a header), .ndjson or .jsonl, .ipc, .arrow or .feather.
    Raises `BuildError` when there is no such file, or it cannot be read.
    """
    if isinstance(source, pl.LazyFrame):
        return Table(source, "LazyFrame")
    if isinstance(source, pl.DataFrame):
        return Table(source.lazy(), "DataFrame")
    if not isinstance(source, str | Path):
        raise BuildError(
            explain(
                "table",
                wanted="a path, a DataFrame or a LazyFrame",
                found=type(source).__name__,
                remedy="Make a polars.DataFrame of it.",
            )
        )
    return Table(_scan(str(source)), str(source))


def _scan(path: str) -> pl.LazyFrame:
    scan = _SCANS.get(Path(path).suffix.lower())
    if scan is None:
        raise BuildError(
            explain(
                f"table {path!r}",
                wanted=f"a file that ends in {', '.join(_SCANS)}",
                found=f"suffix {Path(path).suffix!r}",
                remedy="Rename it, or read it with Polars and give the frame: dz.table(pl.scan_csv(...)).",
            )
        )
    if not Path(path).is_file():
        raise BuildError(
            explain(
                f"table {path!r}",
                wanted="a file",
                found=f"none at {Path(path).absolute()}",
                remedy="Check the path; it is relative to the directory the command runs in.",
            )
        )
    return scan(path)


def _unreadable(name: str, error: Exception) -> BuildError:
    return BuildError(
        explain(
            f"table {name!r}",
            wanted="rows that Polars can read",
            found=first_line(error),
            remedy="Check the data.",
        )
    )

"""Files as the input of a job: found when the job is made, read by the workers themselves.

The job names each file with its size and the time of its last change, so that workers notice when
it is not the file any more that the job was made for.
"""

from __future__ import annotations

from glob import glob
from pathlib import Path
from typing import Final

import polars as pl

from drizzle_streams.api.plan import Files
from drizzle_streams.api.schemas import IntoSchema
from drizzle_streams.errors import BuildError, explain
from drizzle_streams.model.files import FilePart, FileSet, Format

STREAM: Final = "files"
"""The name of a stream of files, in metrics and in the story."""

FILES_MAX: Final = 10_000
"""Files of one job: all of their names travel in it."""

SUFFIXES: Final = (".ndjson", ".jsonl")


LINE: Final = "line"
"""The one column of lines of text."""


def checked_files(pattern: object, form: Format) -> Files:
    """Files as declared, if that may be. Raises `BuildError`."""
    if form == "lines":
        ends, example = "", 'dz.files("logs/*.log", format="lines")'
    elif form == "ndjson":
        ends, example = f" that ends in {' or '.join(SUFFIXES)}", 'dz.files("events/*.ndjson", schema=...)'
    else:
        remedy = 'Leave it out for lines of JSON; write format="lines" for text.'
        raise BuildError(
            explain("files: format", wanted='"ndjson" or "lines"', found=repr(form), remedy=remedy)
        )
    if isinstance(pattern, str | Path) and (not ends or Path(pattern).suffix.lower() in SUFFIXES):
        return Files(str(Path(pattern).absolute()), form)
    raise BuildError(
        explain(
            "files",
            wanted=f"a path or a pattern of paths{ends}",
            found=repr(pattern),
            remedy=f"For example: {example}.",
        )
    )


def files_schema(files: Files, given: IntoSchema | None) -> IntoSchema:
    """The columns: as given for JSON, one for lines of text. Raises `BuildError`."""
    if files.format == "lines" and given is None:
        return {LINE: pl.String}
    if files.format == "ndjson" and given is not None:
        return given
    raise BuildError(
        explain(
            "files: schema",
            wanted=f"none for lines of text: their one column is {LINE!r}" if given else "columns to read",
            found=repr(given)[:120],
            remedy='Leave it out, and take lines apart with_columns(...), for example by .str.split(" ").'
            if given
            else 'Write, for example, schema={"user": pl.String}; for lines of text format="lines".',
        )
    )


def found_files(files: Files) -> FileSet:
    """The files that fit a pattern, by name. Raises `BuildError` when there are none, or too many."""
    pattern = files.pattern
    paths = sorted(path for path in glob(pattern, recursive=True) if Path(path).is_file())  # noqa: PTH207 - `**` in the middle of absolute patterns
    if not paths or len(paths) > FILES_MAX:
        raise BuildError(
            explain(
                f"files {pattern!r}",
                wanted=f"1 to {FILES_MAX} files",
                found=f"{len(paths)}" if paths else "none",
                remedy="Check the path; workers read it, so it must be the same for them.",
            )
        )
    return FileSet(tuple(_part(path) for path in paths), files.format)


def _part(path: str) -> FilePart:
    try:
        status = Path(path).stat()
    except OSError as error:
        raise BuildError(
            explain(
                f"file {path}",
                wanted="a file that can be read",
                found=error.strerror or str(error),
                remedy="Check its rights.",
            )
        ) from error
    return FilePart(path, status.st_size, status.st_mtime_ns)

"""Files as the input of a job: found when the job is made, read by the workers themselves.

The job names each file with its size and the time of its last change, so that workers notice when
it is not the file any more that the job was made for.
"""

from __future__ import annotations

from glob import glob
from pathlib import Path
from typing import Final

from drizzle_streams.errors import BuildError, explain
from drizzle_streams.model.files import FilePart, FileSet

STREAM: Final = "files"
"""The name of a stream of files, in metrics and in the story."""

FILES_MAX: Final = 10_000
"""Files of one job: all of their names travel in it."""

SUFFIXES: Final = (".ndjson", ".jsonl")


def checked_pattern(pattern: object) -> str:
    """The pattern, if it may be one. Raises `BuildError`."""
    if isinstance(pattern, str | Path) and Path(pattern).suffix.lower() in SUFFIXES:
        return str(Path(pattern).absolute())
    raise BuildError(
        explain(
            "files",
            wanted=f"a path or a pattern of paths that ends in {' or '.join(SUFFIXES)}",
            found=repr(pattern),
            remedy='For example: dz.files("events/*.ndjson", schema=...).',
        )
    )


def found_files(pattern: str) -> FileSet:
    """The files that fit a pattern, by name. Raises `BuildError` when there are none, or too many."""
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
    return FileSet(tuple(_part(path) for path in paths))


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

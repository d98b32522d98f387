"""Job files: a Python file whose global names hold the jobs. Read by `drizzle submit FILE`."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Final

from drizzle_streams.api.job import Job
from drizzle_streams.api.trees import first_line
from drizzle_streams.errors import BuildError, DrizzleError, explain

MODULE_NAME: Final = "__drizzle_job__"
"""What a job file sees as its `__name__`: `if __name__ == "__main__"` stays for the script. No module of this
name can be imported, so functions of the file travel to the workers by value."""


def load_jobs(path: str | Path) -> list[Job]:
    """The jobs in the global names of a Python file, in order. Runs the file.

    Raises `BuildError`, in one line and with the line number of the file where one is known, when the file is
    missing, does not run to its end, or has no job.
    """
    file = Path(path)
    if not file.is_file():
        raise BuildError(
            explain(
                f"job file {str(path)!r}",
                wanted="a Python file",
                found="no such file",
                remedy="Check the path.",
            )
        )
    names = _run(file.absolute())
    jobs = list({id(value): value for value in names.values() if isinstance(value, Job)}.values())
    if not jobs:
        raise BuildError(
            explain(
                f"job file {str(path)!r}",
                wanted="a job in a global name",
                found="none",
                remedy='End it with, for example: job = counts.to(dz.redis("clicks")).job("clicks")',
            )
        )
    _check_names(jobs, str(path))
    return jobs


def _run(file: Path) -> dict[str, object]:
    module = ModuleType(MODULE_NAME)
    module.__file__ = str(file)
    try:
        # Without our own `from __future__` flags: the file says which it wants.
        code = compile(file.read_bytes(), str(file), "exec", dont_inherit=True)
        with _importable(file.parent), _findable(module):
            exec(code, module.__dict__)
    except DrizzleError as error:
        raise BuildError(f"{_place(file, error)}: {error}") from error
    except (Exception, SystemExit) as error:  # a user's file may raise anything
        raise BuildError(
            explain(
                _place(file, error),
                wanted="a job file that runs to its end",
                found=f"{type(error).__name__}: {first_line(error)}",
                remedy=_remedy(error),
            )
        ) from error
    return module.__dict__


@contextmanager
def _importable(folder: Path) -> Iterator[None]:
    """Modules beside the job file can be imported while it runs, as they can when it is a script."""
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        sys.path.remove(str(folder))


@contextmanager
def _findable(module: ModuleType) -> Iterator[None]:
    """Dataclasses look their module up while they are made; afterwards nobody may import it by name."""
    sys.modules[MODULE_NAME] = module
    try:
        yield
    finally:
        sys.modules.pop(MODULE_NAME, None)


def _place(file: Path, error: BaseException) -> str:
    """The file and, where the error came by it, its last line involved."""
    if isinstance(error, SyntaxError):
        return f"{error.filename}, line {error.lineno}"
    lines = [
        frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(file)
    ]
    return f"{file}, line {lines[-1]}" if lines else str(file)


def _remedy(error: BaseException) -> str:
    if isinstance(error, ModuleNotFoundError):
        return f"Install {error.name!r} where drizzle runs, or check its name."
    return "Correct it; DRIZZLE_NO_SUBMIT=1 python <file> shows the whole traceback."


def _check_names(jobs: list[Job], path: str) -> None:
    names = [job.name for job in jobs]
    for name in names:
        if names.count(name) > 1:
            raise BuildError(
                explain(
                    f"job file {path!r}",
                    wanted="jobs of different names",
                    found=f"{names.count(name)} jobs named {name!r}",
                    remedy="Rename one.",
                )
            )

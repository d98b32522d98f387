"""A program as bytes: from the user's process to every worker, functions and tables included.

Functions of the job file travel by value (cloudpickle), modules by name. Bytecode and serialised expressions
belong to the versions that made them, so these are written in front and compared before anything is loaded.
Loading runs code: only for bytes that came through the cluster's authentication.
"""

from __future__ import annotations

import json
import pickle
import sys
from typing import Any, Final

import cloudpickle  # pyright: ignore[reportMissingTypeStubs]
import polars as pl

from drizzle_streams.engine.failures import USERS_ERRORS
from drizzle_streams.engine.program import Program
from drizzle_streams.errors import BuildError, ProtocolError, explain

_MAGIC: Final = b"DRZPRG\x01"
_LENGTH_BYTES: Final = 2


def ship_program(program: Program) -> bytes:
    """The program as bytes; raises `BuildError` when something in it cannot be pickled."""
    try:
        body: bytes = cloudpickle.dumps(program)  # pyright: ignore[reportUnknownMemberType]
    except Exception as error:  # pickling runs the reducers of the user's own values
        raise BuildError(
            explain(
                f"job {program.job!r}",
                wanted="functions and values that can be sent to the workers",
                found=f"{type(error).__name__}: {_first_line(error)}",
                remedy="Keep open files, locks and connections out of the functions in expressions.",
            )
        ) from error
    versions = json.dumps(_versions()).encode()
    return _MAGIC + len(versions).to_bytes(_LENGTH_BYTES, "big") + versions + body


def load_program(data: bytes) -> Program:
    """The reverse of `ship_program`; raises `ProtocolError` on other versions or missing modules."""
    start = len(_MAGIC) + _LENGTH_BYTES
    end = start + int.from_bytes(data[len(_MAGIC) : start], "big")
    if not data.startswith(_MAGIC) or len(data) <= end:
        raise _damaged(f"{len(data)} bytes that start with {data[:8]!r}")
    _check_versions(data[start:end])
    try:
        program = pickle.loads(data[end:])
    except USERS_ERRORS as error:  # unpickling runs the user's imports, which raise anything
        raise ProtocolError(
            explain(
                "program",
                wanted="functions whose modules are installed here",
                found=f"{type(error).__name__}: {_first_line(error)}",
                remedy="Install what the job file imports on every worker, or move it into the job file.",
            )
        ) from error
    if not isinstance(program, Program):
        raise _damaged(type(program).__name__)
    return program


def _check_versions(packed: bytes) -> None:
    try:
        made: Any = json.loads(packed)
    except ValueError as error:
        raise _damaged(repr(packed[:40])) from error
    if made != _versions():
        raise ProtocolError(
            explain(
                "program",
                wanted=f"one made with {_versions()}",
                found=str(made)[:120],
                remedy="Submit it with the versions that the cluster runs.",
            )
        )


def _versions() -> dict[str, str]:
    """What bytecode and serialised expressions depend on, to the minor version."""
    return {
        "python": f"{sys.version_info.major}.{sys.version_info.minor}",
        "polars": ".".join(pl.__version__.split(".")[:2]),
    }


def _damaged(found: str) -> ProtocolError:
    return ProtocolError(
        explain("program", wanted="a program's bytes", found=found, remedy="Submit the job again.")
    )


def _first_line(error: BaseException) -> str:
    return str(error).strip().split("\n", 1)[0][:200]

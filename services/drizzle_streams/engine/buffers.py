"""Where encoded frames are written: large ones into memory of the system, past the interpreter.

Polars writes into a Python buffer piece by piece, and holds the interpreter while each is copied and the
buffer grows; encoding a full snapshot of 10 million groups kept a batch beside it waiting for tens of ms.
Into a file it writes by itself, so a large frame goes into a file that is memory (Linux), from where its
bytes are read without the interpreter too. Above `LARGE_BYTES` that is also the quicker way.
"""

from __future__ import annotations

import os
from io import BytesIO
from typing import Final

import polars as pl

LARGE_BYTES: Final = 1024 * 1024
"""Memory of a frame, roughly, from which on it is worth a file."""


def _memory_files() -> bool:
    """Whether the system has files that are memory, and lets this process make them."""
    try:
        os.close(os.memfd_create("probe"))
    except (AttributeError, OSError):
        return False
    return True


_HAS_MEMORY_FILES: Final = _memory_files()


def written(head: bytes, frame: pl.DataFrame) -> bytes:
    """The head, and behind it the frame as an Arrow IPC stream."""
    whole = frame.rechunk()
    if _HAS_MEMORY_FILES and whole.estimated_size() >= LARGE_BYTES:
        return _by_file(head, whole)
    buffer = BytesIO()  # head and rows into one: copying holds the interpreter
    buffer.write(head)
    whole.write_ipc_stream(buffer)
    return buffer.getvalue()


def _by_file(head: bytes, frame: pl.DataFrame) -> bytes:
    with os.fdopen(os.memfd_create("frame"), "w+b", buffering=0) as file:
        file.write(head)
        frame.write_ipc_stream(file)
        file.seek(0)
        return file.readall()

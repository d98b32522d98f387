"""Files that outlive a crash: appended to or replaced as a whole, and safely named.

All functions here block: they run on the threads of `durability.Disk`.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

from drizzle_streams.errors import StoreError, explain

FILE_NAME_MAX = 200
"""Longest name made by `file_name`; leaves room for a suffix within the usual 255 bytes."""
PIECES_PER_WRITE = 1024
"""The system's bound on the pieces of one gathering write (IOV_MAX on Linux and macOS)."""


class WriteRefusedError(StoreError):
    """The disk did not take a write; nothing of it stays, and later ones may succeed."""


class AppendFile:
    """One open file that only grows, from `size` bytes on."""

    def __init__(self, path: Path, size: int) -> None:
        self._descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        self._size = size
        self._dirty = True  # an earlier life may have left what it did not force

    def append(self, pieces: Sequence[bytes], *, sync: bool) -> None:
        """Write all pieces behind one another, or none of them.

        Raises `WriteRefusedError` when the disk would not take them. An `OSError` means
        that what the file holds is no longer known.
        """
        try:
            written = _write_all(self._descriptor, pieces, self._size)
        except OSError as error:
            os.ftruncate(self._descriptor, self._size)
            raise refused(error) from error
        self._size += written
        self._dirty = True
        if sync:
            self.sync()

    def sync(self) -> None:
        """Force what was appended to the disk. An `OSError` is final, see `durability`."""
        if self._dirty:
            os.fdatasync(self._descriptor)
            self._dirty = False

    def close(self) -> None:
        """Let the file go; it stays as durable as it is."""
        descriptor, self._descriptor = self._descriptor, -1  # another file may get its number
        if descriptor >= 0:
            os.close(descriptor)


def refused(error: OSError) -> WriteRefusedError:
    """Word the disk's refusal."""
    return WriteRefusedError(
        explain(
            "the source's log",
            wanted="a disk that takes a write",
            found=error.strerror or str(error),
            remedy="Nothing was taken: free space on the disk, then send again.",
        )
    )


def truncate(path: Path, size: int) -> None:
    """Cut a file to `size` bytes, durably."""
    descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        os.ftruncate(descriptor, size)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_whole(path: Path, data: bytes) -> None:
    """Make `path` hold exactly `data`, durably; a crash leaves what was there or all of it."""
    put_in_place(write_aside(path, data), path)


def write_aside(path: Path, data: bytes) -> Path:
    """Write what shall become `path` beside it, durably. Returns where."""
    aside = path.with_name(path.name + ".tmp")
    with aside.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    return aside


def put_in_place(aside: Path, path: Path) -> None:
    """Let what was written aside become `path`, durably."""
    aside.replace(path)
    sync_directory(path.parent)


def sync_directory(directory: Path) -> None:
    """Make the creation, renaming and deletion of files in `directory` durable."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def file_name(name: str) -> str:
    """A file name for any name: distinct, readable, harmless on every file system.

    Lower-case letters, digits, `-` and `_` stand for themselves and everything else is
    written as %XX, so `..`, `/` and names that differ only in case cannot do harm. A
    name that gets too long ends in its SHA-256 instead.
    """
    escaped = "".join(
        chr(byte) if chr(byte) in "abcdefghijklmnopqrstuvwxyz0123456789-_" else f"%{byte:02X}"
        for byte in name.encode()
    )
    if len(escaped) <= FILE_NAME_MAX:
        return escaped
    digest = hashlib.sha256(name.encode()).hexdigest()
    return f"{escaped[: FILE_NAME_MAX - len(digest) - 1]}~{digest}"


def _write_all(descriptor: int, pieces: Sequence[bytes], position: int) -> int:
    start = position
    for first in range(0, len(pieces), PIECES_PER_WRITE):
        some = pieces[first : first + PIECES_PER_WRITE]
        wanted = sum(map(len, some))
        written = os.pwritev(descriptor, some, position)
        if written < wanted:
            rest = memoryview(b"".join(some))
            while written < wanted:
                written += os.pwrite(descriptor, rest[written:], position + written)
        position += wanted
    return position - start

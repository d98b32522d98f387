"""What the embedded Redis is configured with, and which flush policies keep our promise.

What Redis acknowledged must survive SIGKILL of Redis. The append-only file (AOF) is the only
persistence, so its flush policy decides. Read in `src/aof.c` and `src/server.c` of 6.2.14 and
7.4.1: `beforeSleep` calls `flushAppendOnlyFile` and only afterwards writes the replies.

- `always`: write(2) and fdatasync(2), then the replies. Nothing acknowledged is lost, not even
  when the machine loses power. Clients whose commands arrive together share the sync.
- `no`: write(2), then the replies. The kernel has the bytes, so the death of Redis loses
  nothing; a power failure may lose what the kernel had not written back yet (about 30 s).
- `everysec` is refused. While a background fsync runs, the write(2) itself is put off for up
  to 2 s, and the replies go out all the same: a SIGKILL in that time loses acknowledged
  writes. It looks like the middle way and is the only one that breaks the promise.

The default is `always`. The checkpoint that the ledger acknowledges is what lets sources trim
their logs for good; a power failure which takes back that checkpoint, but not the trimming,
leaves a job that cannot be recovered. On the disk this was written on it costs 0.6 ms at the
median and about 3 ms at the 99th percentile per turn of the Redis event loop. Choose `no`
where the sources do not sync either.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from drizzle_streams.errors import ConfigError, explain
from drizzle_streams.local.ports import HOST

MEMORY_BYTES_MAX = 512 * 1024 * 1024
"""Default bound of the data set; snapshots, ledger and a sink's rows live in it."""

REWRITE_BYTES_MIN = 32 * 1024 * 1024
"""The AOF is rewritten when it has twice the size of its last rewrite, and this at least. It is
what a restart has to load first, at 25 to 50 MB/s: a second or two, unless the data is large."""


class AppendFsync(StrEnum):
    """When the AOF reaches the disk; the module says what each can lose."""

    ALWAYS = "always"
    NO = "no"


@dataclass(frozen=True, slots=True)
class RedisConfig:
    """One server's settings. Raises ConfigError for a value Redis would misread."""

    appendfsync: AppendFsync = AppendFsync.ALWAYS
    memory_bytes_max: int = MEMORY_BYTES_MAX
    password: str | None = None

    def __post_init__(self) -> None:
        if self.password is not None and not re.fullmatch(r"[\x21-\x7e]+", self.password):
            raise ConfigError(
                explain(
                    "Redis password",
                    wanted="printable ASCII without spaces",
                    found="other characters, or none",
                    remedy="Choose another password.",
                )
            )

    def render(self, directory: Path, port: int) -> str:
        """The text of redis.conf."""
        lines = [
            f"bind {HOST}",
            f"port {port}",
            "protected-mode yes",
            f"dir {_quoted(str(directory))}",
            "daemonize no",
            "databases 1",
            "maxclients 1000",
            "tcp-backlog 128",
            "loglevel warning",  # the log holds what is wrong, so it stays short
            'save ""',
            "appendonly yes",
            f"appendfsync {self.appendfsync.value}",
            "aof-load-truncated yes",  # a torn tail was never acknowledged
            "aof-use-rdb-preamble yes",
            "auto-aof-rewrite-percentage 100",
            f"auto-aof-rewrite-min-size {REWRITE_BYTES_MIN}",
            # At the bound writes fail and say so; Redis never drops state to make room.
            f"maxmemory {self.memory_bytes_max}",
            "maxmemory-policy noeviction",
        ]
        if self.password:
            lines.append(f"requirepass {_quoted(self.password)}")
        return "\n".join(lines) + "\n"


def append_fsync(value: str) -> AppendFsync:
    """The policy of that name. Raises ConfigError for `everysec`, saying why, and for others."""
    try:
        return AppendFsync(value)
    except ValueError:
        raise ConfigError(
            explain(
                "Redis appendfsync",
                wanted="always or no",
                found=value,
                remedy="everysec can lose acknowledged writes when Redis is killed: take always, "
                "or no if a power failure may lose the last seconds.",
            )
        ) from None


def _quoted(value: str) -> str:
    """A value as redis.conf reads it back inside double quotes."""
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'

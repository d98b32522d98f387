"""Results as Redis hashes that readers can poll: the spec. `redis_writer` does the writing.

What a reader finds, all under the prefix:

- `<prefix>:<key>...:<window_start>`, a hash per row: one field per column that is neither key
  nor window bound, and `updated_ms`, the time of Redis when the row became visible. Without
  a window the last part is missing. A null is a field that is not there.
- `<prefix>:windows`, a sorted set of window starts (ms), and `<prefix>:window:<window_start>`,
  the set of the names of that window's hashes. Without windows, `<prefix>:keys` is that set.
- `<prefix>:tokens`, a hash: the highest batch written per partition. It lies with the rows,
  so that removing the one removes the other: delete all of `<prefix>:*` or nothing.

Values are text as Python and JSON read it back: `42`, `0.1`, `true`, `2024-02-29`. In names, `%`
and `:` inside a key are written `%25` and `%3A`, a null key is `%null`, and a first key that is
one of the four words above gets a `%` in front; so different keys never share a name.
"""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit

import polars as pl

from drizzle_streams.connectors.base import Sink, SinkSettings
from drizzle_streams.errors import BuildError, ConfigError, explain

UPDATED = "updated_ms"

COLUMNS_MAX = 1_000
"""Of a row: Lua's stack bounds the arguments of one command."""

_SCHEMES = ("redis", "rediss", "unix")
_NOT_TEXT = (pl.List, pl.Array, pl.Struct, pl.Object, pl.Duration)


@dataclass(frozen=True, slots=True)
class RedisSink:
    """Rows as hashes named by their keys. `url` None means the cluster's own Redis.

    `keys` names the columns that tell rows apart, if the job does not group by any; a later
    row with the same keys replaces the earlier one.
    """

    prefix: str
    url: str | None = None
    keys: tuple[str, ...] = ()

    @property
    def kind(self) -> str:
        """`redis`."""
        return "redis"

    def __repr__(self) -> str:
        return f"dz.redis({self.prefix!r})"  # an address may hold a password

    def validate(self, schema: dict[str, pl.DataType], keys: tuple[str, ...]) -> None:
        """Raise BuildError for rows without keys, columns that have no text form, a bad prefix."""
        self._validate_settings()
        named = self.keys or keys
        missing = [name for name in named if name not in schema]
        if not named or missing:
            raise BuildError(
                explain(
                    repr(self),
                    wanted="key columns, which name the rows",
                    found=f"no column {missing[0]!r}" if missing else "a job without group_by",
                    remedy='Group by columns, or name them: dz.redis("prefix", keys=["column"]).',
                )
            )
        for name, dtype in schema.items():
            if isinstance(dtype, _NOT_TEXT):
                raise BuildError(
                    explain(
                        f"{self!r}, column {name!r}",
                        wanted="numbers, text, bytes, booleans, dates or times",
                        found=str(dtype),
                        remedy="Select its parts as columns of their own.",
                    )
                )
        if UPDATED in schema or len(schema) > COLUMNS_MAX:
            raise BuildError(
                explain(
                    repr(self),
                    wanted=f"at most {COLUMNS_MAX} columns, none named {UPDATED!r}",
                    found=f"{len(schema)} columns" + f" and {UPDATED!r}" * (UPDATED in schema),
                    remedy="Rename or leave out columns with select.",
                )
            )

    def create(self, settings: SinkSettings) -> Sink:
        """The live sink. Raises ConfigError if neither the job nor the cluster names a Redis."""
        from drizzle_streams.connectors.redis_writer import (  # noqa: PLC0415 - 0.2 s of client library
            RedisWriter,
        )

        url = self.url or settings.redis_url
        if url is None:
            raise ConfigError(
                explain(
                    repr(self),
                    wanted="the address of a Redis",
                    found="none, in the job or in the cluster",
                    remedy='Give one: dz.redis("prefix", url="redis://host:6379").',
                )
            )
        return RedisWriter(url, self.prefix, self.keys or settings.keys)

    def _validate_settings(self) -> None:
        found = ""
        if not self.prefix or self.prefix.endswith(":") or self.prefix.split(":")[0] == "drizzle":
            found = f"prefix {self.prefix!r}"
        elif self.url is not None and urlsplit(self.url).scheme not in _SCHEMES:
            found = f"an address that starts with {urlsplit(self.url).scheme!r}"
        if found:
            raise BuildError(
                explain(
                    "dz.redis",
                    wanted="a prefix like 'ysb', other than 'drizzle', and a redis:// address, if any",
                    found=found,
                    remedy="Correct the arguments.",
                )
            )


def redis(prefix: str, url: str | None = None, *, keys: str | list[str] | tuple[str, ...] = ()) -> RedisSink:
    """Write each row to a Redis hash `<prefix>:<key>...:<window_start>`; see this module.

    `url` None means the cluster's own Redis. `keys` is for jobs that do not group: the columns
    that tell rows apart. Raises BuildError at `.to(...)`, not here.
    """
    return RedisSink(prefix, url, (keys,) if isinstance(keys, str) else tuple(keys))

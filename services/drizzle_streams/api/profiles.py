"""Clusters by name, for people who have several: `drizzle/config.toml` in the configuration directory.

    default = "production"                           # where nothing else says which

    [profiles.production]
    cluster = "https://drizzle.example.org:7070"     # several coordinators between commas
    token_file = "production.token"                  # beside this file, or from / or ~
    tls_ca = "ca.pem"                                # tls_cert and tls_key, too

    [profiles.test]
    cluster = "http://10.0.0.7:7070"
    token = "drz1.user.…"                            # `drizzle token` makes one

The directory is XDG_CONFIG_HOME, else ~/.config. A file that holds a token must be its user's alone.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from drizzle_streams.errors import ConfigError, explain
from drizzle_streams.tls import TlsFiles

KNOWN: Final = frozenset({"cluster", "token", "token_file", "tls_ca", "tls_cert", "tls_key"})
FILE_BYTES_MAX: Final = 64 * 1024


@dataclass(frozen=True, slots=True)
class Profile:
    """A cluster as its user named it; `token` is empty where the file has none."""

    name: str
    cluster: str
    token: str = field(repr=False)
    tls: TlsFiles


def config_file(environ: dict[str, str] | None = None) -> Path:
    """Where the profiles are."""
    around = os.environ if environ is None else environ  # noqa: TID251 - of the user's own commands and scripts
    home = around.get("XDG_CONFIG_HOME", "").strip()
    return (Path(home) if home else Path("~/.config").expanduser()) / "drizzle" / "config.toml"


def profile(name: str) -> Profile:
    """The profile of that name. Raises `ConfigError` where there is none."""
    tables = _profiles(_contents())
    if name not in tables:
        known = ", ".join(sorted(tables)) or "none"
        raise _wrong(f"profile {name!r}", f"one of {config_file()}", known, "Add it, or name another.")
    return _read(name, tables[name])


def default_profile() -> Profile | None:
    """The profile for when nothing else says which cluster: the one named `default`, or the only one."""
    contents = _contents()
    name, tables = contents.get("default"), _profiles(contents)
    if name is None:
        return _read(*next(iter(tables.items()))) if len(tables) == 1 else None
    return profile(str(name))


def profile_of(cluster: str) -> Profile | None:
    """The profile of the cluster at that address."""
    found = [
        name for name, table in _profiles(_contents()).items() if str(table.get("cluster", "")) == cluster
    ]
    return profile(found[0]) if found else None


def _contents() -> dict[str, Any]:
    path = config_file()
    try:
        text = path.read_bytes()[:FILE_BYTES_MAX].decode("utf-8")
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError) as error:
        raise _wrong(str(path), "a readable text file", str(error), "Correct or remove it.") from error
    import tomllib  # noqa: PLC0415 - job files import this module, and few have profiles

    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise _wrong(str(path), "TOML", str(error), "Correct it.") from error


def _profiles(contents: dict[str, Any]) -> dict[str, dict[str, Any]]:
    tables = contents.get("profiles", {})
    if not isinstance(tables, dict) or not all(isinstance(table, dict) for table in tables.values()):
        raise _wrong(str(config_file()), "tables [profiles.NAME]", "something else", "Correct it.")
    return tables


def _read(name: str, table: dict[str, Any]) -> Profile:
    where = f"profile {name!r} in {config_file()}"
    unknown = sorted(table.keys() - KNOWN)
    if unknown or not all(isinstance(value, str) for value in table.values()):
        found = ", ".join(unknown) or "a value that is no text"
        raise _wrong(where, ", ".join(sorted(KNOWN)), found, "Correct it.")
    if not table.get("cluster"):
        raise _wrong(where, "an address as `cluster`", "none", "Add it.")
    files = (_beside(table.get(f"tls_{kind}")) for kind in ("cert", "key", "ca"))
    return Profile(name, table["cluster"], _token(where, table), TlsFiles(*files))


def _token(where: str, table: dict[str, Any]) -> str:
    if "token" in table and "token_file" in table:
        raise _wrong(where, "`token` or `token_file`", "both", "Remove one.")
    if "token" in table:
        _require_private(config_file())
        return table["token"].strip()
    path = _beside(table.get("token_file"))
    if path is None:
        return ""
    _require_private(path)
    try:
        return path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise _wrong(where, "a readable file as `token_file`", str(error), "Correct it.") from error


def _beside(text: str | None) -> Path | None:
    """A path as the file has it: from the file's own directory, unless it starts with / or ~."""
    return None if not text else config_file().parent / Path(text).expanduser()


def _require_private(path: Path) -> None:
    """Others must not read a token."""
    try:
        mode = path.stat().st_mode & 0o777
    except OSError as error:
        raise _wrong(
            str(path), "a file", error.strerror or str(error), "Write it, or name another."
        ) from error
    if mode & 0o077:
        raise _wrong(str(path), "a file that only its user may read", f"mode {mode:o}", f"`chmod 600 {path}`")


def _wrong(thing: str, wanted: str, found: str, remedy: str) -> ConfigError:
    return ConfigError(explain(thing, wanted=wanted, found=" ".join(found.split()), remedy=remedy))

"""The only reader of the environment: what every service is told at start, checked before anything starts.

A setting is a field of a frozen dataclass. Its environment variable is `DRIZZLE_` and the field's
name in capitals, its flag `--` and the name with dashes; a flag beats the variable, the variable
beats the default. A token has no flag (flags show in `ps`); whatever is secret may lie in a file
that `DRIZZLE_<NAME>_FILE` names, as container secrets do, and is shown in no error. Whatever
cannot be used is one `ConfigError` that names the variable or flag, what was wanted, what was
found, and the remedy.

`load` builds the settings of a service, `options` lists them for a command's flags and its help.
"""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Callable, Mapping
from dataclasses import MISSING, Field, dataclass, field, fields
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

from drizzle_streams.errors import ConfigError, explain
from drizzle_streams.protocol import tokens
from drizzle_streams.tls import TlsFiles

PREFIX = "DRIZZLE_"
COORDINATOR_PORT = 7070
SOURCE_PORT = 7071
SECRET_FILE_BYTES_MAX = 64 * 1024
ADDRESSES_MAX = 16
"""Coordinators that one member or client is told of."""
SECRET_CHARACTERS_MIN = 16
"""Shorter secrets could be guessed from a token they signed. `openssl rand -hex 32` gives 64."""

KIB, MIB, GIB = 1024, 1024**2, 1024**3
_SIZES = {"": 1, "B": 1, "KIB": KIB, "MIB": MIB, "GIB": GIB}
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_INGEST_ENTRY = re.compile(r"([*]|[A-Za-z0-9][A-Za-z0-9._-]{0,63})=([!-~]+)")

S = TypeVar("S")
IngestTokens = tuple[tuple[str, tuple[str, ...]], ...]
"""Ingest tokens by stream; `*` stands for streams that have none of their own."""


@dataclass(frozen=True, slots=True)
class Kind:
    """How a setting's text becomes its value; `parse` returns None for text that is none."""

    wanted: str
    parse: Callable[[str], Any]


# --- kinds of values ----------------------------------------------------------------------


def _whole(least: int, most: int) -> Kind:
    def parse(text: str) -> int | None:
        number = int(text) if re.fullmatch(r"\d{1,18}", text) else -1
        return number if least <= number <= most else None

    return Kind(f"a whole number from {least} to {most}", parse)


def _size(least: int, most: int) -> Kind:
    def parse(text: str) -> int | None:
        found = re.fullmatch(r"(\d{1,15})\s*([A-Za-z]*)", text)
        unit = _SIZES.get(found[2].upper()) if found else None
        size = int(found[1]) * unit if found and unit else -1
        return size if least <= size <= most else None

    return Kind(f"a size from {least} to {most} bytes, such as 64MiB or 1GiB", parse)


def _choice(*choices: str) -> Kind:
    return Kind(" or ".join(choices), lambda text: text if text in choices else None)


def _address(schemes: tuple[str, ...], shape: str) -> Kind:
    def parse(text: str) -> str | None:
        try:
            parts = urlsplit(text)
            fits = parts.scheme in schemes and bool(parts.hostname) and parts.port != 0
        except ValueError:
            return None
        return text.rstrip("/") if fits else None

    return Kind(f"an address like {shape}", parse)


def _several(kind: Kind) -> Kind:
    """One or more of a kind between commas, as one text."""

    def parse(text: str) -> str | None:
        found = [kind.parse(one.strip()) for one in text.split(",")]
        return ",".join(found) if len(found) <= ADDRESSES_MAX and all(found) else None

    return Kind(f"{kind.wanted}, or several between commas", parse)


def _ingest_tokens(text: str) -> IngestTokens | None:
    found: dict[str, tuple[str, ...]] = {}
    for entry in filter(None, re.split(r"[,\s]+", text)):
        pair = _INGEST_ENTRY.fullmatch(entry)
        if pair is None:
            return None
        found[pair[1]] = (*found.get(pair[1], ()), pair[2])
    return tuple(found.items())


def _secrets(text: str) -> str | None:
    fits = all(
        re.fullmatch(r"[!-~]+", secret)
        and len(secret) >= SECRET_CHARACTERS_MIN
        and not secret.startswith(tokens.PREFIX)
        for secret in text.split(",")
    )
    return text if fits and len(text.split(",")) <= tokens.SECRETS_MAX else None


_FILE = Kind("the path of a file", lambda text: Path(text).expanduser() if text else None)
_TEXT = Kind("some text without spaces", lambda text: text if re.fullmatch(r"\S+", text) else None)
_PLACE = Kind("the path of a directory", lambda text: Path(text).expanduser() if text else None)
_PORT = _whole(0, 65_535)
_NODE = Kind(
    "1 to 64 letters, digits, '.', '_' or '-', a letter or digit first; not 'coordinator'",
    lambda text: text if _NAME.fullmatch(text) and text != "coordinator" else None,
)
_YES = Kind("yes or no", {"yes": True, "no": False}.get)
_TOKEN = Kind(
    "printable ASCII without spaces", lambda text: text if re.fullmatch(r"[!-~]{1,2048}", text) else None
)
_SECRET = Kind(
    f"{SECRET_CHARACTERS_MIN} or more characters of printable ASCII without spaces,"
    " the same on every service; several between commas, the first signs",
    _secrets,
)
_HTTP = _address(("http", "https"), "http://host:7070")
_HTTP_SEVERAL = _several(_HTTP)
_REDIS = _address(("redis", "rediss"), "redis://host:6379/0")


def _setting(kind: Kind, says: str, *, secret: bool = False, flag: bool = True) -> dict[str, Any]:
    """A field's metadata: how to read it and what to tell a person about it."""
    return {"kind": kind, "says": says, "secret": secret, "flag": flag}


def _secret(kind: Kind, says: str) -> dict[str, Any]:
    return _setting(kind, says, secret=True, flag=False)


# --- what each service is told ------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class TlsSettings:
    """TLS, for listening and dialling; see `drizzle_streams.tls`."""

    tls_cert: Path | None = field(
        default=None, metadata=_setting(_FILE, "certificate (PEM): https, and shown to whom it dials")
    )
    tls_key: Path | None = field(default=None, metadata=_setting(_FILE, "the certificate's key (PEM)"))
    tls_ca: Path | None = field(
        default=None, metadata=_setting(_FILE, "CA (PEM) that must have signed the other side's certificate")
    )

    @property
    def tls(self) -> TlsFiles:
        """The three files."""
        return TlsFiles(self.tls_cert, self.tls_key, self.tls_ca)


@dataclass(frozen=True, kw_only=True)
class ServiceSettings(TlsSettings):
    """What every service is told. Without `advertise_host` it is `host`, or the machine's name."""

    token: str = field(repr=False, metadata=_secret(_SECRET, "the cluster's secret, which signs tokens"))
    host: str = field(default="127.0.0.1", metadata=_setting(_TEXT, "address to listen on; 0.0.0.0 for all"))
    port: int = field(default=0, metadata=_setting(_PORT, "port to listen on; 0 takes a free one"))
    advertise_host: str = field(default="", metadata=_setting(_TEXT, "host by which other services reach it"))
    metrics_public: bool = field(
        default=False, metadata=_setting(_YES, "whether /metrics wants no token: yes or no")
    )
    log_level: str = field(
        default="info", metadata=_setting(_choice("debug", "info", "warning", "error"), "least level logged")
    )
    log_format: str = field(
        default="json", metadata=_setting(_choice("json", "console"), "json for machines, console for people")
    )


@dataclass(frozen=True, kw_only=True)
class StoreSettings:
    """Where the cluster's memory is: one Redis, under one namespace, for all services."""

    redis_url: str = field(
        default="redis://127.0.0.1:6379/0",
        repr=False,  # it may hold a password
        metadata=_setting(_REDIS, "the cluster's Redis", secret=True),
    )
    namespace: str = field(default="drizzle", metadata=_setting(_TEXT, "prefix of all keys in Redis"))


@dataclass(frozen=True, kw_only=True)
class CoordinatorServiceSettings(ServiceSettings, StoreSettings):
    """What the coordinator is told. A member is lost when it was silent for `lease_ms`."""

    port: int = field(default=COORDINATOR_PORT, metadata=_setting(_PORT, "port to listen on"))
    name: str = field(
        default_factory=socket.gethostname,
        metadata=_setting(_TEXT, "name in the leader's lease; keep it through restarts"),
    )
    lease_ms: int = field(
        default=2_000, metadata=_setting(_whole(200, 600_000), "silence after which a node is lost, ms")
    )
    leader_lease_ms: int = field(
        default=1_500,
        metadata=_setting(_whole(300, 600_000), "silence after which a standby takes over, ms"),
    )
    standby: bool = field(
        default=False, metadata=_setting(_YES, "whether it leaves the lead to others while it can: yes or no")
    )
    outage_s_max: int = field(
        default=600, metadata=_setting(_whole(1, 86_400), "seconds that it waits for a ledger that is away")
    )


@dataclass(frozen=True, kw_only=True)
class MemberSettings(ServiceSettings):
    """What a worker or a source is told. The `name` of a source names its log: it never changes."""

    name: str = field(default_factory=socket.gethostname, metadata=_setting(_NODE, "name in the cluster"))
    coordinator: str = field(
        default=f"http://127.0.0.1:{COORDINATOR_PORT}",
        metadata=_setting(_HTTP_SEVERAL, "where the coordinator answers; its standbys after commas"),
    )

    @property
    def coordinators(self) -> tuple[str, ...]:
        """The addresses in `coordinator`."""
        return tuple(self.coordinator.split(","))


@dataclass(frozen=True, kw_only=True)
class WorkerServiceSettings(MemberSettings, StoreSettings):
    """What a worker is told. `slots` tasks run at once, each on a thread of its own."""

    slots: int = field(default=1, metadata=_setting(_whole(1, 256), "tasks that run at once"))
    blocks_bytes_max: int = field(
        default=512 * MIB,
        metadata=_setting(_size(MIB, 1024 * GIB), "blocks and fragments held in memory"),
    )
    outage_s_max: int = field(
        default=600,
        metadata=_setting(_whole(1, 86_400), "seconds that sinks and restores wait for a store that is away"),
    )


@dataclass(frozen=True, kw_only=True)
class SourceServiceSettings(MemberSettings):
    """What a source is told. `partitions` of every stream lie here; fixed once the directory is in use.

    Without `ingest_tokens`, users may post records as well as holders of ingest tokens.
    """

    port: int = field(default=SOURCE_PORT, metadata=_setting(_PORT, "port to listen on; keep it"))
    data_dir: Path = field(
        default=Path("drizzle-data"), metadata=_setting(_PLACE, "directory of logs and bounds, its own")
    )
    partitions: int = field(
        default=2, metadata=_setting(_whole(1, 1_024), "partitions of every stream on this source")
    )
    durability: str = field(
        default="batch", metadata=_setting(_choice("none", "batch", "always"), "when records are fsynced")
    )
    log_budget_bytes: int = field(
        default=GIB, metadata=_setting(_size(MIB, 1024 * GIB), "log per stream before posts are refused")
    )
    backlog_s_max: int = field(
        default=10,
        metadata=_setting(_whole(1, 86_400), "seconds of work, at the measured rate, that may wait in a log"),
    )
    log_segment_bytes: int = field(
        default=16 * MIB, metadata=_setting(_size(64 * KIB, GIB), "size at which a log file is closed")
    )
    log_cache_bytes: int = field(
        default=16 * MIB, metadata=_setting(_size(0, 64 * GIB), "newest records kept in memory, per stream")
    )
    ingest_tokens: IngestTokens = field(
        default=(),
        repr=False,
        metadata=_secret(
            Kind("stream=token pairs between commas, * for any stream", _ingest_tokens),
            "who may post records",
        ),
    )


@dataclass(frozen=True, kw_only=True)
class ClientSettings(TlsSettings):
    """What a command that talks to a cluster is told."""

    cluster: str = field(
        default=f"http://127.0.0.1:{COORDINATOR_PORT}",
        metadata=_setting(_HTTP_SEVERAL, "where the coordinator answers; its standbys after commas"),
    )
    token: str = field(
        repr=False, metadata=_secret(_TOKEN, "the cluster's secret, or a token minted from it")
    )


# --- reading them -------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Option:
    """A setting as a command shows it. `flag` is empty for a token, `default` where there is none."""

    name: str
    flag: str
    variable: str
    says: str
    wanted: str
    default: str


def options(kind: type[Any]) -> tuple[Option, ...]:
    """The settings of a service, for a command's flags and its help."""
    return tuple(
        Option(
            name=one.name,
            flag=_flag(one) if one.metadata["flag"] else "",
            variable=_variable(one),
            says=one.metadata["says"],
            wanted=one.metadata["kind"].wanted,
            default=_shown(one),
        )
        for one in fields(kind)
    )


def _shown(one: Field[Any]) -> str:
    if not one.repr or one.default in (MISSING, None):
        return ""
    if isinstance(one.default, bool):
        return "yes" if one.default else "no"
    return str(one.default)


def load(
    kind: type[S], flags: Mapping[str, str | None] | None = None, environ: Mapping[str, str] | None = None
) -> S:
    """The settings of a service. `flags` are texts by field name, None where not given.

    Raises `ConfigError` for the first setting that cannot be used.
    """
    given = dict(flags or {})
    around = os.environ if environ is None else environ
    found: dict[str, Any] = {}
    for one in fields(kind):  # type: ignore[arg-type]
        text = given.pop(one.name, None)
        where = _flag(one)
        if text is None:
            where, text = _from_environment(one, around)
        if text is not None:
            found[one.name] = _parsed(one, where, text)
        elif one.default is MISSING and one.default_factory is MISSING:
            raise _missing(one)
    if given:
        raise TypeError(f"{kind.__name__} has no settings {sorted(given)}")
    return kind(**found)


def _variable(one: Field[Any]) -> str:
    return PREFIX + one.name.upper()


def _flag(one: Field[Any]) -> str:
    return "--" + one.name.replace("_", "-")


def _from_environment(one: Field[Any], environ: Mapping[str, str]) -> tuple[str, str | None]:
    """Where the text was found, and the text; an empty variable is one that is not set."""
    variable = _variable(one)
    text = environ.get(variable, "").strip()
    file = environ.get(f"{variable}_FILE", "").strip() if one.metadata["secret"] else ""
    if text or not file:
        return variable, text or None
    try:
        with Path(file).open(encoding="utf-8") as lines:
            return f"{variable}_FILE", lines.read(SECRET_FILE_BYTES_MAX).strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            explain(
                f"{variable}_FILE",
                wanted="a readable text file",
                found=f"{file} ({error})",
                remedy="Name the file that holds the secret, or set the variable itself.",
            )
        ) from error


def _parsed(one: Field[Any], where: str, text: str) -> Any:
    kind: Kind = one.metadata["kind"]
    value = kind.parse(text)
    if value is None:
        shown = "something else" if one.metadata["secret"] else repr(text[:100])
        raise ConfigError(
            explain(where, wanted=kind.wanted, found=shown, remedy=f"It is {one.metadata['says']}.")
        )
    return value


def _missing(one: Field[Any]) -> ConfigError:
    variable = _variable(one)
    remedy = (
        f"Set it, or {variable}_FILE to a file that holds it; `openssl rand -hex 32` makes a token."
        if one.metadata["secret"]
        else f"Set it; it is {one.metadata['says']}."
    )
    return ConfigError(explain(variable, wanted=one.metadata["kind"].wanted, found="nothing", remedy=remedy))

"""Posting a job to a cluster: a small synchronous client, for scripts and commands.

    POST {cluster}/jobs    Content-Type: application/vnd.drizzle.job    Authorization: Bearer <user token>
    201 {"job": id} · 400 reason · 401, 403 token · 409 name taken · 413 too large · 503 not ready

Rules: standard library only, and imported when it is needed; bounded waits, so that a script never hangs;
a standby is asked for the leader, and a job is never posted twice; whatever goes wrong is one `DrizzleError`
in one line.
"""

from __future__ import annotations

import json
import os
import re
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from drizzle_streams.api import profiles
from drizzle_streams.api.leader import AskAnotherError, ask_leader
from drizzle_streams.errors import BuildError, ConfigError, DrizzleError, UnreachableError, explain
from drizzle_streams.protocol.jobfile import JOB_MEDIA_TYPE
from drizzle_streams.protocol.tokens import TokenKind, credential
from drizzle_streams.tls import NO_TLS, TlsFiles

if TYPE_CHECKING:
    from http.client import HTTPConnection

NOTE: Final = Path(".drizzle/cluster.json")
"""What `drizzle up` leaves in the folder it runs in: "cluster", "token" and "supervisor"."""
TIMEOUT_S: Final = 30.0
"""For connecting and for each wait for bytes: a job may carry tables of many megabytes."""
ANSWER_BYTES_MAX: Final = 64 * 1024


@dataclass(frozen=True, slots=True)
class Destination:
    """A coordinator's address, and what opens its door: the cluster's secret, or a token minted from it.

    Several addresses, of standbys too, stand between commas.
    """

    cluster: str
    token: str = field(repr=False)
    tls: TlsFiles = NO_TLS


def submit(
    job: bytes, *, cluster: str | None = None, token: str | None = None, tls: TlsFiles | None = None
) -> str:
    """Post a job and return its id; `destination` says where to.

    Raises `ConfigError` for an address that is none or a token that is refused, `UnreachableError` when
    nobody answers, `BuildError` when the coordinator refuses the job, `DrizzleError` for any other answer.
    """
    to = destination(cluster, token, tls)
    status, body = ask_leader(to.cluster, lambda address: _post(replace(to, cluster=address), job))
    if status == 201:
        return _job_id(body, to.cluster)
    raise _refusal(status, body, to.cluster)


def destination(
    cluster: str | None, token: str | None, tls: TlsFiles | None = None, profile: str | None = None
) -> Destination:
    """Which cluster is meant.

    What is given, else the environment's, else what `drizzle up` started in this folder, else the default
    of the profiles (`api.profiles`). A profile gives its token with its address; for an address that was
    given without a token, that is the profile of the same address.
    Raises `ConfigError` when there is none, or none with a token.
    """
    address = cluster or _environment("DRIZZLE_CLUSTER")
    named = profile or ("" if address else _environment("DRIZZLE_PROFILE"))
    if named:
        known = profiles.profile(named)
        secret = token or known.token or _token()
        return _usable(Destination(cluster or known.cluster, secret, tls or known.tls))
    secret = token or _token()
    note = _note()
    if not secret and note is not None and address in ("", note.cluster):
        return note if tls is None else replace(note, tls=tls)
    known = None
    if not (address and secret):
        known = profiles.profile_of(address) if address else profiles.default_profile()
    if known is not None:
        return _usable(Destination(known.cluster, secret or known.token, tls or known.tls))
    return _usable(Destination(address, secret, tls or _tls_files()))


def _usable(found: Destination) -> Destination:
    """It again; raises `ConfigError` if something of it is missing or cannot be."""
    address, secret = found.cluster, found.token
    if not address or not secret:
        missing = (
            f"no token for {address}" if address else "no DRIZZLE_CLUSTER and none that runs in this folder"
        )
        remedy = (
            "Set DRIZZLE_TOKEN or DRIZZLE_TOKEN_FILE, or name a profile that has one with --profile."
            if address
            else "Run `drizzle up` in this folder, or set DRIZZLE_CLUSTER and DRIZZLE_TOKEN."
        )
        wanted = "an address and a token, or a cluster that `drizzle up` started in this folder"
        raise ConfigError(explain("cluster", wanted=wanted, found=missing, remedy=remedy))
    if not re.fullmatch(r"[!-~]+", secret):
        remedy = "Check how DRIZZLE_TOKEN or its file was written."
        wanted = "printable ASCII without spaces"
        raise ConfigError(
            explain("the cluster's token", wanted=wanted, found="something else", remedy=remedy)
        )
    return found


def supervisor(to: Destination) -> str | None:
    """Where the `drizzle up` of this folder answers, if that is the one that keeps this cluster."""
    note = _note_fields()
    return (note.get("supervisor") or None) if note.get("cluster") == to.cluster else None


def known_token() -> str:
    """The environment's token, else that of the cluster which `drizzle up` started here; empty if none."""
    note = _note()
    return _token() or (note.token if note else "")


def submits_scripts() -> bool:
    """Whether `python job.py` submits what it defines; DRIZZLE_NO_SUBMIT forbids it."""
    return not _environment("DRIZZLE_NO_SUBMIT")


def _post(to: Destination, job: bytes) -> tuple[int, bytes]:
    from http.client import HTTPException  # noqa: PLC0415 - costs more than the rest of a job file's imports

    connection, path = _connection(to.cluster, to.tls)
    token = credential(to.token, TokenKind.USER, time.time())
    headers = {"Content-Type": JOB_MEDIA_TYPE, "Authorization": f"Bearer {token}"}
    error_kind: type[UnreachableError] = AskAnotherError
    try:
        connection.connect()
        error_kind = UnreachableError  # it may be taken from here on: a job is never posted twice
        connection.request("POST", f"{path}/jobs", body=job, headers=headers)
        answer = connection.getresponse()
        return answer.status, answer.read(ANSWER_BYTES_MAX)
    except (OSError, HTTPException) as error:
        raise error_kind(
            explain(
                f"cluster {to.cluster}",
                wanted=f"a coordinator that answers within {TIMEOUT_S:g} s",
                found=str(error) or type(error).__name__,
                remedy="Start one with `drizzle up`, or set DRIZZLE_CLUSTER to its address.",
            )
        ) from error
    finally:
        connection.close()


def _connection(address: str, tls: TlsFiles) -> tuple[HTTPConnection, str]:
    from http.client import HTTPConnection, HTTPSConnection  # noqa: PLC0415 - see _post

    parts = urlsplit(address)
    try:
        port = parts.port
    except ValueError:
        port = -1
    if parts.scheme not in ("http", "https") or not parts.hostname or port == -1:
        raise ConfigError(
            explain(
                "cluster address",
                wanted="http://host:port or https://host:port",
                found=repr(address),
                remedy="Set DRIZZLE_CLUSTER to the coordinator's address.",
            )
        )
    path = parts.path.rstrip("/")
    if parts.scheme == "https":
        return HTTPSConnection(parts.hostname, port, timeout=TIMEOUT_S, context=tls.client()), path
    return HTTPConnection(parts.hostname, port, timeout=TIMEOUT_S), path


def _job_id(body: bytes, address: str) -> str:
    try:
        found = json.loads(body)["job"]
    except (ValueError, KeyError, TypeError) as error:
        raise DrizzleError(
            explain(
                f"cluster {address}",
                wanted='an answer {"job": id}',
                found=repr(body[:80]),
                remedy="Check that DRIZZLE_CLUSTER is a Drizzle coordinator of this release.",
            )
        ) from error
    return str(found)


_REFUSALS: Final[dict[int, tuple[type[DrizzleError], str, str]]] = {
    400: (BuildError, "a job it takes", "Correct the job."),
    401: (ConfigError, "a token it knows", "Set DRIZZLE_TOKEN to the cluster's secret, or a token of it."),
    403: (ConfigError, "a user token", "Set DRIZZLE_TOKEN to one, or to the cluster's secret."),
    409: (BuildError, "no job of that name", "Stop it first (`drizzle stop JOB`), or take another name."),
    413: (BuildError, "a job it takes", "Join with smaller tables."),
    415: (BuildError, "a job it takes", "Submit with the release of Drizzle that the cluster runs."),
    429: (UnreachableError, "a coordinator that is ready", "Try again in a moment."),
    503: (UnreachableError, "a coordinator that is ready", "Try again in a moment; see `drizzle status`."),
}
_STRANGER: Final = (
    DrizzleError,
    "201",
    "Check that DRIZZLE_CLUSTER is a Drizzle coordinator of this release.",
)


def _refusal(status: int, body: bytes, address: str) -> DrizzleError:
    """The error for an answer: in the coordinator's own words where it has some."""
    kind, wanted, remedy = _REFUSALS.get(status, _STRANGER)
    words = _words(body)
    if isinstance(words, dict):
        return kind(explain(**words))
    return kind(explain(f"cluster {address}", wanted=wanted, found=f"{status}: {words}", remedy=remedy))


def _words(body: bytes) -> str | dict[str, str]:
    """What an answer says: {"error": {"thing", "wanted", "found", "remedy"}}, or text in one line."""
    try:
        fields = json.loads(body)["error"]
        return {name: str(fields[name]) for name in ("thing", "wanted", "found", "remedy")}
    except (ValueError, KeyError, TypeError, IndexError):
        text = body.decode("utf-8", errors="replace")
        return " ".join(text.split())[:500] or "no reason given"


def _note() -> Destination | None:
    """The cluster that `drizzle up` started in this folder, if it runs."""
    note = _note_fields()
    return Destination(note["cluster"], note["token"]) if note else None


def _note_fields() -> dict[str, str]:
    """What the note says; empty where there is none."""
    try:
        note = json.loads(NOTE.read_text(encoding="utf-8"))
        return {name: str(note[name]) for name in ("cluster", "token")} | {
            "supervisor": str(note.get("supervisor", ""))
        }
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        remedy = "Remove it, and start the cluster again."
        raise ConfigError(
            explain(str(NOTE), wanted="the note of `drizzle up`", found=repr(error), remedy=remedy)
        ) from error


def _token() -> str:
    """The token of the environment, or of the file it names, as container secrets are."""
    file = _environment("DRIZZLE_TOKEN_FILE")
    if _environment("DRIZZLE_TOKEN") or not file:
        return _environment("DRIZZLE_TOKEN")
    try:
        return Path(file).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        remedy = "Name the file that holds the token, or set DRIZZLE_TOKEN itself."
        raise ConfigError(
            explain(
                "DRIZZLE_TOKEN_FILE", wanted="a readable text file", found=f"{file} ({error})", remedy=remedy
            )
        ) from error


def _tls_files() -> TlsFiles:
    """The files that DRIZZLE_TLS_CERT, DRIZZLE_TLS_KEY and DRIZZLE_TLS_CA name."""
    cert, key, ca = (_environment(f"DRIZZLE_TLS_{name}") for name in ("CERT", "KEY", "CA"))
    return TlsFiles(*(Path(text).expanduser() if text else None for text in (cert, key, ca)))


def _environment(name: str) -> str:
    return os.environ.get(name, "").strip()  # noqa: TID251 - of the user's own script; services read theirs in config

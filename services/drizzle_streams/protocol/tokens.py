"""Tokens: short signed sentences that say who may do what until when. Pure: time is a parameter.

    drz1.<kind>.<subject>.<expires, unix seconds>.<HMAC-SHA256 of all before, base64url, unpadded>

The cluster's secret signs them and never crosses the wire: whoever holds it mints a token for
each dial or request, and hands minted tokens to those who shall have less. What a kind opens is
the doors' decision (`transport.auth`).

Rules:
- Several secrets may be valid at once, between commas: the first signs, all verify. To replace
  one without stopping anything: `old,new` everywhere, then `new,old`, then `new`.
- A signature is compared in constant time, with every secret, before anything else is believed.
- The same secret seals job files (`seal`, `unseal`): what was stored where others write is run
  only if it is what was submitted. The texts that are signed begin differently, so that neither
  signature can stand in for the other.
"""

from __future__ import annotations

import base64
import hmac
import re
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from drizzle_streams.errors import ConfigError, ProtocolError, explain

PREFIX: Final = "drz1."
CLOCK_SKEW_S: Final = 30.0
"""How far the clocks of who mints and who checks may be apart: a token is taken so long after its end."""
DIAL_TTL_S: Final = 60.0
"""Life of a `cluster` token, which is minted anew for each dial and fetch."""
CLIENT_TTL_S: Final = 300.0
"""Life of a token that a client mints for a request of its own."""
TOKEN_CHARACTERS_MAX: Final = 512
SECRETS_MAX: Final = 8
"""Secrets that are valid at once."""

_TOKEN = re.compile(r"drz1\.([a-z]{1,16})\.([A-Za-z0-9*_.@-]{1,128})\.([0-9]{1,12})\.([A-Za-z0-9_-]{43})")
_SUBJECT = re.compile(r"[A-Za-z0-9*_.@-]{1,128}")
_SECRET = re.compile(r"[!-+\--~]+")  # printable ASCII without the comma
_SEAL_MAGIC: Final = b"DRZSEAL1"
SEAL_BYTES: Final = len(_SEAL_MAGIC) + 32
"""By how much a seal lengthens what it seals."""


class TokenKind(StrEnum):
    """What a token is for."""

    CLUSTER = "cluster"
    """Service to service."""
    USER = "user"
    """People and their commands: submit, stop, look."""
    INGEST = "ingest"
    """Producers of records; the subject is a stream, or `*` for any."""
    METRICS = "metrics"
    """Whoever scrapes `/metrics`, and nothing else."""


_KINDS: Final = frozenset(kind.value for kind in TokenKind)


class Fault(StrEnum):
    """Why a door stays shut."""

    NOTHING = "none"
    GARBLED = "one that this cluster did not sign"
    EXPIRED = "one that has expired"
    KIND = "one of another kind"


@dataclass(frozen=True, slots=True)
class Token:
    """What a genuine token says. `expires` is in unix seconds."""

    kind: TokenKind
    subject: str
    expires: int


@dataclass(frozen=True, slots=True)
class Keyring:
    """The cluster's secrets: the first signs, all verify."""

    secrets: tuple[str, ...] = field(repr=False)

    @classmethod
    def parse(cls, text: str) -> Keyring:
        """The secrets in a setting. Raises `ConfigError`, which does not show them."""
        secrets = tuple(text.split(","))
        if len(secrets) > SECRETS_MAX or not all(_SECRET.fullmatch(secret) for secret in secrets):
            raise _no_secret("printable ASCII without spaces", "something else")
        if any(secret.startswith(PREFIX) for secret in secrets):
            raise _no_secret("the secret itself, which signs tokens", "a minted token")
        return cls(secrets)

    def mint(self, kind: TokenKind, subject: str, now: float, ttl_s: float) -> str:
        """A token that ends `ttl_s` after `now` (unix seconds). Raises `ProtocolError` for an odd subject."""
        if not _SUBJECT.fullmatch(subject):
            raise ProtocolError(
                explain(
                    "the subject of a token",
                    wanted="1 to 128 letters, digits, '.', '_', '-', '@' or '*'",
                    found=repr(subject[:140]),
                    remedy="Name a stream, a node or a person.",
                )
            )
        said = f"{PREFIX}{kind}.{subject}.{int(now + ttl_s)}"
        return f"{said}.{_signature(self.secrets[0], said)}"

    def check(self, text: str, now: float) -> Token | Fault:
        """What a presented token says at `now` (unix seconds), or why it is none."""
        found = _TOKEN.fullmatch(text) if len(text) <= TOKEN_CHARACTERS_MAX else None
        if found is None:
            return Fault.GARBLED
        said, signature = text[: found.start(4) - 1], found[4]
        # Every secret is tried, so the time does not tell which one was near.
        genuine = [hmac.compare_digest(signature, _signature(secret, said)) for secret in self.secrets]
        if not any(genuine) or found[1] not in _KINDS:
            return Fault.GARBLED
        expires = int(found[3])
        if now > expires + CLOCK_SKEW_S:
            return Fault.EXPIRED
        return Token(TokenKind(found[1]), found[2], expires)

    def is_secret(self, text: str) -> bool:
        """Whether `text` is one of the secrets: for a person who logs in, never for a request."""
        presented = text.encode("utf-8", "surrogatepass")
        matches = [hmac.compare_digest(presented, secret.encode()) for secret in self.secrets]
        return any(matches)

    # --- seals ----------------------------------------------------------------------------

    def seal(self, name: str, data: bytes) -> bytes:
        """`data` with a signature in front that binds it to `name`. Costs time with the length."""
        return _SEAL_MAGIC + _seal(self.secrets[0], name, data) + data

    def unseal(self, name: str, sealed: bytes) -> bytes:
        """The reverse of `seal`. Raises `ProtocolError` unless one of the secrets sealed it as `name`."""
        data, seal = sealed[SEAL_BYTES:], sealed[len(_SEAL_MAGIC) : SEAL_BYTES]
        genuine = [hmac.compare_digest(seal, _seal(secret, name, data)) for secret in self.secrets]
        if not sealed.startswith(_SEAL_MAGIC) or not any(genuine):
            raise ProtocolError(
                explain(
                    f"the seal of {name}",
                    wanted="that of this cluster's secret",
                    found="another one, or none",
                    remedy="Stop the job and submit it again; whoever changed it can write to Redis.",
                )
            )
        return data


def credential(
    text: str, kind: TokenKind, now: float, *, subject: str = "client", ttl_s: float = CLIENT_TTL_S
) -> str:
    """What a client presents: a minted token as it is, or one of `kind` minted from the secret.

    Raises `ConfigError` for a text that can be neither.
    """
    if text.startswith(PREFIX):
        return text
    return Keyring.parse(text).mint(kind, subject, now, ttl_s)


def _signature(secret: str, said: str) -> str:
    digest = hmac.digest(secret.encode(), said.encode(), "sha256")
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


def _seal(secret: str, name: str, data: bytes) -> bytes:
    signing = hmac.new(secret.encode(), _SEAL_MAGIC, "sha256")
    signing.update(f"{len(name)}:{name}:".encode())
    signing.update(data)
    return signing.digest()


def _no_secret(wanted: str, found: str) -> ConfigError:
    return ConfigError(
        explain(
            "the cluster's secret",
            wanted=wanted,
            found=found,
            remedy="Make one with `openssl rand -hex 32`; several may stand between commas.",
        )
    )

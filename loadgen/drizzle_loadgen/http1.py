"""The least of HTTP/1.1 that a load generator needs: pipelined requests and their answers in order.

Why not the aiohttp client: it waits for each answer before it sends the next request, so blocks would
either wait for one another or travel on several connections and overtake one another. Pipelining keeps both
order and pace, and costs a small part of the CPU time that would otherwise be taken from the system under
test on the same machine.

Rules: an answer must carry Content-Length (or a status without a body); head and body have bounds; after
`Connection: close` nothing more is expected. Whatever breaks these is `AnswerError`, a broken connection is
`OSError` or `EOFError`, and the caller posts again on a new connection.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self
from urllib.parse import quote, urlsplit

from drizzle_loadgen.errors import AnswerError, UsageError
from drizzle_loadgen.settings import tls_context

HEAD_BYTES_MAX = 16 * 1024
BODY_BYTES_MAX = 64 * 1024
_BODILESS = (204, 304)


@dataclass(frozen=True, slots=True)
class Target:
    """Where a source listens: `http[s]://host[:port][/path]`."""

    host: str
    port: int
    path: str = ""
    secure: bool = False

    @classmethod
    def parse(cls, url: str) -> Target:
        """Raise UsageError if `url` is not an address that can be posted to."""
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError as error:
            raise UsageError(f"source address {url!r}: {error}") from error
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
            raise UsageError(f"source address {url!r}: wanted http://host:port, found something else")
        secure = parts.scheme == "https"
        return cls(parts.hostname, port or (443 if secure else 80), parts.path.rstrip("/"), secure)

    def __str__(self) -> str:
        return f"{'https' if self.secure else 'http'}://{self._authority}{self.path}"

    @property
    def _authority(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    def post_head(self, path: str, headers: Mapping[str, str]) -> bytes:
        """The part of a POST's head that is the same for every request; `path` is below the target's own."""
        lines = [f"POST {self.path}{quote(path)} HTTP/1.1", f"Host: {self._authority}"]
        lines += (f"{name}: {value}" for name, value in headers.items())
        head = "\r\n".join(lines) + "\r\n"
        if head.count("\r\n") != len(headers) + 2 or not head.isascii():
            raise UsageError(
                "headers: wanted ASCII without line breaks, found something else (a token from a file?)"
            )
        return head.encode("ascii")


@dataclass(frozen=True, slots=True)
class Answer:
    """Status, headers (names in lower case) and body of one response."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def closing(self) -> bool:
        """The peer answers nothing more on this connection."""
        return self.headers.get("connection", "").lower() == "close"

    @property
    def reason(self) -> str:
        """Status and the beginning of the body, for a person."""
        text = self.body[:300].decode("utf-8", "replace").strip()
        return f"{self.status} {text}".strip()


class Connection:
    """One connection; `post` never waits, `answer` gives the answers in the order of the posts."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def open(cls, target: Target, timeout_s: float) -> Self:
        """Connect; OSError (TimeoutError is one) if it cannot be done within `timeout_s`."""
        context = tls_context() if target.secure else None
        async with asyncio.timeout(timeout_s):
            reader, writer = await asyncio.open_connection(
                target.host, target.port, ssl=context, limit=HEAD_BYTES_MAX
            )
        return cls(reader, writer)

    def post(self, head: bytes, headers: Mapping[str, str], body: bytes) -> None:
        """Queue one request: `head` from `Target.post_head`, then its own; the caller bounds how much."""
        own = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        self._writer.writelines((head, f"{own}Content-Length: {len(body)}\r\n\r\n".encode("ascii"), body))

    async def answer(self, timeout_s: float) -> Answer:
        """The next answer; TimeoutError, OSError, EOFError or AnswerError instead of it."""
        async with asyncio.timeout(timeout_s):
            while True:
                answer = await self._read()
                if answer.status >= 200:  # 1xx only announces the answer
                    return answer

    async def close(self) -> None:
        """Drop the connection and whatever is queued on it."""
        self._writer.transport.abort()
        with contextlib.suppress(OSError):  # it is broken already, which is what was wanted
            await self._writer.wait_closed()

    async def _read(self) -> Answer:
        try:
            head = await self._reader.readuntil(b"\r\n\r\n")
        except asyncio.LimitOverrunError as error:
            raise AnswerError(f"answer: its head is longer than {HEAD_BYTES_MAX} bytes") from error
        status, headers = _parse_head(head)
        body = await self._reader.readexactly(_body_bytes(status, headers))
        return Answer(status, headers, body)


def _parse_head(head: bytes) -> tuple[int, dict[str, str]]:
    first, *lines = head.decode("latin-1").rstrip("\r\n").split("\r\n")
    version, _, rest = first.partition(" ")
    code = rest[:3]
    if not version.startswith("HTTP/1.") or not code.isdigit() or len(code) != 3:
        raise AnswerError(f"answer: wanted an HTTP/1 status line, found {first[:80]!r}")
    fields = (line.partition(":") for line in lines)
    return int(code), {name.strip().lower(): value.strip() for name, _, value in fields}


def _body_bytes(status: int, headers: Mapping[str, str]) -> int:
    if status < 200 or status in _BODILESS:
        return 0
    length = headers.get("content-length", "")
    if not length.isdigit():
        raise AnswerError(f"answer {status}: wanted Content-Length, found {length or 'none'!r}")
    if int(length) > BODY_BYTES_MAX:
        raise AnswerError(f"answer {status}: its body has {length} bytes, at most {BODY_BYTES_MAX} are read")
    return int(length)

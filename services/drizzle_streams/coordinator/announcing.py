"""Who leads, said to whoever asks: members, clients, browsers.

    GET /leader?term=&wait_ms=    200 {"leader": address or null, "term": its number, "leads": bool}

Leader and standbys have this door. `leads` says that the one who answers is the leader. A question
with a `term` waits, for at most `wait_ms`, until a later one is known, so that members hear of a
new leader from a standby at the moment it becomes one.

Every other door of a standby answers 503 with the leader's address, so that who asked can go there:

    {"error": {"thing", "wanted", "found", "remedy"}, "leader": address or null}
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable

from aiohttp import hdrs, web

from drizzle_streams.errors import ProtocolError, explain
from drizzle_streams.protocol.leading import LEADER_PATH, WAIT_MS_MAX, LeaderAnswer
from drizzle_streams.stores.base import Lease

RETRY_AFTER_S = 1
NUMBER_DIGITS_MAX = 15


class Announcer:
    """Answers the questions of one coordinator at `address`; `leads`: whether it is the leader now."""

    def __init__(self) -> None:
        self.leads: Callable[[], bool] = lambda: False
        self.address = ""
        self._lease: Lease | None = None
        self._term = -1
        self._ended = False
        self._changed = asyncio.Event()

    def tell(self, lease: Lease | None) -> None:
        """What was last read of the lease."""
        self._lease = lease
        if lease is not None and lease.term > self._term:
            self._term = lease.term
            self._wake()

    def end(self) -> None:
        """This coordinator's doors close: nobody waits any more."""
        self._ended = True
        self._wake()

    def begin(self) -> None:
        """The doors are open (again)."""
        self._ended = False

    @property
    def answer(self) -> LeaderAnswer:
        """What is known now."""
        leads = self.leads()
        known = self._lease.address if self._lease is not None else ""
        lapsed = known == self.address and not leads  # it was us, and nobody is certain yet who is next
        return LeaderAnswer(None if lapsed else known or None, self._term, leads)

    def route(self) -> web.RouteDef:
        """`GET /leader`."""
        return web.get(LEADER_PATH, self._tell_leader, allow_head=False)

    def elsewhere(self) -> web.RouteDef:
        """Every door of a standby but those that were added before."""
        return web.route("*", "/{path:.*}", self._send_elsewhere)

    async def _tell_leader(self, request: web.Request) -> web.Response:
        term = _number(request, "term", -1)
        wait_s = min(_number(request, "wait_ms", 0), WAIT_MS_MAX) / 1000.0
        try:
            async with asyncio.timeout(wait_s):
                while self._term <= term and not self._ended:
                    await self._changed.wait()
        except TimeoutError:
            pass  # nothing new: the answer says what is known
        return web.Response(body=self.answer.to_bytes(), content_type="application/json")

    async def _send_elsewhere(self, request: web.Request) -> web.Response:
        leader = self.answer.leader
        error = {
            "thing": request.path,
            "wanted": "the coordinator that leads",
            "found": "one that stands by",
            "remedy": f"Ask {leader}." if leader else "Ask again in a moment: a new leader is being found.",
        }
        body = json.dumps({"error": error, "leader": leader}).encode()
        headers = {hdrs.RETRY_AFTER: str(RETRY_AFTER_S)}
        return web.Response(status=503, body=body, content_type="application/json", headers=headers)

    def _wake(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()


def _number(request: web.Request, name: str, default: int) -> int:
    text = request.query.get(name, str(default))
    if not (text.removeprefix("-").isdecimal() and len(text) <= NUMBER_DIGITS_MAX):
        wanted, remedy = "a whole number", "Leave it out, or correct it."
        raise ProtocolError(
            explain(f"{LEADER_PATH}: {name}", wanted=wanted, found=repr(text[:40]), remedy=remedy)
        )
    return int(text)

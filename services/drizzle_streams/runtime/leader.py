"""How a member finds the coordinator that leads, and follows when another one does.

A member is told one or more addresses of coordinators. It asks each of them who leads, with a
question that is answered when there is news (`coordinator/announcing.py`): a standby tells of
itself in the moment it takes over, so nothing has to time out first, not even when the old
leader is stopped and its connections still look alive.

Rules:
- The leader with the highest term is the leader; what an older one says is not followed.
- A leader has up to two addresses: the one it was asked at and the one it names itself. Where one
  cannot be reached, the other is tried: a service name may lead elsewhere, a host's own name may
  mean nothing here.
- Only this decides where the coordinator is: that one has dialled us proves nothing.
- Questions wait long, since each is work for a coordinator of many members. But when the link to the
  coordinator breaks they are asked again at once: who would answer may be gone without a word.
- With a new leader the machine is told that the coordinator began a new life, so it says hello.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

from drizzle_streams.core.events import PeerRestarted, PeerUnreachable
from drizzle_streams.errors import BackPressureError, ProtocolError, UnreachableError
from drizzle_streams.model.ids import COORDINATOR, NodeId
from drizzle_streams.protocol.leading import ANSWER_BYTES_MAX, LEADER_PATH, LeaderAnswer, leader_answer
from drizzle_streams.runtime.driver import Driver
from drizzle_streams.transport.base import Address

log = logging.getLogger("drizzle.runtime")

WAIT_MS = 10_000
"""How long a question waits for news."""
ANSWER_SLACK_S = 2.0
"""How much longer an answer may take before the question is asked again."""
REST_S_FIRST = 0.05
REST_S_MAX = 0.5
"""The rest before the next question: short after an answer, growing where there was none."""

_NO_ANSWER = (UnreachableError, BackPressureError, ProtocolError)


class LeaderWatch:
    """Keeps `driver.addresses[COORDINATOR]` true; `run` needs an owner.

    Make it after the driver and before the transport starts.
    """

    def __init__(self, addresses: Sequence[Address], driver: Driver) -> None:
        self.term = -1
        """The newest leader's; -1 before one was found."""
        self.followed = 0
        """How often another leader was followed."""
        self._asked = tuple(addresses)
        self._candidates = list(addresses)
        self._driver = driver
        self._doubt = asyncio.Event()
        """Set when the link breaks, for the questions that wait then."""
        driver.addresses[COORDINATOR] = addresses[0]
        driver.transport.on_introduced = self._introduced
        driver.transport.on_unreachable = self._unreachable

    @property
    def address(self) -> Address:
        """Where the coordinator is believed to be."""
        return self._driver.addresses[COORDINATOR]

    async def run(self) -> None:
        """Ask every address until cancelled."""
        async with asyncio.TaskGroup() as questions:
            for address in self._asked:
                questions.create_task(self._ask(address))

    async def _ask(self, address: Address) -> None:
        rest_s = REST_S_FIRST
        while True:
            try:
                answer = await self._answer(address)
            except _NO_ANSWER as error:
                if rest_s == REST_S_FIRST:
                    log.info("no answer on who leads", extra={"asked": address, "error": str(error)})
                await asyncio.sleep(rest_s)
                rest_s = min(rest_s * 2, REST_S_MAX)
            else:
                self._learn(answer, address)
                rest_s = REST_S_FIRST
                await asyncio.sleep(rest_s)

    async def _answer(self, address: Address) -> LeaderAnswer:
        params = {"term": str(self.term), "wait_ms": str(WAIT_MS)}
        timeout_s = WAIT_MS / 1000.0 + ANSWER_SLACK_S
        fetch = self._driver.transport.fetch
        question = asyncio.ensure_future(fetch(address, LEADER_PATH, params, timeout_s, ANSWER_BYTES_MAX))
        doubt = asyncio.ensure_future(self._doubt.wait())
        try:
            await asyncio.wait({question, doubt}, return_when=asyncio.FIRST_COMPLETED)
            if not question.done():
                raise UnreachableError("the link to the coordinator broke while the question waited")
            return leader_answer(question.result())
        finally:
            question.cancel()
            doubt.cancel()
            await asyncio.gather(question, doubt, return_exceptions=True)

    def _learn(self, answer: LeaderAnswer, asked: Address) -> None:
        found = [asked] if answer.leads else []
        if answer.leader is not None and answer.leader not in found:
            found.append(answer.leader)
        if not found or answer.term < self.term:
            return
        if answer.term == self.term:
            self._candidates += [address for address in found if address not in self._candidates]
            return
        is_news = self.term >= 0 or found[0] != self.address
        self.term, self._candidates = answer.term, found
        self._driver.addresses[COORDINATOR] = found[0]
        if is_news:
            self.followed += 1
            log.info("follows a leader", extra={"leader": found[0], "term": answer.term})
            self._driver.post(PeerRestarted(COORDINATOR))

    def _introduced(self, node: NodeId, address: Address) -> None:
        if node != COORDINATOR:
            self._driver.addresses[node] = address

    def _unreachable(self, node: NodeId) -> None:
        if node == COORDINATOR and self.address in self._candidates:
            following = self._candidates.index(self.address) + 1
            self._driver.addresses[node] = self._candidates[following % len(self._candidates)]
        if node == COORDINATOR:
            self._doubt.set()
            self._doubt = asyncio.Event()
        self._driver.post(PeerUnreachable(node))

"""Posts blocks to the sources: every block until it is acknowledged, each source's blocks in their order.

- Block k goes to source k mod S and stays there, under one producer name per source and the next sequence
  number. A source takes each number once, so posting again after a lost answer is harmless.
- A bounded number of blocks is on its way to a source at a time, pipelined on one connection. Until the
  first answer on a new connection, and after a refusal, it is one block.
- 429, 408 and 5xx are refusals: nothing new is posted until Retry-After or a backoff is over and the refused
  block is taken. A block that was behind it on the wire may have been taken: that is counted (`overtaken`),
  because it breaks the order by at most the blocks in flight; with one block in flight it cannot happen.
- A connection that breaks or does not answer in time is opened again (the source may have been killed and
  restarted).
- Every other answer means that posting again cannot help: the run stops with the source's reason.
- If a source takes nothing for `give_up_after_s`, the run stops with the last reason.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Awaitable, Callable, Sequence

from drizzle_loadgen.clock import Clock
from drizzle_loadgen.delivery import FIRST_SEQUENCE, Bounds, Delivery, Parcel
from drizzle_loadgen.errors import AnswerError, DeliveryError
from drizzle_loadgen.http1 import Answer, Connection, Target
from drizzle_loadgen.schedule import Block

PRODUCER_HEADER = "Drizzle-Producer"
SEQUENCE_HEADER = "Drizzle-Sequence"

BACKOFF_FIRST_S = 0.02
BACKOFF_MAX_S = 0.5
RETRY_AFTER_MAX_S = 30.0  # a longer wish is cut to this


class SourceLink:
    """Delivers blocks to one source in the order in which they are offered, while `run` is running.

    `locate` says where the source is, at each connection anew; `headers` go with every post.
    """

    def __init__(
        self,
        locate: Callable[[], Awaitable[Target]],
        path: str,
        headers: dict[str, str],
        producer: str,
        bounds: Bounds,
        clock: Clock,
    ) -> None:
        self.delivery = Delivery()
        self._locate = locate
        self._path = path
        self._headers = {"Content-Type": "application/x-ndjson", PRODUCER_HEADER: producer, **headers}
        self._bounds = bounds
        self._clock = clock
        self._target: Target | None = None
        self._connection: Connection | None = None
        self._head = b""
        # Every outstanding parcel is in one of three places; read in this order they are in order.
        self._refused: list[Parcel] = []  # answered 429, 408 or 5xx on the present connection
        self._flying: deque[Parcel] = deque()  # posted on the present connection, not answered
        self._waiting: deque[Parcel] = deque()  # to be posted
        self._window = 1  # how many may be flying
        self._bytes = 0  # of all outstanding parcels
        self._offered = 0
        self._no_more = False
        self._ended = False
        self._changed = asyncio.Event()
        self._stalled_since_s = math.inf

    # -------------------------------------------------------------------------------------- the giver's side

    def offer(self, block: Block) -> bool:
        """Take the block and post it as soon as the window allows; False if too much is outstanding."""
        if self._ended or not self._has_room(block):
            return False
        self._waiting.append(Parcel(block, FIRST_SEQUENCE + self._offered))
        self._offered += 1
        self._bytes += len(block.payload)
        self._post_what_may()
        self._changed.set()
        return True

    async def room(self, block: Block) -> None:
        """Return when `offer(block)` will be True, or when `run` has ended."""
        while not self._ended and not self._has_room(block):
            await self._change()

    def no_more(self) -> None:
        """Nothing is offered any more: `run` returns once all is acknowledged."""
        self._no_more = True
        self._changed.set()

    @property
    def unanswered_events(self) -> int:
        """Events posted at least once and not acknowledged: the source may or may not have taken them."""
        return sum(parcel.block.events for parcel in self._outstanding() if parcel.posts)

    @property
    def oldest_due_ms(self) -> float | None:
        """When the oldest block that is not acknowledged was due, in Unix ms; None if there is none."""
        return next((parcel.block.due_ms for parcel in self._outstanding()), None)

    def _outstanding(self) -> list[Parcel]:
        return [*self._refused, *self._flying, *self._waiting]

    def _has_room(self, block: Block) -> bool:
        return not self._bytes or self._bytes + len(block.payload) <= self._bounds.outstanding_bytes_max

    # ------------------------------------------------------------------------------------------ its own task

    async def run(self) -> None:
        """Deliver until `no_more` and all is acknowledged; DeliveryError if the source takes no more."""
        backoff_s = BACKOFF_FIRST_S
        try:
            while not self._done:
                taken = self.delivery.acknowledged_events
                try:
                    await self._converse()
                except (OSError, EOFError, AnswerError) as error:
                    if self.delivery.acknowledged_events > taken:
                        backoff_s = BACKOFF_FIRST_S
                    await self._pause(backoff_s, f"{type(error).__name__} {error}".rstrip())
                    backoff_s = min(2 * backoff_s, BACKOFF_MAX_S)
        finally:
            self._ended = True
            self._changed.set()

    @property
    def _done(self) -> bool:
        return self._no_more and not self._bytes

    async def _converse(self) -> None:
        """One connection, from opening it to its end; all that is then not acknowledged waits again."""
        self._target = await self._locate()
        self._head = self._target.post_head(self._path, self._headers)
        connection = await Connection.open(self._target, self._bounds.connect_timeout_s)
        self.delivery.connections += 1
        self._connection, self._window = connection, 1
        backoff_s = BACKOFF_FIRST_S
        try:
            while await self._something_flies():
                answer = await connection.answer(self._bounds.answer_timeout_s)
                if 200 <= answer.status < 300:
                    self._taken()
                    self._window = self._bounds.in_flight_max
                    backoff_s = BACKOFF_FIRST_S
                else:
                    answer = await self._refusal(connection, answer, backoff_s)
                    backoff_s = min(2 * backoff_s, BACKOFF_MAX_S)
                if answer.closing:
                    return
        finally:
            self._connection = None
            self._take_back()
            await connection.close()

    def _post_what_may(self) -> None:
        while self._connection and self._waiting and len(self._flying) < self._window:
            parcel = self._waiting.popleft()
            own = {SEQUENCE_HEADER: str(parcel.sequence)}
            self._connection.post(self._head, own, parcel.block.payload)
            self._flying.append(parcel)
            self.delivery.posted(parcel, self._clock.now_ms())

    async def _something_flies(self) -> bool:
        """Post what may be posted and wait until a block is on its way; False once nothing ever will be."""
        self._post_what_may()
        while not self._flying:
            if self._done:
                return False
            await self._change()
        return True

    def _taken(self) -> None:
        parcel = self._flying.popleft()
        self._bytes -= len(parcel.block.payload)
        self._stalled_since_s = math.inf
        self.delivery.acknowledged(parcel, self._clock.now_ms())
        self._changed.set()

    async def _refusal(self, connection: Connection, answer: Answer, backoff_s: float) -> Answer:
        """Take in the answers to what was behind the refused block and wait as told; the last answer."""
        self._window = 0
        self._refuse(answer)
        latest = answer
        while self._flying and not latest.closing:
            latest = await connection.answer(self._bounds.answer_timeout_s)
            if 200 <= latest.status < 300:
                self.delivery.overtaken += 1
                self._taken()
            else:
                self._refuse(latest)
        self._take_back()
        wish_s = _retry_after_s(answer)
        await self._pause(backoff_s if wish_s is None else wish_s, answer.reason)
        self._window = 1
        return latest

    def _refuse(self, answer: Answer) -> None:
        parcel = self._flying.popleft()
        self._refused.append(parcel)
        if answer.status == 429:
            self.delivery.throttled += 1
        elif answer.status == 408 or answer.status >= 500:
            self.delivery.refused += 1
        else:
            raise DeliveryError(
                f"source {self._target}: it refused block {parcel.block.number}: {answer.reason}"
            )

    def _take_back(self) -> None:
        """All that is out waits again, before what waits already."""
        self._waiting.extendleft(reversed([*self._refused, *self._flying]))
        self._refused.clear()
        self._flying.clear()

    async def _pause(self, seconds: float, reason: str) -> None:
        """Wait before the next try, unless the source has had its time."""
        now_s = self._clock.now_ms() / 1000
        if self._bytes:
            self._stalled_since_s = min(self._stalled_since_s, now_s)
        give_up_s = self._bounds.give_up_after_s
        if now_s + seconds - self._stalled_since_s > give_up_s:
            raise DeliveryError(
                f"source {self._target}: took nothing for {give_up_s:g} s. Its last reason: {reason}"
            )
        await asyncio.sleep(seconds)

    async def _change(self) -> None:
        self._changed.clear()
        await self._changed.wait()


class Client:
    """All sources of a stream; the outlet of the schedule."""

    def __init__(self, links: Sequence[SourceLink]) -> None:
        self.links = tuple(links)

    def offer(self, block: Block) -> bool:
        """Hand the block to the source that it belongs to; False if that source owes too many answers."""
        return self._link(block).offer(block)

    async def room(self, block: Block) -> None:
        """Return once `offer(block)` will be True, or when its source is given up."""
        await self._link(block).room(block)

    def no_more(self) -> None:
        """Let the links end when all is acknowledged."""
        for link in self.links:
            link.no_more()

    def _link(self, block: Block) -> SourceLink:
        return self.links[block.number % len(self.links)]


def _retry_after_s(answer: Answer) -> float | None:
    """Seconds that the answer asks for; None if it asks for none, or in the form of a date."""
    try:
        asked_s = float(answer.headers.get("retry-after", ""))
    except ValueError:
        return None
    return min(max(asked_s, 0.0), RETRY_AFTER_MAX_S) if math.isfinite(asked_s) else None

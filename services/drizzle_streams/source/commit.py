"""Group commit: whoever waits while a write is on its way goes out together with the next.

Rules:
- One write at a time, so that its offsets are known before it and published after it.
- A refused write (`WriteRefusedError`) fails the posts of its group and no others.
- Anything else that goes wrong is final: the posts that wait fail, later ones are
  refused at once, and `on_failure` is told (the service must stop; a restart recovers).
- A caller that is cancelled does not take its post back: it may be on the disk already.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, MutableSequence
from typing import NamedTuple

from drizzle_streams.errors import StoreError, explain
from drizzle_streams.source.files import WriteRefusedError
from drizzle_streams.source.posts import Post, Receipt

GROUP_BYTES_MAX = 4 * 1024 * 1024
"""Posts written together; bounds how long one write keeps the next group waiting."""

FailureHandler = Callable[[BaseException], None]
"""Called once, when a log can write no more."""


GroupWriter = Callable[[list[Post]], Awaitable[list[Receipt]]]
"""Writes posts together, all or none; one receipt per post."""


class _Waiting(NamedTuple):
    post: Post
    bytes: int
    receipt: asyncio.Future[Receipt]


class GroupCommit:
    """Queues posts and writes them in groups, on one event loop."""

    def __init__(self, write: GroupWriter, on_failure: FailureHandler) -> None:
        self._write = write
        self._on_failure = on_failure
        self._queue: deque[_Waiting] = deque()
        self._group: list[_Waiting] = []
        self._task: asyncio.Task[None] | None = None
        self._broken: StoreError | None = None
        self._closing = False
        self.queued_bytes = 0
        """Bytes of the posts that have no receipt yet; the log's budget bounds it."""
        self.groups = 0
        """Groups written so far."""

    @property
    def broken(self) -> StoreError | None:
        """Why nothing can be written any more, or None."""
        return self._broken

    def submit(self, post: Post, size: int) -> asyncio.Future[Receipt]:
        """Queue a post that takes `size` bytes. Raises `StoreError` when the log is broken or closing."""
        if self._broken is not None:
            raise self._broken
        if self._closing:
            raise StoreError(
                explain(
                    "the source's log",
                    wanted="an open one",
                    found="one that is being closed",
                    remedy="Nothing was taken: send again when the source is back.",
                )
            )
        waiting = _Waiting(post, size, asyncio.get_running_loop().create_future())
        self._queue.append(waiting)
        self.queued_bytes += size
        if self._task is None:
            self._task = asyncio.create_task(self._write_queued(), name="log group commit")
            self._task.add_done_callback(self._ended)
        return waiting.receipt

    def stop(self, error: BaseException) -> StoreError:
        """The log can write no more: fail what waits, refuse what comes, tell the service."""
        if self._broken is None:
            self._broken = StoreError(
                explain(
                    "the source's log",
                    wanted="a disk that keeps what was written",
                    found=repr(error),
                    remedy="Restart the source: it recovers everything that was answered.",
                )
            )
            self._fail(self._queue, self._broken)
            self._on_failure(error)
        return self._broken

    async def close(self) -> None:
        """Refuse what comes; return when every post that was submitted has its receipt or its error."""
        self._closing = True
        while self._task is not None:
            await asyncio.wait([self._task])

    async def _write_queued(self) -> None:
        while self._queue:
            self._take_group()
            try:
                receipts = await self._write([waiting.post for waiting in self._group])
            except WriteRefusedError as error:
                self._fail(self._group, error)
                continue
            self.groups += 1
            for waiting, receipt in zip(self._group, receipts, strict=True):
                self.queued_bytes -= waiting.bytes
                waiting.receipt.set_result(receipt)
            self._group.clear()

    def _take_group(self) -> None:
        """The first post that waits, and as many more as stay within `GROUP_BYTES_MAX`."""
        self._group.append(self._queue.popleft())
        size = self._group[0].bytes
        while self._queue and size + self._queue[0].bytes <= GROUP_BYTES_MAX:
            size += self._queue[0].bytes
            self._group.append(self._queue.popleft())

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._task = None
        error = asyncio.CancelledError() if task.cancelled() else task.exception()
        if error is not None:
            broken = self.stop(error)
            self._fail(self._group, broken)

    def _fail(self, posts: MutableSequence[_Waiting], error: StoreError) -> None:
        for waiting in posts:
            self.queued_bytes -= waiting.bytes
            waiting.receipt.set_exception(error)
            waiting.receipt.exception()  # marks it as seen: its caller may be gone
        posts.clear()

"""A TCP proxy that breaks a connection at a chosen byte, to lose requests or answers on purpose."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager


class FlakyProxy:
    """Forwards to a port on loopback. `cut_requests(n)` and `cut_replies(n)` arm one cut.

    The cut lets n more bytes pass in that direction, over all connections, then breaks the
    connection that carried them, both ways. `seen` counts request bytes since the last arming.
    """

    def __init__(self, port: int) -> None:
        self._target = port
        self._remaining: dict[str, int | None] = {"requests": None, "replies": None}
        self._tasks: set[asyncio.Task[None]] = set()
        self.cuts = 0
        self.seen = 0
        self.port = 0

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def cut_requests(self, after_bytes: int) -> None:
        self.seen = 0
        self._remaining["requests"] = after_bytes

    def cut_replies(self, after_bytes: int) -> None:
        self._remaining["replies"] = after_bytes

    def disarm(self) -> None:
        self.seen = 0
        self._remaining = {"requests": None, "replies": None}

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            onward_reader, onward_writer = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:
            writer.transport.abort()
            return
        ends = (writer, onward_writer)
        for direction, source, sink in (
            ("requests", reader, onward_writer),
            ("replies", onward_reader, writer),
        ):
            task = asyncio.create_task(self._pump(direction, source, sink, ends))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _pump(
        self,
        direction: str,
        source: asyncio.StreamReader,
        sink: asyncio.StreamWriter,
        ends: tuple[asyncio.StreamWriter, asyncio.StreamWriter],
    ) -> None:
        try:
            while data := await source.read(65536):
                if direction == "requests":
                    self.seen += len(data)
                remaining = self._remaining[direction]
                if remaining is not None and remaining <= len(data):
                    self._remaining[direction] = None
                    self.cuts += 1
                    sink.write(data[:remaining])
                    await sink.drain()
                    return
                if remaining is not None:
                    self._remaining[direction] = remaining - len(data)
                sink.write(data)
                await sink.drain()
        except OSError:
            pass  # one side is gone: so shall be the other
        finally:
            for end in ends:
                end.close()


@asynccontextmanager
async def flaky_proxy(port: int) -> AsyncIterator[FlakyProxy]:
    """A proxy in front of `port`, closed with all its connections at the end."""
    proxy = FlakyProxy(port)
    async with AsyncExitStack() as stack:
        server = await asyncio.start_server(proxy._serve, "127.0.0.1", 0)
        stack.push_async_callback(server.wait_closed)
        stack.callback(server.close)
        proxy.port = server.sockets[0].getsockname()[1]
        yield proxy
        for task in tuple(proxy._tasks):
            task.cancel()
        await asyncio.gather(*proxy._tasks, return_exceptions=True)

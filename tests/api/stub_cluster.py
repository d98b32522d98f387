"""A coordinator as far as a client sees it: takes posts on loopback, answers what it was told to."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from drizzle_streams.protocol.jobfile import unpack_job


@dataclass
class StubCluster:
    """`posts` are (path, headers, body); without an `answer` a job is taken under its own name."""

    answer: tuple[int, bytes] | None = None
    posts: list[tuple[str, dict[str, str], bytes]] = field(default_factory=list)
    address: str = ""

    @property
    def jobs(self) -> list[str]:
        """The names of the jobs that were posted."""
        return [str(unpack_job(body).spec.job) for _, _, body in self.posts]

    def take(self, path: str, headers: dict[str, str], body: bytes) -> tuple[int, bytes]:
        self.posts.append((path, headers, body))
        if self.answer is not None:
            return self.answer
        return 201, json.dumps({"job": unpack_job(body).spec.job}).encode()


@contextmanager
def stub_cluster(answer: tuple[int, bytes] | None = None) -> Iterator[StubCluster]:
    """A stub on a free port, gone when the block ends."""
    cluster = StubCluster(answer)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            status, text = cluster.take(self.path, dict(self.headers), body)
            self.send_response(status)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, *args: Any) -> None:
            """Keep quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    cluster.address = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield cluster
    finally:
        server.shutdown()
        thread.join()
        server.server_close()

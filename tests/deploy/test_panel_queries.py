"""The check of the boards tells data from none, from what is no number, and from what is not understood."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.deploy.panel_queries import queries, unanswered

Answer = Callable[[str], dict[str, Any]]
GOOD = {"status": "success", "data": {"result": [{"metric": {}, "values": [[5, "NaN"], [10, "+Inf"]]}]}}
EMPTY = {"status": "success", "data": {"result": []}}
NO_NUMBER = {"status": "success", "data": {"result": [{"metric": {}, "values": [[5, "NaN"], [10, "NaN"]]}]}}
REFUSED = {"status": "error", "error": "unknown function"}


@pytest.fixture
def answering() -> Iterator[Callable[[Answer], str]]:
    """Starts what answers as Prometheus does; gives its address."""
    servers: list[ThreadingHTTPServer] = []

    def start(answer: Answer) -> str:
        class Door(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                (expr,) = parse_qs(urlsplit(self.path).query)["query"]
                said = answer(expr)
                self.send_response(200 if said["status"] == "success" else 422)
                self.end_headers()
                self.wfile.write(json.dumps(said).encode())

            def log_message(self, *args: Any) -> None:
                """Nothing: a test says what is wrong."""

        servers.append(ThreadingHTTPServer(("127.0.0.1", 0), Door))
        Thread(target=servers[-1].serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{servers[-1].server_port}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def test_boards_with_data_have_no_fault(answering: Callable[[Answer], str]) -> None:
    assert unanswered(answering(lambda expr: GOOD), 0, 10) == []


@pytest.mark.parametrize(
    ("answer", "reason"), [(EMPTY, "no data (0 series)"), (NO_NUMBER, "no data (1 series)")]
)
def test_a_panel_without_a_number_is_a_fault(
    answering: Callable[[Answer], str], answer: dict[str, Any], reason: str
) -> None:
    faults = unanswered(answering(lambda expr: answer), 0, 10)
    panels = {asked for asked in queries() if not asked.annotation}
    assert len(faults) == len(panels) > 50
    assert all(fault.endswith(reason) for fault in faults)


def test_what_is_not_understood_is_a_fault_of_an_annotation_too(answering: Callable[[Answer], str]) -> None:
    faults = unanswered(answering(lambda expr: REFUSED), 0, 10)
    assert len(faults) == len(set(queries()))
    assert any("Worker lost" in fault and fault.endswith("unknown function") for fault in faults)


def test_a_single_panel_without_data_is_found(answering: Callable[[Answer], str]) -> None:
    (asked,) = {one for one in queries() if one.panel == "Checkpoint size"}
    address = answering(lambda expr: EMPTY if expr == asked.expr else GOOD)
    assert unanswered(address, 0, 10) == [f"{asked}: no data (0 series)"]

"""`drizzle story`: what happened in a cluster and why, as its services tell it."""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from drizzle_streams.cli.client import add_cluster, add_json, found, get_from
from drizzle_streams.errors import DrizzleError, explain

if TYPE_CHECKING:
    from drizzle_streams.api.client import Destination

LOOKS_EVERY_S = 0.5

_EPILOG = """\
The coordinator tells of members, recoveries and jobs; a worker or a source of its own work. A
service keeps its last 2,000 lines, and a new life of it begins a new story. Times are UTC.

examples:
  drizzle story
  drizzle story --job ysb --follow
  drizzle story --service worker-1"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Whose story, of what, how long."""
    parser.add_argument(
        "--service",
        metavar="NODE",
        default="coordinator",
        help="a worker or a source, by its id or the beginning of it (default: the coordinator)",
    )
    parser.add_argument("--job", metavar="JOB", help="only what concerns this job")
    parser.add_argument("--follow", action="store_true", help="go on telling until Ctrl-C")
    add_cluster(parser)
    add_json(parser)
    parser.epilog = _EPILOG


def run(arguments: argparse.Namespace) -> int:
    """Tell it."""
    to = teller(found(arguments), arguments.service)
    last: dict[str, Any] | None = None
    while True:
        for line in _since(to, last):
            last = line
            if arguments.job in (None, line["job"]):
                print(json.dumps(line) if arguments.json else worded(line), flush=True)
        if not arguments.follow:
            return 0
        time.sleep(LOOKS_EVERY_S)


def _since(to: Destination, last: dict[str, Any] | None) -> list[dict[str, Any]]:
    """The lines after the last one that was told; all of them where another life tells by now."""
    if last is None:
        return _lines(to, 0)
    lines = _lines(to, last["number"] - 1)
    return lines[1:] if lines[:1] == [last] else _lines(to, 0)


def _lines(to: Destination, after: int) -> list[dict[str, Any]]:
    return get_from(to, f"/debug/story?after={after}")["story"]


def teller(to: Destination, service: str) -> Destination:
    """Where that service answers. Raises `DrizzleError` if it is no member, or not the only one it may be."""
    if service == "coordinator":
        return to
    status = get_from(to, "/status")
    members = {m["id"]: m["address"] for kind in ("workers", "sources") for m in status[kind]}
    meant = [node for node in members if node == service] or [n for n in members if n.startswith(service)]
    if len(meant) == 1:
        return replace(to, cluster=members[meant[0]])
    raise DrizzleError(
        explain(
            f"service {service!r}",
            wanted="one member of the cluster",
            found=", ".join(meant or members) or "a cluster without members",
            remedy="`drizzle status` lists them.",
        )
    )


def worded(line: dict[str, Any]) -> str:
    """A line for people."""
    at = datetime.fromtimestamp(line["at"], UTC).strftime("%H:%M:%S.%f")[:-3]
    job = f" [{line['job']}]" if line["job"] else ""
    return f"{at}  {line['kind']:<20}{job} {line['text']}"

"""`drizzle status`: the cluster at a glance, once or again and again."""

from __future__ import annotations

import argparse
import time
from typing import TYPE_CHECKING, Any

from drizzle_streams.cli.client import add_cluster, add_json, found, get_from, job_path, print_json, table
from drizzle_streams.cli.jobs import says
from drizzle_streams.cli.values import number
from drizzle_streams.cli.workers import condition

if TYPE_CHECKING:
    from rich.console import RenderableType

    from drizzle_streams.api.client import Destination

WATCH_EVERY_S = 1.0

_EPILOG = """\
lag        batches that are due and not done, and how late the oldest of them is
groups     batches in the newest one, and the share of time that went into coordination
batch ms   from the sealing of a batch to its output in the sink, of the last 200 batches

examples:
  drizzle status
  drizzle status --watch
  drizzle --profile production status --json"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """How often, the cluster, the format."""
    parser.add_argument(
        "--watch",
        nargs="?",
        type=number(0.1, 3_600),
        const=WATCH_EVERY_S,
        metavar="SECONDS",
        help="show it again and again, every second or as often as you say, until Ctrl-C",
    )
    add_cluster(parser)
    add_json(parser)
    parser.epilog = _EPILOG


def run(arguments: argparse.Namespace) -> int:
    """Show it."""
    to = found(arguments)
    if arguments.watch is not None and not arguments.json:
        _watch(to, arguments.watch)
    while True:
        values = read(to)
        if arguments.json:
            print_json(values)
        else:
            from rich.console import Console

            Console().print(view(values))
        if arguments.watch is None:
            return 0
        time.sleep(arguments.watch)


def read(to: Destination) -> dict[str, Any]:
    """Everything: `/status`, with each job in full and who leads."""
    status = get_from(to, "/status")
    details = [get_from(to, job_path(job["job"])) for job in status["jobs"]]
    return {**status, "leader": get_from(to, "/leader").get("leader"), "jobs": details}


def _watch(to: Destination, every_s: float) -> None:
    from rich.console import Group
    from rich.live import Live
    from rich.text import Text

    from drizzle_streams.errors import UnreachableError

    with Live(view(read(to)), auto_refresh=False, screen=False) as live:
        last: RenderableType = live.renderable
        while True:
            time.sleep(every_s)
            try:
                last = view(read(to))
                live.update(last, refresh=True)
            except UnreachableError as error:  # it may be back in a moment: a person watches
                live.update(Group(last, Text(str(error), style="red")), refresh=True)


def view(values: dict[str, Any]) -> RenderableType:
    """The tables of a status."""
    from rich.console import Group
    from rich.text import Text

    head = (
        f"coordinator {values['leader'] or 'unknown'} · generation {values['generation']} · workers lost "
        f"{values['workers_lost']} · suspicions {values['suspicions']}"
    )
    members = [
        (m["id"], kind.removesuffix("s"), m["address"], f"{m['busy']:.0%}", condition(m))
        for kind in ("workers", "sources")
        for m in values[kind]
    ]
    parts: list[RenderableType] = [
        Text(head),
        table("members", ("node", "kind", "address", "busy", ""), members),
        *(Text("\n".join(["", *lines(job)])) for job in values["jobs"]),
    ]
    if not values["jobs"]:
        parts.append(Text("\njobs: none"))
    return Group(*parts, *(Text(f"! {warning}", style="yellow") for warning in warnings(values)))


def warnings(values: dict[str, Any]) -> list[str]:
    """What somebody should look at."""
    found = [str(text) for text in values.get("warnings", ())]
    if not values["workers"]:
        found.append("no worker: nothing is computed until one joins")
    if not values["sources"]:
        found.append("no source: nothing is taken in or read")
    suspected = [m["id"] for kind in ("workers", "sources") for m in values[kind] if m["suspected"]]
    found += [f"{node} could not be reached by another node" for node in suspected]
    found += _no_reserve([worker["busy"] for worker in values["workers"]])
    for job in values["jobs"]:
        found += [f"{job['job']}: {text}" for text in job.get("warnings", ())]
        if job["recovering"] is not None:
            recovering = job["recovering"]
            found.append(
                f"{job['job']} recovers since {recovering['since_ms']:,.0f} ms: {recovering['reason']}"
            )
    return found


def _no_reserve(busy: list[float]) -> list[str]:
    """Of N workers, N - 1 must do the work of all and catch up."""
    count = len(busy)
    if count < 2 or sum(busy) / count <= (count - 1) / count:
        return []
    above = f"utilisation {sum(busy) / count:.0%} is above {count - 1}/{count}"
    return [f"{above}: if a worker is lost, the others do not catch up"]


def lines(job: dict[str, Any]) -> list[str]:
    """A job in some lines, the first one its name."""
    latency = (job.get("batch_latency_ms") or {}).get("recent") or {}
    lag = job["frontier_lag"]
    head = f"job {job['job']}: {job['phase']}, {job['batches_done']:,} batches done, lag {lag['batches']}"
    said = {
        "": says(job),
        "groups": f"{job['group_size']} batches, {job['overhead']:.1%} of the time is coordination",
        "batch ms": ", ".join(
            f"{rank} {latency[rank]:g}" for rank in ("p50", "p95", "p99") if rank in latency
        ),
        **_tuner(job.get("tuner") or {}),
        "checkpoint": _checkpoint(job["checkpoint"]),
        "recoveries": _recoveries(job["recoveries"]),
    }
    return [f"{head} ({lag['ms']:,.0f} ms)", *(f"  {name:<11} {text}" for name, text in said.items() if text)]


def _tuner(values: dict[str, Any]) -> dict[str, str]:
    """What chose the group size: its figures in a line, and each set of them, as its inputs, in another."""
    lines = {"tuner": {name: value for name, value in values.items() if not isinstance(value, dict)}}
    lines |= {f"  {name}": value for name, value in values.items() if isinstance(value, dict)}
    return {
        name: ", ".join(f"{key} {_short(value)}" for key, value in of.items()) for name, of in lines.items()
    }


def _short(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _checkpoint(checkpoint: dict[str, Any]) -> str:
    if checkpoint["batch"] < 0:
        return "none yet"
    age = "" if checkpoint["age_ms"] is None else f", {checkpoint['age_ms'] / 1000:.1f} s old"
    rhythm = ""
    if "interval_ms" in checkpoint:
        rhythm = f"; every {checkpoint['interval_ms'] / 1000:g} s ({checkpoint['because']})"
    if checkpoint.get("cost_ms") is not None:
        rhythm += f", one takes {checkpoint['cost_ms']:g} ms"
    return f"batch {checkpoint['batch']:,}, {checkpoint['bytes']:,} bytes{age}{rhythm}"


def _recoveries(ended: list[dict[str, Any]]) -> str:
    return f"{len(ended)}, the last one {ended[-1]['seconds']:.2f} s ({ended[-1]['reason']})" if ended else ""

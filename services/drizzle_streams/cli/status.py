"""`drizzle status`: the cluster at a glance, once or again and again."""

from __future__ import annotations

import argparse
import time
from typing import TYPE_CHECKING, Any

from drizzle_streams.cli.client import (
    add_cluster,
    add_json,
    counted,
    found,
    get_from,
    job_path,
    print_json,
    table,
    terminal,
)
from drizzle_streams.cli.jobs import says
from drizzle_streams.cli.values import number
from drizzle_streams.cli.workers import condition

if TYPE_CHECKING:
    from rich.console import RenderableType

    from drizzle_streams.api.client import Destination

WATCH_EVERY_S = 1.0

_EPILOG = """\
lag        batches that are due and not done, and how late the oldest of them is; one or two are usual
groups     batches in the newest one, and the share of time that went into coordination
tuner      what decides how many batches a group has; --json has all that it reckons with
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
            terminal().print(view(values))
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
    for job in values["jobs"]:
        found += [f"{job['job']}: {text}" for text in job.get("warnings", ())]
        if job["recovering"] is not None:
            recovering = job["recovering"]
            found.append(
                f"{job['job']} recovers since {recovering['since_ms']:,.0f} ms: {recovering['reason']}"
            )
    return found


def lines(job: dict[str, Any]) -> list[str]:
    """A job in some lines, the first one its name."""
    latency = (job.get("batch_latency_ms") or {}).get("recent") or {}
    lag = job["frontier_lag"]
    done = counted(job["batches_done"], "batch", "batches")
    late = counted(lag["batches"], "batch", "batches")
    head = f"job {job['job']}: {job['phase']}, {done} done, lag {late} ({lag['ms']:,.0f} ms)"
    said = {
        "": says(job),
        "interval": _interval(job),
        "groups": f"{job['group_size']} batches, {job['overhead']:.1%} of the time is coordination",
        "batch ms": ", ".join(
            f"{rank} {latency[rank]:.1f}" for rank in ("p50", "p95", "p99") if rank in latency
        ),
        "tuner": _tuner(job.get("tuner")),
        "  inputs": _inputs(job.get("tuner")),
        "checkpoint": _checkpoint(job["checkpoint"]),
        "recoveries": _recoveries(job["recoveries"]),
        "copies": _copies(job.get("copies") or {}),
        "partitions": _partitions(job),
    }
    return [head, *(f"  {name:<11} {text}" for name, text in said.items() if text)]


def _interval(job: dict[str, Any]) -> str:
    """What decided the batch interval, where the job leaves that to Drizzle."""
    values = job.get("interval")
    if values is None:
        return ""
    cost = "" if values["processing_ms"] is None else f", a batch costs {values['processing_ms']:.1f} ms"
    return f"{job['batch_interval_ms']:.1f} ms ({values['because']}){cost}"


def _tuner(values: dict[str, Any] | None) -> str:
    """What decided the group size, between which bounds, and what would cost least."""
    if values is None:
        return ""
    bounds = f"at least {_batches(values['lower'])} ({values['binds_lower']}), "
    bounds += f"at most {_batches(values['upper'])} ({values['binds_upper']})"
    optimum = values["optimum"] or 0.0  # 0 while too little was measured
    best = f"; {_batches(optimum)} would cost least" if optimum >= 1 else ""
    alarm = "" if values["alarm"] is None else f"; no size fits: {values['alarm']}"
    decides = "the job" if values["binding"] == "fixed" else values["binding"]
    return f"{decides} decides, {bounds}{best}{alarm}"


def _inputs(values: dict[str, Any] | None) -> str:
    """What a tuner reckons with, where one decides; what is 0 is left out."""
    if values is None or values["binding"] == "fixed":
        return ""
    known = {name: value for name, value in values["inputs"].items() if value}
    return ", ".join(f"{name} {value:.3g}" for name, value in known.items())


def _batches(number: float | None) -> str:
    return "any number" if number is None else f"{number:,.0f}"


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


def _copies(copies: dict[str, Any]) -> str:
    if not copies.get("started"):
        return ""
    return f"{copies['started']:,} of straggling tasks, {copies['won']:,} had the result first"


def _partitions(job: dict[str, Any]) -> str:
    """How many there are of each stage, once they have been split or merged."""
    if not job.get("resized"):
        return ""
    counts = ", ".join(f"stage {stage['stage']}: {stage['partitions']}" for stage in job["stages"])
    return f"{counts}; split or merged {counted(job['resized'], 'time', 'times')}"


def _recoveries(ended: list[dict[str, Any]]) -> str:
    return f"{len(ended)}, the last one {ended[-1]['seconds']:.2f} s ({ended[-1]['reason']})" if ended else ""

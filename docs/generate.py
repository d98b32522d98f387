"""Writes the parts of the documentation that are made from other things, so that they cannot drift.

    python docs/generate.py              # README's table of figures, docs/metrics.md
    python docs/generate.py --measured   # before that: note the machine and commit of docs/figures/demo.json

The figures come from one run, `make demo ARGS="--json docs/figures/demo.json"`, and from nowhere else.
The metrics come from the code that declares them. Tests compare what is on the disk with what is made here.
"""

from __future__ import annotations

import json
import os
import platform
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from drizzle_streams.model.ids import NodeId
from drizzle_streams.telemetry.families import Readings
from drizzle_streams.telemetry.metrics import CoordinatorMetrics, RuntimeMetrics, SourceMetrics, WorkerMetrics
from drizzle_streams.telemetry.reading import LeadMetrics
from drizzle_streams.transport.memory import MemoryNetwork, MemoryTransport

ROOT = Path(__file__).resolve().parents[1]
README = ROOT / "README.md"
METRICS = ROOT / "docs" / "metrics.md"
DEMO = ROOT / "docs" / "figures" / "demo.json"
MACHINE = ROOT / "docs" / "figures" / "machine.json"

COMMAND = 'make demo ARGS="--json docs/figures/demo.json"'

# --- figures ------------------------------------------------------------------------------


def figures(report: Mapping[str, Any] | None, machine: Mapping[str, Any] | None) -> str:
    """README's section on what was measured, from a report of the demo; without one, how to get it."""
    if report is None or machine is None:
        return f"""\
No run of this version has been recorded yet, so there is no number here. Measure on your machine:

```sh
{COMMAND}
.venv/bin/python docs/generate.py --measured
```
"""
    asked = report["settings"]
    rows = [
        ("events sent, in how many seconds of load", f"{report['sent']:,} in {asked['seconds']:g}"),
        ("views counted; exact", f"{report['counted']:,}; {'yes' if report['exact'] else 'NO'}"),
        ("lost, twice", f"{report['lost']}, {report['duplicates']}"),
        (
            "batches; interval; group size",
            f"{report['batches']:,}; {asked['batch_interval_ms']:g} ms; {report['group_size']}",
        ),
        ("batch latency, ms (sealed → its output in the sink)", percentiles(report["batch_latency_ms"])),
        (
            "window latency, ms (window end → its final count in the sink)",
            percentiles(report["latency_ms"]),
        ),
        (
            "recovery, s (SIGKILL → the frontier is as close to its schedule as before)",
            f"{report['recovery_seconds']}",
        ),
    ]
    table = "\n".join(f"| {name} | {value} |" for name, value in rows)
    return f"""\
| | |
| --- | --- |
{table}

One run of `{COMMAND}` at commit {machine["commit"]}:
{asked["rate"]:,} events/s, {asked["workers"]} workers, {asked["sources"]} sources, \
{asked["scheduling"]} scheduling, SIGKILL of {report["killed"] or "nobody"} half-way.
Everything, the load generator and its oracle too, on one machine: {machine["cores"]} cores of \
{machine["cpu"]}, {machine["memory_gib"]} GiB, {machine["system"]}, Python {machine["python"]}.
Raw: [docs/figures/demo.json](docs/figures/demo.json).
"""


def percentiles(values: Mapping[str, float] | None) -> str:
    """p50, p95, p99 and max, or a dash."""
    if not values:
        return "-"
    return ", ".join(f"{name} {values[name]:,.1f}" for name in ("p50", "p95", "p99", "max"))


def machine_facts() -> dict[str, Any]:
    """What a reader must know of this machine to compare."""
    cpu = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )
    return {
        "cpu": cpu[1] if cpu else platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(memory / 1024**3),
        "system": f"{platform.system()} {platform.release().split('-')[0]}",
        "python": platform.python_version(),
        "commit": commit.stdout.strip(),
    }


def recorded(path: Path) -> dict[str, Any] | None:
    """A JSON file, if it is there."""
    return json.loads(path.read_text()) if path.is_file() else None


def with_part(page: str, name: str, part: str) -> str:
    """The page with the part between the marks of that name replaced."""
    begin, end = f"<!-- made: {name} -->", f"<!-- end made: {name} -->"
    before, rest = page.split(begin, 1)
    return f"{before}{begin}\n{part}{end}{rest.split(end, 1)[1]}"


def readme() -> str:
    """README as it should be."""
    return with_part(README.read_text(), "figures", figures(recorded(DEMO), recorded(MACHINE)))


# --- metrics ------------------------------------------------------------------------------

_METRICS_HEAD = """\
# Metrics

Every service answers `GET /metrics` in the format of Prometheus, to whoever has a `metrics` token
(`drizzle token --kind metrics`); to everybody with `DRIZZLE_METRICS_PUBLIC=yes`.
This page is made from the code by `python docs/generate.py`; the help texts are those that Prometheus shows.
Units stand in the names. A counter's name ends in `_total`. Series of a job go when the job ends.
No metric has more than 256 series: further label values share the label `other`.
[operations.md](operations.md) says what watches them, and what to do about each alert.

"""


def metrics_page() -> str:
    """docs/metrics.md as it should be."""
    parts = [_METRICS_HEAD]
    for title, rows in metric_tables():
        parts.append(f"## {title}\n\n| name | kind | labels | meaning |\n| --- | --- | --- | --- |\n")
        parts += [f"| `{name}` | {kind} | {labels} | {text} |\n" for name, kind, labels, text in rows]
        parts.append("\n")
    return "".join(parts).rstrip("\n") + "\n"


Row = tuple[str, str, str, str]


def metric_tables() -> Iterator[tuple[str, list[Row]]]:
    """Metrics by who has them: (title, rows of name, kind, labels, meaning)."""
    everyone = CollectorRegistry()
    runtime = RuntimeMetrics(everyone, service="worker", node="worker-1", version="0")
    runtime.read_loop(lambda: 0.0)
    runtime.read_messages(dict, dict, dict, lambda: 0.0)
    runtime.read_queues(dict)
    runtime.read_transport(MemoryTransport(NodeId("worker-1"), MemoryNetwork(), "token"))
    yield "Every service", sorted(rows_of(everyone))
    for title, declare in (
        ("Coordinator", coordinators_metrics),
        ("Worker", workers_metrics),
        ("Source", SourceMetrics),
    ):
        registry = CollectorRegistry()
        declare(registry)
        yield title, sorted(rows_of(registry))


def coordinators_metrics(registry: CollectorRegistry) -> None:
    """All that a coordinator has of its own."""
    CoordinatorMetrics(registry)
    LeadMetrics(registry, lambda: 0.0, lambda: 0.0, lambda: 0.0, lambda: 0.0)


def workers_metrics(registry: CollectorRegistry) -> None:
    """All that a worker has of its own."""
    made = WorkerMetrics(registry)
    made.read_blocks(lambda: 0.0, lambda: 0.0)
    made.read_fragments(lambda: 0.0, lambda: 0.0)
    made.read_slots(lambda: 0.0, lambda: 0.0)
    made.read_tasks(dict)
    made.read_states(dict)
    made.read_refused(dict, dict)
    made.read_failures(
        **dict.fromkeys(
            ("fetches", "tasks", "snapshots", "outages", "snapshots_damaged", "letters_dropped"), lambda: 0.0
        )
    )


def rows_of(registry: CollectorRegistry) -> Iterator[Row]:
    """What is declared on a registry; the client library's own process metrics left out."""
    for collector in list(registry._collector_to_names):
        if isinstance(collector, Readings):
            for name, (text, label, _) in collector._readings.items():
                yield name, kind_of(name), label, text
        elif isinstance(collector, Counter | Gauge | Histogram):
            name = collector._name + "_total" * isinstance(collector, Counter)
            yield name, str(collector._type), ", ".join(collector._labelnames), collector._documentation


def kind_of(name: str) -> str:
    """What a reading is, by its name: as `Readings` decides it."""
    return "counter" if name.endswith("_total") else "gauge"


def main() -> None:
    """Write what is made."""
    if "--measured" in sys.argv[1:]:
        MACHINE.write_text(json.dumps(machine_facts(), indent=2) + "\n")
    README.write_text(readme())
    METRICS.write_text(metrics_page())


if __name__ == "__main__":
    main()

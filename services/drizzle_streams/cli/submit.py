"""`drizzle submit FILE`: run the jobs that a file defines on a cluster."""

from __future__ import annotations

import argparse

from drizzle_streams.cli.client import add_cluster, add_json, found, print_json
from drizzle_streams.cli.progress import until_phase
from drizzle_streams.cli.values import number

RUNS_WITHIN_S = 120.0

_EPILOG = """\
The file is ordinary Python; every job it leaves in a module-level name is submitted. The command
waits until they run, or with --detach only until the cluster has taken them: then they survive the
coordinator, and run as soon as there are workers and sources.

Exit code 0: they run (or are taken); 1: one failed at once, its traceback is shown; 2: not taken.

examples:
  drizzle submit job.py
  drizzle submit job.py --detach --cluster http://10.0.0.7:7070,http://10.0.0.8:7070"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The file, whether to wait, the cluster."""
    parser.add_argument("file", metavar="FILE", help="Python file that defines one or more jobs")
    parser.add_argument("--detach", action="store_true", help="do not wait until they run")
    parser.add_argument(
        "--timeout",
        type=number(1, 86_400),
        default=RUNS_WITHIN_S,
        metavar="SECONDS",
        help="how long to wait until they run (default: %(default)g)",
    )
    add_cluster(parser)
    add_json(parser)
    parser.epilog = _EPILOG


def run(arguments: argparse.Namespace) -> int:
    """Submit, wait, and say what runs."""
    from drizzle_streams.api.load import load_jobs

    jobs = load_jobs(arguments.file)
    to = found(arguments)
    names = [job.submit(to.cluster, token=to.token, tls=to.tls) for job in jobs]
    ended: list[dict[str, str]] = []
    failed = False
    for name in names:
        values = {"job": name, "phase": "submitted", "detail": ""}
        if not arguments.detach:
            values = until_phase(to, name, ("running",), arguments.timeout)
        ended.append({key: values[key] for key in ("job", "phase", "detail")})
        failed = failed or values["phase"] == "failed"
        if not arguments.json:
            print(_said(values, to.cluster))
    if arguments.json:
        print_json({"jobs": ended})
    return 1 if failed else 0


def _said(values: dict[str, str], cluster: str) -> str:
    name, phase = values["job"], values["phase"]
    if phase == "running":
        return f"job {name} runs on {cluster}"
    if phase == "submitted":
        return f"job {name} is taken by {cluster}"
    return f"job {name} {phase}: {values['detail']}"

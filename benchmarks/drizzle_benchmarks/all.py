"""Every benchmark, one after the other, and a page with what they measured.

Each runs as a process of its own with its default settings and a bound on its time; one that fails is told
and the others go on. Writes `NAME.json` and `NAME.png` for each, and the page from all that is there.
"""

from __future__ import annotations

import argparse
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from drizzle_benchmarks.results import page

NAME = "all"
RESULTS = Path("benchmarks/results")
PAGE = Path("docs/benchmarks/results.md")
TIMEOUT_S = 900.0
STOP_S = 60.0
"""After its time a benchmark is asked to stop, so that it stops its cluster; after this it is killed."""
SAID_MAX = 2_000
"""Characters of what a benchmark said last that are shown when it failed."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one: `failure` is None, or why there is no new result."""

    name: str
    seconds: float
    failure: str | None


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which, how long each, and where results go."""
    parser.add_argument("--only", type=_names, help="these alone, between commas (default: every one)")
    parser.add_argument("--without", type=_names, default=(), help="all but these, between commas")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of results (%(default)s)")
    parser.add_argument("--page", type=Path, default=PAGE, help="the page that is written (%(default)s)")
    parser.add_argument("--timeout", type=float, default=TIMEOUT_S, help="seconds for each (%(default)s)")
    parser.add_argument(
        "--page-only", action="store_true", help="write the page from the results that are there"
    )


def _names(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def main(arguments: argparse.Namespace, known: Sequence[str]) -> int:
    """Run them and write the page; 0 when every one measured."""
    console = Console(stderr=True)
    strange = {*(arguments.only or ()), *arguments.without} - set(known)
    if strange:
        raise ValueError(f"no such benchmarks: {', '.join(sorted(strange))}; there are {', '.join(known)}")
    arguments.results.mkdir(parents=True, exist_ok=True)
    wanted = [one for one in arguments.only or known if one not in arguments.without]
    outcomes: list[Outcome] = []
    for name in () if arguments.page_only else wanted:
        console.print(f"{name} …")
        outcomes.append(_once(name, arguments.results, arguments.timeout))
        console.print(f"  {outcomes[-1].failure or 'measured'}, {outcomes[-1].seconds:.0f} s")
    failures = {one.name: one.failure for one in outcomes if one.failure is not None}
    arguments.page.parent.mkdir(parents=True, exist_ok=True)
    arguments.page.write_text(page(known, arguments.results, failures, arguments.page.parent))
    console.print(f"{len(outcomes) - len(failures)} of {len(outcomes)} measured; {arguments.page}")
    return 1 if failures else 0


def _once(name: str, results: Path, timeout_s: float) -> Outcome:
    """One benchmark as a process of its own. Whatever goes wrong in it is an outcome."""
    began = time.monotonic()
    files = ("--json", str(results / f"{name}.json"), "--plot", str(results / f"{name}.png"))
    process = subprocess.Popen(
        [sys.executable, "-m", "drizzle_benchmarks", name, *files],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    late = False
    try:
        said, _ = process.communicate(timeout=timeout_s)
    except subprocess.TimeoutExpired:
        late, said = True, _stopped(process)
    except KeyboardInterrupt:
        _stopped(process)
        raise
    failure = None
    if late:
        failure = f"did not end within {timeout_s:g} s"
    elif process.returncode:
        failure = f"ended with {process.returncode}: {said.strip()[-SAID_MAX:]}"
    return Outcome(name, time.monotonic() - began, failure)


def _stopped(process: subprocess.Popen[str]) -> str:
    """Have it end in order, or else at once; what it had said."""
    process.send_signal(signal.SIGINT)
    try:
        return process.communicate(timeout=STOP_S)[0]
    except subprocess.TimeoutExpired:
        process.kill()
        return process.communicate()[0]

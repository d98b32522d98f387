"""What every benchmark gives: rows, claims, and the machine and commit they were measured on.

As JSON: name, machine, commit, settings, rows, and claims of name, measured, bound, unit, holds.
"""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

GIT_TIMEOUT_S = 10.0
HERE = Path(__file__).resolve().parent
MEASURED = (":(top)", ":(top,exclude)benchmarks/results", ":(top,exclude)docs")
"""All of a checkout but what is written about it: `drizzle bench all` changes results while it runs."""

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Claim:
    """Something that should hold: a measured value that may not exceed (or fall below) a bound."""

    name: str
    measured: float | None
    bound: float
    unit: str
    at_least: bool = False

    @property
    def holds(self) -> bool:
        """Whether it does; what could not be measured does not."""
        if self.measured is None:
            return False
        return self.measured >= self.bound if self.at_least else self.measured <= self.bound

    def as_json(self) -> dict[str, Any]:
        """The claim as the contract has it."""
        return {
            "name": self.name,
            "measured": self.measured,
            "bound": self.bound,
            "unit": self.unit,
            "holds": self.holds,
        }


@dataclass(frozen=True, slots=True)
class Report:
    """One benchmark's figures. `series` is for plots and stays out of the JSON."""

    name: str
    settings: Mapping[str, Any]
    rows: list[Row]
    claims: list[Claim]
    series: list[Mapping[str, Any]] = field(default_factory=list[Mapping[str, Any]])

    def as_json(self) -> dict[str, Any]:
        """The report as the contract has it."""
        return {
            "name": self.name,
            "machine": machine(),
            "commit": commit(),
            "settings": dict(self.settings),
            "rows": self.rows,
            "claims": [claim.as_json() for claim in self.claims],
        }


def exact_claim(rows: Sequence[Row]) -> Claim:
    """Every run's counts are what the oracle says."""
    exact = float(sum(row["exact"] for row in rows))
    return Claim("runs with exact counts", exact, len(rows), "runs", at_least=True)


def over_smallest(rows: Sequence[Row], size: str, bound: float) -> list[Claim]:
    """Batch time, p50 and p99, of the row with the largest `size` over that with the smallest."""
    least, most = (pick(rows, key=lambda row: int(row[size])) for pick in (min, max))
    if least is most:
        return []
    return [
        Claim(
            f"batch time, {name}: {most[size]} {size} over {least[size]}",
            round(most["batch_ms"][name] / least["batch_ms"][name], 2),
            bound,
            "ratio",
        )
        for name in ("p50", "p99")
    ]


def machine() -> dict[str, Any]:
    """What the figures were measured on, as far as figures depend on it."""
    return {
        "cpus": os.cpu_count(),
        "cpu": _cpu_name(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "polars": version("polars"),
    }


def commit(folder: Path = HERE) -> str:
    """The commit of a checkout, with `+` if what is measured has changes; empty outside of one."""
    head = _git(folder, "rev-parse", "--short=12", "HEAD")
    changes = head and _git(folder, "status", "--porcelain", "--untracked-files=no", "--", *MEASURED)
    return f"{head}+" if changes else head


def _git(folder: Path, *arguments: str) -> str:
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments],
            capture_output=True,
            text=True,
            timeout=GIT_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()

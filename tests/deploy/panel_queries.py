"""The questions that the dashboards ask, and which of them a Prometheus cannot answer.

`unanswered(address, since, until)` is for every test that has a cluster and a Prometheus which
scraped it: the queries are asked over that time, as Grafana asks them, with its variables filled in.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlencode
from urllib.request import urlopen

ROOT = Path(__file__).resolve().parents[2]
DASHBOARDS = ROOT / "deploy" / "grafana" / "dashboards"
STEP_S = 5
BUILT_IN = {"__rate_interval": "20s", "__interval": "5s", "__range": "15m"}
"""What Grafana fills in for a panel of 15 minutes, with the data source's `timeInterval` of 5 s."""
ASK_S = 15.0


@dataclass(frozen=True, slots=True)
class Asked:
    """A query of a panel; `annotation`: of an annotation, which has samples only where something happened."""

    board: str
    panel: str
    expr: str
    annotation: bool = False

    def __str__(self) -> str:
        return f"{self.board} / {self.panel}: {self.expr}"


def boards() -> dict[str, dict[str, Any]]:
    """The provisioned dashboards by uid."""
    found = [json.loads(path.read_text()) for path in sorted(DASHBOARDS.glob("*.json"))]
    return {board["uid"]: board for board in found}


def queries() -> Iterator[Asked]:
    """Everything the boards ask, with variables filled in."""
    for board in boards().values():
        variables = {one["name"]: one["allValue"] for one in board["templating"]["list"]}
        for panel in board["panels"]:
            for target in panel.get("targets", []):
                yield Asked(board["title"], panel["title"], filled(target["expr"], variables))
        for one in board["annotations"]["list"]:
            if "expr" in one:
                yield Asked(board["title"], one["name"], filled(one["expr"], variables), annotation=True)


def filled(expr: str, variables: dict[str, str]) -> str:
    """PromQL without variables; KeyError for one that nobody declares."""
    known = BUILT_IN | variables
    return re.sub(r"\$(?:\{(\w+)(?::\w+)?\}|(\w+))", lambda found: known[found[1] or found[2]], expr)


def unanswered(address: str, since: float, until: float) -> list[str]:
    """Queries without a number between `since` and `until` (unix s), each with the reason.

    Annotations only have to be understood: what they mark need not have happened.
    """
    faults: list[str] = []
    for asked in dict.fromkeys(queries()):
        answer = ask_range(address, asked.expr, since, until)
        if isinstance(answer, str):
            faults.append(f"{asked}: {answer}")
        elif not asked.annotation and not any(numbers(answer)):
            faults.append(f"{asked}: no data ({len(answer)} series)")
    return faults


def ask_range(address: str, expr: str, since: float, until: float) -> list[dict[str, Any]] | str:
    """The series of a range query, or what Prometheus had against it."""
    asked = urlencode({"query": expr, "start": since, "end": until, "step": STEP_S})
    try:
        with urlopen(f"{address}/api/v1/query_range?{asked}", timeout=ASK_S) as answer:
            return json.load(answer)["data"]["result"]
    except HTTPError as error:
        return json.load(error)["error"]


def numbers(series: list[dict[str, Any]]) -> Iterator[bool]:
    """Of each sample, whether it is a number; a bound that is infinite is one."""
    return (not math.isnan(float(value)) for one in series for _, value in one["values"])

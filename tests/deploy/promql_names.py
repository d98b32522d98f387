"""The names in a PromQL expression, and the names that the services and rules declare.

No parser of PromQL: metrics of this project begin with `drizzle_` or `drizzle:`, and the few others
are listed. Strings, durations and whole words of the language are taken out first.
"""

from __future__ import annotations

import re
from functools import cache
from typing import Any

from docs import generate

OTHERS = {"up", "ALERTS", "process_cpu_seconds_total", "process_resident_memory_bytes"}
"""What Prometheus and its client library make themselves."""
WORDS = {
    *(
        "by",
        "on",
        "ignoring",
        "group_left",
        "group_right",
        "without",
        "and",
        "or",
        "unless",
        "offset",
        "bool",
    ),
    *("sum", "max", "min", "avg", "count", "rate", "increase", "changes", "delta", "vector", "clamp_min"),
    "histogram_quantile",
    "topk",
}


def names_in(expr: str) -> set[str]:
    """Metrics and recording rules that an expression reads."""
    bare = re.sub(r'"[^"]*"', "", expr)
    bare = re.sub(r"\{[^}]*\}|\[[^]]*\]", "", bare)
    bare = re.sub(r"\b(by|on|ignoring|without|group_left|group_right)\s*\([^)]*\)", "", bare)
    return set(re.findall(r"[a-zA-Z_:][\w:]*", bare)) - WORDS


@cache
def declared() -> dict[str, tuple[str, frozenset[str]]]:
    """Kind and labels of the metrics that services declare, by name."""
    rows = [row for _, table in generate.metric_tables() for row in table]
    return {name: (kind, frozenset(filter(None, text.split(", ")))) for name, kind, text, _ in rows}


def known(rules: list[dict[str, Any]]) -> set[str]:
    """Every name that may stand in a query."""
    found = set(OTHERS) | {rule["record"] for rule in rules if "record" in rule}
    for name, (kind, _) in declared().items():
        found.add(name)
        if kind == "histogram":
            found |= {f"{name}_{part}" for part in ("bucket", "sum", "count")}
    return found

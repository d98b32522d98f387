"""The page of results, made from the JSON files of benchmarks and nothing else."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from drizzle_benchmarks import scheduling_model
from drizzle_benchmarks.cells import cell

HEAD = """# Results of the benchmarks

Written by `drizzle bench all` from the files in `benchmarks/results/`; not to be edited.
What each benchmark does and claims is in [benchmarks](../benchmarks.md).
"""
ROWS_MAX = 60
"""Rows of a benchmark that the page shows; its JSON file has all."""
FAILURE_MAX = 300


def page(names: Sequence[str], results: Path, failures: Mapping[str, str], place: Path) -> str:
    """The page, in Markdown. `results` holds `NAME.json` and `NAME.png`, `place` is the folder of the page.

    A benchmark in `failures` failed when it was last run; an older result of it is shown and called so.
    """
    parts = [HEAD]
    for name in names:
        file = results / f"{name}.json"
        parts.append(f"## {name}\n")
        if name in failures:
            parts.append(f"**Failed when it was last run:** {_plain(failures[name])[:FAILURE_MAX]}\n")
        if file.exists():
            found = json.loads(file.read_text())
            parts += _result(found, results / f"{name}.png", place)
            parts += _more_machines(found["rows"]) if name == "scheduling" else ()
        elif name not in failures:
            parts.append("Not measured yet.\n")
    return "\n".join(parts)


def _result(found: Mapping[str, Any], picture: Path, place: Path) -> Iterator[str]:
    machine, settings = found["machine"], found["settings"]
    yield f"On {machine['cpus']} × {machine['cpu']}, {machine['system']}, Python {machine['python']},"
    yield f"Polars {machine['polars']}, commit `{found['commit'] or 'unknown'}`."
    yield f"Settings: {_plain(cell(settings)) or 'none'}.\n"
    if picture.exists():
        yield f"![{found['name']}]({Path(os.path.relpath(picture, place)).as_posix()})\n"
    if found["claims"]:
        yield from _table(
            ("claim", "measured", "bound", "unit", "holds"),
            [
                (
                    one["name"],
                    cell(one["measured"]),
                    cell(one["bound"]),
                    one["unit"],
                    "yes" if one["holds"] else "**no**",
                )
                for one in found["claims"]
            ],
        )
    rows = found["rows"][:ROWS_MAX]
    if rows:
        names = list(dict.fromkeys(name for row in rows for name in row))
        yield from _table(
            [name.replace("_", " ") for name in names],
            [[cell(row.get(name)) for name in names] for row in rows],
        )
    if len(found["rows"]) > ROWS_MAX:
        yield f"{len(found['rows']) - ROWS_MAX} more rows are in the JSON file.\n"


def _more_machines(rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """What many real machines would see, where enough was measured for it."""
    lines = scheduling_model.table(rows)
    if lines:
        yield "What many real machines would see, with groups of 100 and batches of 100 ms"
        yield "([the model](../benchmarks.md#what-more-machines-would-see)).\n"
        yield f"{scheduling_model.stated(rows)}\n"
        yield from _table(scheduling_model.HEAD, lines)


def _table(head: Sequence[str], lines: Sequence[Sequence[str]]) -> Iterator[str]:
    yield "| " + " | ".join(head) + " |"
    yield "| " + " | ".join("---" for _ in head) + " |"
    for line in lines:
        yield "| " + " | ".join(_plain(one) for one in line) + " |"
    yield ""


def _plain(text: str) -> str:
    """Text that stays in its line and in its cell."""
    return " ".join(text.replace("|", "\\|").split())

"""The documents and the code use the same words, names and numbers."""

from __future__ import annotations

import ast
import importlib
import re
import typing
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path

import pytest

from docs import generate
from drizzle_streams.protocol import messages
from drizzle_streams.protocol.records import RECORD_KINDS
from tests.docs.pages import ROOT, STREAMS, quoted, rows

GLOSSARY = ROOT / "docs" / "glossary.md"
SAFETY = ROOT / "docs" / "safety.md"
SHARED_TERMS = (
    "job, stream, stage, partition, key group, batch, batch interval, group, group size, bounds, task, "
    "block, pre-scheduled, awaited, placement, generation, snapshot, checkpoint, ledger, frontier, "
    "watermark, lease, suspected, lost, overhead, group cut, straggler, speculation, cohort, fragment, "
    "piece, link, outbox, story, mark"
)
"""One word per idea."""
SERVICES = ("coordinator", "worker", "source")
UNITS = {"": 1, "KiB": 1024, "MiB": 1024**2, "GiB": 1024**3, "s": 1}


def terms() -> set[str]:
    return {term.lower() for term in re.findall(r"^- \*\*(.+?)\*\*", GLOSSARY.read_text(), re.MULTILINE)}


def test_every_term_has_its_sentence() -> None:
    assert set(SHARED_TERMS.split(", ")) - terms() == set()


def test_a_term_is_one_line() -> None:
    lines = [line for line in GLOSSARY.read_text().splitlines() if line.startswith("- **")]
    assert [line for line in lines if not line.endswith(".")] == []


def test_every_message_is_explained_and_no_other() -> None:
    told = {cells[0].strip("`") for cells in rows(GLOSSARY, "Messages")}
    assert told == {kind.__name__ for kind in typing.get_args(messages.Message)}


def test_every_value_inside_a_message_is_named() -> None:
    classes = {
        value.__name__
        for value in vars(messages).values()
        if isinstance(value, type) and is_dataclass(value) and value.__module__ == messages.__name__
    }
    assert classes - set(quoted(GLOSSARY)) == set()


def test_every_record_of_the_ledger_is_explained_and_no_other() -> None:
    told = {cells[0].strip("`") for cells in rows(GLOSSARY, "Records of the ledger")}
    assert told == {kind.__name__ for kind in RECORD_KINDS.values()}


def test_every_line_of_the_story_is_explained_and_no_other() -> None:
    told = {cells[0].strip("`"): cells[1] for cells in rows(GLOSSARY, "Lines of the story")}
    code = [path for room in ("core", *SERVICES) for path in (STREAMS / room).glob("*.py")]
    found = {kind: room for path in code for kind, room in kinds_told_in(path)}
    assert told == found


def kinds_told_in(path: Path) -> Iterator[tuple[str, str]]:
    """(kind, who tells it): texts like WorkerLost given to a call of `tell`, or chosen as `kind` for one."""
    room = path.relative_to(STREAMS).parts[0]
    for node in ast.walk(ast.parse(path.read_text())):
        found: list[ast.expr] = []
        if isinstance(node, ast.Call) and str(getattr(node.func, "attr", "")).endswith("tell"):
            found = node.args
        elif isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "kind":
            found = [node.value]
        for one in (inner for outer in found for inner in ast.walk(outer)):
            text = one.value if isinstance(one, ast.Constant) else None
            if isinstance(text, str) and re.fullmatch(r"(?:[A-Z][a-z]+)+", text):
                yield text, "coordinator" if room == "core" else room


def limits() -> list[list[str]]:
    return list(rows(SAFETY, "Limits"))


@pytest.mark.parametrize("cells", limits(), ids=lambda cells: cells[0])
def test_a_bound_in_the_text_is_the_bound_in_the_code(cells: list[str]) -> None:
    path, names = re.findall(r"`([^`]+)`", cells[1])
    module = importlib.import_module("drizzle_streams." + path.removesuffix(".py").replace("/", "."))
    assert told_value(cells[2]) == coded_value(module, names)


def told_value(cell: str) -> float:
    number, _, unit = cell.replace(",", "").partition(" ")
    return float(number) * UNITS[unit]


def coded_value(module: object, names: str) -> float:
    owner, _, field = names.partition(".")
    if not field:
        return getattr(module, owner)
    (found,) = [one.default for one in fields(getattr(module, owner)) if one.name == field]
    return found  # type: ignore[return-value]


def test_what_is_made_from_the_code_is_as_it_would_be_made_now() -> None:
    """`python docs/generate.py` brings them up to date."""
    assert generate.METRICS.read_text() == generate.metrics_page()
    assert generate.README.read_text() == generate.readme()


def test_every_name_of_a_metric_in_the_code_is_on_its_page() -> None:
    page = generate.METRICS.read_text()
    code = "\n".join(path.read_text() for path in STREAMS.rglob("*.py"))
    names = set(re.findall(r'"(drizzle_[a-z_]+)",\s*"[A-Z]', code))
    assert len(names) > 50
    assert [metric for metric in sorted(names) if f"`{metric}`" not in page] == []


def test_figures_come_from_a_report_and_say_where_from() -> None:
    report = {
        "sent": 1000,
        "counted": 333,
        "exact": True,
        "windows": 2,
        "duplicates": 0,
        "lost": 0,
        "batches": 40,
        "group_size": 20,
        "latency_ms": {"p50": 1.0, "p95": 2.0, "p99": 3.0, "max": 1234.5},
        "batch_latency_ms": None,
        "recovery_seconds": 0.25,
        "killed": "worker-2",
        "settings": {
            "rate": 500,
            "seconds": 2.0,
            "workers": 2,
            "sources": 2,
            "batch_interval_ms": 50.0,
            "window": "1s",
            "scheduling": "group",
            "seed": 0,
        },
    }
    shown = generate.figures(report, generate.machine_facts())
    for text in ("333; yes", "p50 1.0, p95 2.0, p99 3.0, max 1,234.5", "SIGKILL of worker-2", "cores of"):
        assert text in shown
    assert "| - |" in shown, "what was not measured is a dash"
    assert "no number here" in generate.figures(None, None)

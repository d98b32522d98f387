"""Short tasks are computed on the event loop, and none that may keep it waiting."""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import Any

import polars as pl
import pytest

from drizzle_streams.connectors.memory import MemoryResults
from drizzle_streams.core import actions as act
from drizzle_streams.core import events as ev
from drizzle_streams.engine.execute import Block, StageExecutor
from drizzle_streams.engine.records import InputEntry
from drizzle_streams.model.files import FileSet
from drizzle_streams.model.ids import BatchId, CohortId, NodeId
from drizzle_streams.model.task import TaskKey
from drizzle_streams.worker import tasks
from drizzle_streams.worker.brevity import INPUT_BYTES_MAX, REMEMBERED, SHORT_S, Brevity
from drizzle_streams.worker.execution import BlockInput, Work, execute
from drizzle_streams.worker.programs import LoadedStage
from tests.worker.conftest import World
from tests.worker.worker_worlds import (
    JOB,
    MAP,
    REDUCE,
    SOURCE,
    Hand,
    all_rows,
    compiled,
    latest,
    offer_of,
    partitions,
    payload_of,
    piece,
    some_rows,
    sums_of,
)

ALL = partitions(0, 1, 2, 3)
ENOUGH = 100
"""Short tasks, after which nothing of what was before them is remembered."""


def brief() -> Brevity:
    """Of a stage whose tasks take a fifth of what is short."""
    brevity = Brevity()
    for _ in range(ENOUGH):
        brevity.took(SHORT_S / 5)
    return brevity


def stage(number: int = MAP, **changed: Any) -> LoadedStage:
    job = compiled(MemoryResults())
    program = replace(job.program.stages[number], **changed)
    return LoadedStage(job.spec, job.spec.stages[number], program, StageExecutor(job.program, number))  # type: ignore[arg-type]


def read(payload_bytes: int, **changed: Any) -> Work:
    """A task of the stage that reads."""
    entry = InputEntry(0, 0, 1, "ndjson", b" " * payload_bytes)
    return Work(stage(**changed), BatchId(0), ALL, entries=[entry])


def merge(*blocks: Block | bytes) -> Work:
    """A task of the stage behind the shuffle."""
    return Work(
        stage(REDUCE), BatchId(0), ALL, blocks=[BlockInput(block, frozenset(ALL), None) for block in blocks]
    )


def test_a_stage_whose_tasks_are_not_known_to_be_short_has_a_thread() -> None:
    brevity, work = Brevity(), read(1)
    assert not brevity.holds_for(work)
    for _ in range(ENOUGH):
        brevity.took(2 * SHORT_S)
    assert not brevity.holds_for(work)
    assert brief().holds_for(work)


def test_one_long_task_is_remembered_for_a_while() -> None:
    brevity, work = brief(), read(1)
    brevity.took(SHORT_S / REMEMBERED**4.5)
    for _ in range(4):
        brevity.took(SHORT_S / 5)
        assert not brevity.holds_for(work)
    brevity.took(SHORT_S / 5)
    assert brevity.holds_for(work)


def test_what_reads_much_has_a_thread_whatever_went_before() -> None:
    brevity = brief()
    assert brevity.holds_for(read(INPUT_BYTES_MAX))
    assert not brevity.holds_for(read(INPUT_BYTES_MAX + 1))
    few, many = (pl.DataFrame({"n": range(rows)}) for rows in (10, INPUT_BYTES_MAX))
    assert brevity.holds_for(merge(Block(few, ()), b"few"))
    assert not brevity.holds_for(merge(Block(few, ()), bytes(INPUT_BYTES_MAX)))
    assert not brevity.holds_for(merge(Block(many, ()), b"few"))


def test_what_may_wait_for_anything_has_a_thread() -> None:
    brevity, reads = brief(), stage().program.read
    assert reads is not None
    assert not brevity.holds_for(read(1, calls_python=True))
    assert not brevity.holds_for(read(1, read=replace(reads, files=FileSet(()))))


class Whose:
    """The threads in which tasks are computed, by stage."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.found: list[tuple[int, str]] = []
        monkeypatch.setattr(tasks, "execute", self._execute)

    def _execute(self, work: Work, *args: Any, **kwargs: Any) -> Any:
        self.found.append((work.stage.stage.stage, threading.current_thread().name))
        return execute(work, *args, **kwargs)


async def both_stages(hand: Hand, batch: int) -> None:
    await hand.map(batch, ALL)
    await hand.reduce(batch, ALL, [piece(hand, batch, ALL, ALL)])
    await hand.write(batch, batch)


@pytest.mark.parametrize("slots", [1, 2])
async def test_a_worker_of_one_slot_computes_short_tasks_itself(
    world: World, monkeypatch: pytest.MonkeyPatch, slots: int
) -> None:
    hand, whose, main = await world.hand("a", slots=slots), Whose(monkeypatch), threading.main_thread().name
    await hand.open(ALL)
    await both_stages(hand, 0)
    assert all(name.startswith("task") for _, name in whose.found), "nobody knows how long they take"
    job, whose.found = hand.performer.jobs[JOB], []
    job.brevities[MAP] = job.brevities[REDUCE] = brief()
    await both_stages(hand, 1)
    assert [number for number, _ in whose.found] == [MAP, REDUCE]
    assert all((name == main) == (slots == 1) for _, name in whose.found)
    assert latest(world.results) == sums_of(all_rows(2))


async def test_what_is_to_be_said_leaves_before_a_short_task_begins(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The driver hands frames over when it has performed all: a task in between would hold them up."""
    hand, whose = await world.hand("a", slots=1), Whose(monkeypatch)
    hand.performer.jobs[JOB].brevities[MAP] = brief()
    given = {p: some_rows(0, p) for p in ALL}
    assert hand.performer.absorb(NodeId(SOURCE), offer_of(0, given), payload_of(given, 0))
    fragment = act.Fragment(JOB, MAP, act.INPUT, BatchId(0), NodeId(SOURCE), ALL, ALL)
    key = TaskKey(JOB, MAP, CohortId(9), BatchId(0))
    hand.performer.perform(act.RunTask(key, ALL, (act.Piece(fragment, ALL, ALL),), hand.now_ms))
    assert not whose.found
    await hand.events.next(ev.TaskFinished)
    assert whose.found == [(MAP, threading.main_thread().name)]

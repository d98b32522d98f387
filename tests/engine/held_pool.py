"""Scenarios of `test_own_thread`, for a process of their own that has one Polars thread, as workers have."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import polars as pl

from drizzle_streams.engine.execute import InputEntry, StageExecutor, decode_block, encode_block
from drizzle_streams.engine.program import (
    Aggregate,
    AggregateKind,
    Aggregation,
    Explode,
    Filter,
    JoinTable,
    Program,
    Read,
    Select,
    StageProgram,
    TumblingWindow,
    WithColumns,
)
from drizzle_streams.model.ids import JobId, PartitionId, StageId, StreamId
from drizzle_streams.worker.cutting import cut

T = TypeVar("T")
PARTITIONS = 8
BATCHES = 60
HELD_S = 100
WAIT_S = 10


@contextmanager
def pool_held() -> Iterator[None]:
    """Every thread of the pool waits inside a query until the end."""
    inside, leave = threading.Semaphore(0), threading.Event()

    def hold(column: pl.Series) -> pl.Series:
        inside.release()
        leave.wait(HELD_S)
        return column

    def query() -> None:
        pl.DataFrame({"a": [1], "b": [1]}).group_by("a").agg(
            pl.col("b").map_batches(hold, return_dtype=pl.Int64)
        )

    threads = [threading.Thread(target=query) for _ in range(pl.thread_pool_size())]
    for thread in threads:
        thread.start()
    try:
        assert all(inside.acquire(timeout=HELD_S) for _ in threads)
        yield
    finally:
        leave.set()
        for thread in threads:
            thread.join()


def meanwhile(work: Callable[[], T]) -> T:
    """What work gives that must not wait for the pool."""
    given: list[T] = []
    thread = threading.Thread(target=lambda: given.append(work()), daemon=True)
    with pool_held():
        thread.start()
        thread.join(WAIT_S)
        ended = not thread.is_alive()
    thread.join()
    if not ended:
        sys.exit("it waits for a thread of Polars")
    return given[0]


def counting_views() -> Program:
    counts = Aggregation(
        keys=("campaign",),
        aggregates=(Aggregate("n", AggregateKind.COUNT), Aggregate("sum", AggregateKind.SUM, pl.col("cost"))),
        window=TumblingWindow(1_000),
        event_time="time",
    )
    table = pl.DataFrame({"ad": [f"ad{n}" for n in range(40)], "campaign": [f"c{n // 4}" for n in range(40)]})
    read = Read(
        StreamId("ads"),
        {"ad": pl.String(), "kind": pl.String(), "time": pl.Int64(), "cost": pl.Int64()},
        "time",
    )
    steps = (
        Filter(pl.col("kind") == "view"),
        Select((pl.col("ad"), pl.col("time"), pl.col("cost"))),
        JoinTable("ads", ("ad",), ("ad",)),
    )
    first = StageProgram(StageId(0), read, None, steps, counts)
    return Program(
        JobId("views"),
        (first, StageProgram(StageId(1), None, counts, (), None, object())),
        {"ads": table},
        64,
    )


def entry(batch: int, partition: int) -> InputEntry:
    lines = [
        json.dumps(
            {
                "ad": f"ad{(number * 7 + batch) % 40}",
                "kind": "view" if number % 3 else "click",
                "time": str(batch * 50 + number // 8),
                "cost": str(number),
            }
        )
        for number in range(300)
    ]
    return InputEntry(PartitionId(partition), batch * 300, 300, "ndjson", "\n".join(lines).encode())


def map_task() -> int:
    """Rows that a task reading two partitions gives."""
    stage = StageExecutor(counting_views(), StageId(0))
    output = meanwhile(lambda: stage.run_input((0, 1), [entry(0, 0), entry(0, 1)]))
    return output.rows_out


def merge_tasks() -> int:
    """Views counted after so many batches that changes are united, too; all in the first windows."""
    program = counting_views()
    reads, merges = StageExecutor(program, StageId(0)), StageExecutor(program, StageId(1), PARTITIONS)
    sources = (frozenset({PartitionId(0)}), frozenset({PartitionId(1)}))
    blocks: list[list[bytes]] = []
    for batch in range(BATCHES):
        whole = reads.run_input((0, 1), [entry(batch % 20, 0), entry(batch % 20, 1)]).blocks
        assert whole is not None
        blocks.append([encode_block(cut(whole, source, None)) for source in sources])

    def run() -> int:
        state = merges.empty_state(range(PARTITIONS))
        counted = 0
        for batch, encoded in enumerate(blocks):
            parts = [decode_block(one) for one in encoded]
            state, output = merges.run_blocks(state, batch, parts)
            assert output.rows is not None
            counted = int(output.rows.get_column("n").sum())
            for part in parts:
                assert encode_block(cut(part, sources[0] | sources[1], ((0, 8), (16, 24))))
        return counted

    return meanwhile(run)


def growing_state() -> int:
    """Groups counted when every batch brings new ones: runs are filled, begun and merged meanwhile."""
    counts = Aggregation(keys=("ad",), aggregates=(Aggregate("n", AggregateKind.COUNT),))
    read = Read(StreamId("ads"), {"ad": pl.String()})
    stages = (
        StageProgram(StageId(0), read, None, (), counts),
        StageProgram(StageId(1), None, counts, (), None, object()),
    )
    program = Program(JobId("ads"), stages, {}, 64)
    reads, merges = StageExecutor(program, StageId(0)), StageExecutor(program, StageId(1), PARTITIONS)
    blocks: list[bytes] = []
    for batch in range(BATCHES):
        lines = "\n".join(json.dumps({"ad": f"ad{batch * 400 + number}"}) for number in range(500))
        whole = reads.run_input(
            (0,), [InputEntry(PartitionId(0), batch * 500, 500, "ndjson", lines.encode())]
        )
        assert whole.blocks is not None
        blocks.append(encode_block(whole.blocks))

    def run() -> int:
        state = merges.empty_state(range(PARTITIONS))
        for batch, encoded in enumerate(blocks):
            state, _ = merges.run_blocks(state, batch, [decode_block(encoded)])
        return state.keys

    return meanwhile(run)


def words() -> int:
    """Words of lists that become rows, some of them empty."""
    counts = Aggregation(keys=("word",), aggregates=(Aggregate("n", AggregateKind.COUNT),))
    read = Read(StreamId("lines"), {"line": pl.String()})
    split = WithColumns((pl.col("line").str.split(" ").alias("word"),))
    some = Filter(pl.col("line") != "")
    first = StageProgram(StageId(0), read, None, (split, Explode("word"), some), counts)
    last = StageProgram(StageId(1), None, counts, (), None, object())
    stage = StageExecutor(Program(JobId("words"), (first, last), {}, 64), StageId(0))
    lines = "\n".join(json.dumps({"line": "a b c" if number % 3 else ""}) for number in range(300))
    entries = [InputEntry(PartitionId(0), 0, 300, "ndjson", lines.encode())]
    return meanwhile(lambda: stage.run_input((0,), entries)).rows_out


def grouping() -> int:
    """What does wait for the pool, so that the scenario can fail."""
    frame = pl.DataFrame({"k": ["a", "b"], "v": [1, 2]})
    return meanwhile(lambda: frame.group_by("k").agg(pl.col("v").sum()).height)


if __name__ == "__main__":
    scenario = {
        "map": map_task,
        "merge": merge_tasks,
        "grow": growing_state,
        "words": words,
        "grouping": grouping,
    }[sys.argv[1]]
    sys.stdout.write(str(scenario()))

"""The cases of `drizzle bench micro`: functions that pytest-benchmark calls, and their picture.

Sizes are those of a batch of 1,000 records in a small cluster: 1,000 groups, 8 partitions of which a
worker wants 4, a state of a million keys.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import polars as pl

from drizzle_streams.core.placing import place
from drizzle_streams.core.planner import next_group
from drizzle_streams.engine.execute import StageExecutor, StageState
from drizzle_streams.engine.frames import Block, decode_block, encode_block
from drizzle_streams.engine.program import Aggregate, AggregateKind, Aggregation, Program, Read, StageProgram
from drizzle_streams.engine.records import InputEntry
from drizzle_streams.model.ids import (
    BatchId,
    Generation,
    GroupId,
    JobId,
    NodeId,
    PartitionId,
    StageId,
    StreamId,
    WorkerId,
)
from drizzle_streams.model.job import JobSpec, StageSpec, key_group_range
from drizzle_streams.protocol import messages as msg
from drizzle_streams.protocol.codec import decode_envelope, encode_envelope
from drizzle_streams.protocol.records import GroupRecord
from drizzle_streams.worker.bundles import pack_share, unpack_share
from drizzle_streams.worker.cutting import cut

Measure = Callable[..., Any]
"""pytest-benchmark's fixture: calls a function over and over, and gives what it gave."""

RECORDS = 1_000
KEYS = 1_000_000
WORKERS = 128
PARTITIONS = 8
KEY_GROUPS = 1_024
COUNTS = Aggregation(
    keys=("key",),
    aggregates=(Aggregate("n", AggregateKind.COUNT), Aggregate("total", AggregateKind.SUM, pl.col("value"))),
)
SCHEMA: dict[str, pl.DataType] = {"key": pl.Int64(), "value": pl.Int64()}


def case_codec_encode_blocks_ready(benchmark: Measure) -> None:
    assert len(benchmark(encode_envelope, _envelope(), (b"x" * 200,))) > 200


def case_codec_decode_blocks_ready(benchmark: Measure) -> None:
    given = benchmark(decode_envelope, encode_envelope(_envelope(), (b"x" * 200,)))
    assert given == (_envelope(), (b"x" * 200,))


def case_planner_next_group(benchmark: Measure) -> None:
    last = GroupRecord(GroupId(0), BatchId(0), BatchId(99), 0.0)
    assert benchmark(next_group, _spec(), last, BatchId(99), 1_000.0).first == 100


def case_planner_place_128_workers(benchmark: Measure) -> None:
    workers = [(WorkerId(f"worker-{number}"), 1) for number in range(WORKERS)]
    assert len(benchmark(place, _spec(), workers, {}).owners) == 2


def case_shuffle_split_half(benchmark: Measure) -> None:
    ranges = tuple(
        key_group_range(partition, PARTITIONS, KEY_GROUPS) for partition in range(0, PARTITIONS, 2)
    )
    every = frozenset(PartitionId(partition) for partition in range(PARTITIONS))
    split = benchmark(cut, _block(), every, ranges)
    assert 0 < split.rows < _block().rows


def case_frames_encode_block(benchmark: Measure) -> None:
    assert len(benchmark(encode_block, _block())) > RECORDS * 8


def case_frames_decode_block(benchmark: Measure) -> None:
    assert benchmark(decode_block, encode_block(_block())).rows == _block().rows


def case_frames_share_there_and_back(benchmark: Measure) -> None:
    encoded = encode_block(_block())
    assert benchmark(lambda: unpack_share(pack_share([encoded]))) == (encoded,)


def case_stage_read_and_partial(benchmark: Measure) -> None:
    reads = StageExecutor(_program(), StageId(0))
    assert benchmark(reads.run_input, (0,), [_entry(RECORDS, KEYS)]).records_in == RECORDS


def case_state_update(benchmark: Measure) -> None:
    merges, state = _filled()
    after, output = benchmark(merges.run_blocks, state, 1, [_block()])
    assert (after.keys, output.rows.height) == (KEYS, _block().rows)


@cache
def _filled() -> tuple[StageExecutor, StageState]:
    """The merging stage, and its state after one batch that brought all keys."""
    merges = StageExecutor(_program(), StageId(1), PARTITIONS)
    whole = _read(InputEntry(0, 0, KEYS, "arrow", _arrow(range(KEYS))))
    return merges, merges.run_blocks(merges.empty_state(range(PARTITIONS)), 0, [whole])[0]


@cache
def _block() -> Block:
    return _read(_entry(RECORDS, KEYS))


def _read(entry: InputEntry) -> Block:
    given = StageExecutor(_program(), StageId(0)).run_input((0,), [entry]).blocks
    if given is None:
        raise ValueError("a stage that shuffles gave no block")
    return given


def _entry(records: int, keys: int) -> InputEntry:
    """Records of keys that lie far apart, as NDJSON."""
    lines = (b'{"key":%d,"value":%d}' % (number * 7_919 % keys, number % 7) for number in range(records))
    return InputEntry(0, 0, records, "ndjson", b"\n".join(lines))


def _arrow(keys: range) -> bytes:
    column = pl.int_range(keys.start, keys.stop, dtype=pl.Int64, eager=True)
    return pl.DataFrame([column.alias("key"), column.alias("value")]).write_ipc_stream(None).getvalue()


def _program() -> Program:
    reads = StageProgram(StageId(0), Read(StreamId("events"), SCHEMA), None, (), COUNTS)
    merges = StageProgram(StageId(1), None, COUNTS, (), None, object())
    return Program(JobId("micro"), (reads, merges), {}, KEY_GROUPS)


def _spec() -> JobSpec:
    reads = StageSpec(StageId(0), WORKERS, (), StreamId("events"))
    merges = StageSpec(StageId(1), WORKERS, (StageId(0),), stateful=True, writes_output=True)
    return JobSpec(JobId("micro"), (reads, merges), 10.0, group_size=100)


def _envelope() -> msg.Envelope:
    some = tuple(PartitionId(number) for number in range(4))
    ready = msg.BlocksReady(
        JobId("micro"),
        Generation(3),
        WorkerId("worker-1"),
        StageId(0),
        some,
        StageId(1),
        some,
        BatchId(1_234),
        BatchId(1_234),
        (1_763_725_670_123.0,),
    )
    return msg.Envelope(NodeId("worker-1"), 7, 41, 6, 40, 1_200, (msg.Item(1_201, ready),))


def plot(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Medians as bars. Raises `ImportError`."""
    importlib.import_module("matplotlib").use("Agg")
    pyplot = importlib.import_module("matplotlib.pyplot")

    figure, axes = pyplot.subplots(figsize=(9, 4), layout="constrained")
    axes.barh([row["case"] for row in rows], [row["median_us"] for row in rows])
    axes.set(xlabel="median, µs", xscale="log")
    figure.savefig(path, dpi=100)
    pyplot.close(figure)

"""`run`: batches in, results out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import polars as pl

from drizzle_streams.api.job import Job
from drizzle_streams.connectors.memory import MemoryResults
from drizzle_streams.engine.columns import WINDOW_START
from drizzle_streams.errors import BuildError, explain
from drizzle_streams.testing.cluster import Cluster
from drizzle_streams.testing.inputs import Log, Records
from drizzle_streams.testing.results import BatchResult, Result, late_groups, together

PARTITIONS_MAX = 64
"""Of a stage in a test: enough to see that keys are spread; a test is not for load."""


@dataclass(frozen=True, slots=True)
class Crash:
    """A worker is lost here with all it holds; `partition` None means all of them. Made by `crash`."""

    partition: int | None = None


def crash(partition: int | None = None) -> Crash:
    """A value among the batches: the worker that holds this partition is lost, or all workers."""
    return Crash(partition)


def run(
    job: Job,
    batches: Sequence[Records | Mapping[int, Records] | Crash],
    *,
    partitions: int = 4,
    stream_partitions: int = 2,
    workers: int = 2,
    snapshot_every: int = 3,
) -> Result:
    """Run a job over batches with the engine itself, in virtual time, and give what came of it.

    `batches`: each a DataFrame, a list of dicts, or bytes with lines of JSON; its records are dealt out to
    the stream's partitions in turn, or go where {partition: records} says. [] is a batch without records,
    and `crash()` a failure between batches.
    `partitions` is the number of every shuffle's partitions, `stream_partitions` of the stream's; `workers`
    share both. `snapshot_every` batches state is kept; a crash goes back to there.

    The job's own sink is not used. An exception of the job's own functions is raised as it is. Raises
    `DrizzleError` when a replay after a crash gives other rows: some function gives different results for the
    same rows.
    """
    for name, value in (
        ("partitions", partitions),
        ("stream_partitions", stream_partitions),
        ("workers", workers),
        ("snapshot_every", snapshot_every),
    ):
        _check_count(name, value)
    compiled = job.compile(partitions=partitions)
    log, results = Log(stream_partitions), MemoryResults()
    cluster = Cluster(compiled, log, results, stream_partitions=stream_partitions, workers=workers)
    sealed = 0
    for item in batches:
        if isinstance(item, Crash):
            cluster.crash(item.partition)
            continue
        log.append(sealed, item)
        cluster.run_batch(sealed)
        sealed += 1
        if sealed % snapshot_every == 0:
            cluster.snapshot()
    return _result(job, cluster, results, sealed)


def _result(job: Job, cluster: Cluster, results: MemoryResults, sealed: int) -> Result:
    written: dict[int, list[pl.DataFrame]] = {
        batch: [pl.DataFrame(schema=job.schema)] for batch in range(sealed)
    }
    for token, frame in results.writes:
        written[token.batch].append(frame)
    batches = tuple(_batch_result(cluster, batch, pl.concat(frames)) for batch, frames in written.items())
    return Result(
        rows=_as_stored(pl.concat([pl.DataFrame(schema=job.schema), *(one.rows for one in batches)]), job),
        batches=batches,
        late=together([one.late for one in batches]),
        late_records=sum(one.late_records for one in batches),
        dead_letters=tuple(letter for one in batches for letter in one.dead_letters),
        written_again=cluster.written_again,
    )


def _batch_result(cluster: Cluster, batch: int, rows: pl.DataFrame) -> BatchResult:
    outputs = cluster.outputs(batch)
    return BatchResult(
        batch=batch,
        at_ms=(batch + 1) * cluster.spec.batch_interval_ms,
        rows=rows,
        late=together([late_groups(one.late) for one in outputs if one.late is not None]),
        late_records=sum(one.late_records for one in outputs),
        dead_letters=tuple(letter for one in outputs for letter in one.dead_letters),
    )


def _as_stored(rows: pl.DataFrame, job: Job) -> pl.DataFrame:
    keys = job.keys
    if not keys or not set(keys) <= set(rows.columns):
        return rows
    order = [name for name in (WINDOW_START, *keys) if name in keys]
    return rows.unique(subset=list(keys), keep="last", maintain_order=True).sort(list(dict.fromkeys(order)))


def _check_count(name: str, value: object) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= PARTITIONS_MAX:
        raise BuildError(
            explain(
                f"testing.run: {name}",
                wanted=f"a whole number from 1 to {PARTITIONS_MAX}",
                found=repr(value),
                remedy="Leave it out for the default.",
            )
        )

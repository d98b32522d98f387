"""PUBLIC: run a job over given batches, in this process, without a cluster and without waiting.

    result = dz.testing.run(job, [
        [{"page": "/", "at": 1_000}, {"page": "/", "at": 2_000}],
        dz.testing.crash(),
        [{"page": "/a", "at": 11_000}],
    ])
    assert result.rows.to_dicts() == [...]

What runs is the engine that runs in a cluster: records are parsed, mapped, cut into blocks by key, encoded,
merged and written under tokens, by two simulated workers. Time is virtual: batches follow each other at the
job's interval. A crash is a value among the batches: what a worker held is restored from the last
snapshot and computed again; results must be the same, and a replay that differs is an error.
"""

from drizzle_streams.testing.inputs import Records
from drizzle_streams.testing.results import BatchResult, Result
from drizzle_streams.testing.running import Crash, crash, run

__all__ = ["BatchResult", "Crash", "Records", "Result", "crash", "run"]

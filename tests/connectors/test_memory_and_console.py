"""The sinks for trying things out: results in memory, results on the terminal."""

from __future__ import annotations

import pickle
import subprocess
import sys

import polars as pl
import pytest

from drizzle_streams.connectors.base import SinkSettings, SinkToken
from drizzle_streams.connectors.console import console
from drizzle_streams.connectors.memory import MemoryResults, memory
from drizzle_streams.errors import BuildError, ConfigError, StoreError

ROWS = pl.DataFrame({"__key_group": [1, 2], "key": ["a", "b"], "n": [1, 2]})


def token(batch: int) -> SinkToken:
    return SinkToken("job", 0, batch, 0)


async def test_results_keep_every_update_and_know_the_latest() -> None:
    results = MemoryResults()
    sink = memory(results).create(SinkSettings())
    assert results.frame().is_empty()
    assert results.latest(["key"]).is_empty()
    await sink.write([(token(0), ROWS), (token(1), ROWS.with_columns(n=pl.col("n") * 10).head(1))])
    assert [t.batch for t, _ in results.writes] == [0, 1]
    assert results.frame().rows() == [("a", 1), ("b", 2), ("a", 10)]
    assert results.latest(["key"]).rows() == [("a", 10), ("b", 2)]


async def test_results_are_bounded() -> None:
    results = MemoryResults(rows_max=3)
    sink = memory(results).create(SinkSettings())
    await sink.write([(token(0), ROWS)])
    with pytest.raises(StoreError, match="at most 3 rows, found 4"):
        await sink.write([(token(1), ROWS)])


async def test_a_pickled_spec_finds_its_results_in_this_process_and_only_here() -> None:
    results = MemoryResults()
    pickled = pickle.dumps(memory(results))
    assert pickle.loads(pickled).results is results
    elsewhere = subprocess.run(
        [sys.executable, "-c", "import pickle, sys; pickle.load(sys.stdin.buffer)"],
        input=pickled,
        capture_output=True,
        env={"PYTHONPATH": ":".join(sys.path)},
        check=False,
    )
    assert b"results object of the process that built the job" in elsewhere.stderr
    del results
    with pytest.raises(ConfigError):
        pickle.loads(pickled)


async def test_the_console_prints_each_token_once(capsys: pytest.CaptureFixture[str]) -> None:
    spec = console(rows_max=1)
    spec.validate({"key": pl.String()}, ())
    sink = spec.create(SinkSettings())
    await sink.open()
    for _ in range(2):
        await sink.write([(token(3), ROWS), (token(4), ROWS.head(0))])
    await sink.close()
    printed = capsys.readouterr().out
    assert printed.count("job batch 3 partition 0: 2 rows") == 1
    assert "batch 4" not in printed
    assert "__key_group" not in printed
    with pytest.raises(BuildError, match="rows_max"):
        console(0).validate({}, ())

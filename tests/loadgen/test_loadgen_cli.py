"""The commands as a person and `drizzle demo` use them: files, exit codes, signals, one line for an error."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest

from drizzle_loadgen.cli import main
from drizzle_loadgen.events import RENDER_EVENTS_MAX, Workload, ads_table
from drizzle_loadgen.settings import INGEST_TOKEN, bearer
from drizzle_streams.local.redis import EmbeddedRedis
from tests.loadgen.misbehaving_source import THROTTLE, MisbehavingSource
from tests.loadgen.naive import Counts, naive_counts, write_rows

COMMAND = (sys.executable, "-m", "drizzle_loadgen")


def test_ads_are_written_as_parquet(tmp_path: Path) -> None:
    assert main(["ads", "--seed", "5", "--out", str(tmp_path / "ads.parquet")]) == 0
    assert pl.read_parquet(tmp_path / "ads.parquet").equals(ads_table(5))


@pytest.mark.parametrize("events", [0, 1, RENDER_EVENTS_MAX + 1])
def test_a_file_holds_the_events(tmp_path: Path, events: int) -> None:
    out = tmp_path / "events.ndjson"
    options = ["--seed", "5", "--rate", "1000", "--start-ms", "77", "--with-skew", "--out", str(out)]
    assert main(["file", "--events", str(events), *options]) == 0
    assert out.read_bytes() == Workload(5, 77, 1000, skew=True).ndjson(0, events)


@pytest.mark.parametrize(
    "arguments",
    [
        ["ads", "--out", "/nowhere/ads.parquet"],
        ["file", "--events", "-1", "--out", "x"],
        ["file", "--events", "1", "--rate", "0", "--out", "/dev/null"],
        ["run", "--sources", "nonsense"],
        ["run", "--sources", "http://127.0.0.1:1", "--fault", "soon:kill:me"],
        ["run", "--sources", "http://127.0.0.1:1", "--in-flight", "0"],
        ["run", "--sources", "http://127.0.0.1:1", "--seconds", "-1"],
        ["run", "--discover", "http://127.0.0.1:1"],
        ["check", "--events", "1", "--redis", "redis://127.0.0.1:1"],
        ["check", "--events", "1", "--redis", "mysql://127.0.0.1"],
        ["check", "--events", "-1", "--redis", "redis://127.0.0.1:1"],
        ["check", "--run", "/nowhere/run.json", "--redis", "redis://127.0.0.1:1"],
    ],
)
def test_what_cannot_run_is_one_line_and_exit_code_2(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    shown = capsys.readouterr()
    assert shown.err.startswith("loadgen: ")
    assert shown.err.count("\n") == 1


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"seed": 1}', "not json"])
def test_a_run_file_that_is_none_is_refused(
    tmp_path: Path, content: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "run.json").write_text(content)
    assert main(["check", "--run", str(tmp_path / "run.json"), "--redis", "redis://127.0.0.1:1"]) == 2
    assert "wanted the JSON of `run --json`" in capsys.readouterr().err


def test_help_names_every_option(capsys: pytest.CaptureFixture[str]) -> None:
    for command in ("ads", "file", "run", "check"):
        with pytest.raises(SystemExit) as stopped:
            main([command, "--help"])
        assert stopped.value.code == 0
        assert "Exit code" in capsys.readouterr().out


def test_a_token_comes_from_the_environment_or_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(INGEST_TOKEN, raising=False)
    assert bearer(INGEST_TOKEN) == {}
    (tmp_path / "token").write_text("from-file\n")
    monkeypatch.setenv(f"{INGEST_TOKEN}_FILE", str(tmp_path / "token"))
    assert bearer(INGEST_TOKEN) == {"Authorization": "Bearer from-file"}
    monkeypatch.setenv(INGEST_TOKEN, "s3cret")
    assert bearer(INGEST_TOKEN) == {"Authorization": "Bearer s3cret"}
    for bad in ("a b", "a\nb", "é"):
        monkeypatch.setenv(INGEST_TOKEN, bad)
        assert main(["run", "--sources", "http://127.0.0.1:1"]) == 2


async def check(redis: EmbeddedRedis, run_file: Path, *more: str) -> tuple[int, dict[str, object]]:
    """The `check` command on a run's JSON: its exit code and its verdict."""
    process = await asyncio.create_subprocess_exec(
        *COMMAND, "check", "--run", str(run_file), "--redis", redis.url, "--window-ms", "500",
        "--json", "-", *more,
        stdout=subprocess.PIPE,
    )  # fmt: skip
    out, _ = await process.communicate()
    assert process.returncode is not None
    return process.returncode, json.loads(out)


async def test_run_stopped_by_sigterm_then_check(redis_server: EmbeddedRedis, tmp_path: Path) -> None:
    sources = [MisbehavingSource({4: THROTTLE}), MisbehavingSource()]
    urls = [await source.start() for source in sources]
    run_file = tmp_path / "run.json"
    process = await asyncio.create_subprocess_exec(
        *COMMAND, "run", "--sources", ",".join(urls), "--rate", "1000", "--seconds", "3600", "--seed", "6",
        "--progress", "--json", str(run_file),
        stdout=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    lines = [json.loads(await process.stdout.readline()) for _ in range(3)]
    assert lines[-1]["sent"] > 0
    process.send_signal(signal.SIGTERM)
    rest, _ = await process.communicate()
    assert process.returncode == 0
    assert all(json.loads(line)["sent"] for line in rest.splitlines())
    for source in sources:
        await source.stop()

    result = json.loads(run_file.read_text())
    taken = [line for source in sources for body in source.taken for line in body.splitlines()]
    assert result["stopped"] == "by a signal"
    assert result["sent"] == result["acknowledged"] == len(taken) > 0
    counts: Counts = naive_counts(6, taken, 500)
    await write_rows(redis_server.url, "ysb", counts, updated_ms=result["start_ms"] + 5000)

    code, verdict = await check(redis_server, run_file)
    assert (code, verdict["exact"], verdict["counted"]) == (0, True, sum(counts.values()))
    latency = verdict["latency_ms"]
    assert isinstance(latency, dict)
    assert latency["max"] == 4500  # the first window ends 500 ms after the start, at a full second

    since = ("--windows-from", str(result["start_ms"]))
    campaign, _ = next(iter(counts))
    earlier = Counts({(campaign, result["start_ms"] - 500): 7})
    await write_rows(redis_server.url, "ysb", earlier)
    assert (await check(redis_server, run_file))[0] == 1
    assert (await check(redis_server, run_file, *since))[0] == 0

    counts[next(iter(counts))] += 2
    await write_rows(redis_server.url, "ysb", counts)
    code, verdict = await check(redis_server, run_file, "--timeout", "0.3", *since)
    assert (code, verdict["exact"], verdict["wrong"], verdict["duplicates"]) == (1, False, 1, 2)


async def test_a_run_that_is_refused_exits_with_1_and_still_reports() -> None:
    source = MisbehavingSource()
    await source.start()
    process = await asyncio.create_subprocess_exec(
        *COMMAND, "run", "--sources", f"{source.url},{source.url}", "--rate", "100", "--seconds", "0.2",
        "--json", "-", "--give-up-after", "0.2",
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    await source.stop()
    out, err = await process.communicate()
    assert process.returncode == 1
    result = json.loads(out)
    assert "took nothing for 0.2 s" in result["stopped"]
    assert result["acknowledged"] == 0
    assert b"stopped" in err

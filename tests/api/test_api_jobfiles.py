"""Jobs as bytes, and files that hold jobs."""

from __future__ import annotations

import pickle
import sys
from collections.abc import Callable
from pathlib import Path
from textwrap import dedent

import polars as pl
import pytest

import drizzle_streams as dz
from drizzle_streams.engine import shipping
from drizzle_streams.engine.shipping import load_program, ship_program
from drizzle_streams.errors import BuildError, ProtocolError
from drizzle_streams.protocol import jobfile
from drizzle_streams.protocol.jobfile import JobFile, pack_job, unpack_job
from tests.api.api_worlds import AnySink, clicks, counted

WriteFile = Callable[[str], Path]

JOB = """
    import drizzle_streams as dz
    import polars as pl

    clicks = dz.stream("clicks", schema={"page": pl.String, "at": pl.Int64}, event_time="at")
    counts = clicks.window(dz.tumbling("10s")).group_by("page").agg(n=dz.count())
    job = counts.to(dz.redis("clicks")).job("clicks")
"""


@pytest.fixture
def write_file(tmp_path: Path) -> WriteFile:
    def write(text: str) -> Path:
        path = tmp_path / "some job.py"
        path.write_text(dedent(text).lstrip())
        return path

    return write


# -- bytes


def test_a_job_comes_back_from_its_bytes() -> None:
    table = dz.table(pl.DataFrame({"page": ["/"], "topic": ["home"]}))
    joined = clicks().filter(pl.col("amount") > 1).join(table, on="page").group_by("topic").agg(n=dz.count())
    job = joined.to(AnySink()).job("j")
    made, found = job.compile(), dz.Job.from_bytes(job.to_bytes())
    assert found.spec == made.spec
    assert [str(stage).replace("<Expr", "")[:40] for stage in found.program.stages] == [
        str(stage).replace("<Expr", "")[:40] for stage in made.program.stages
    ]
    ((name, rows),) = found.program.tables.items()
    assert rows.equals(made.program.tables[name])
    assert found.program.stages[-1].sink == AnySink()


def test_the_coordinators_half_needs_no_program() -> None:
    file = unpack_job(counted().to(AnySink()).job("j").to_bytes())
    assert file.spec.job == "j"
    assert pack_job(JobFile(file.spec, b"anything")) != b""


def test_the_same_job_gives_the_same_bytes() -> None:
    job = counted().to(AnySink()).job("j")
    assert job.to_bytes() == job.to_bytes()


@pytest.mark.parametrize(
    "data", [b"", b"GET / HTTP/1.1", b"DRZJOB", b"DRZJOB\x00\x01", b"DRZJOB\x00\x01\xff\xff"]
)
def test_bytes_that_are_no_job_are_refused(data: bytes) -> None:
    with pytest.raises(ProtocolError):
        unpack_job(data)


def test_a_job_of_another_format_says_so() -> None:
    data = counted().to(AnySink()).job("j").to_bytes()
    with pytest.raises(ProtocolError, match=r"job file: format: wanted 1, found 9\. Submit with the release"):
        unpack_job(data[:6] + b"\x00\x09" + data[8:])


def test_a_job_too_large_is_refused_on_both_sides(monkeypatch: pytest.MonkeyPatch) -> None:
    job = counted().to(AnySink()).job("j")
    data = job.to_bytes()
    monkeypatch.setattr(jobfile, "JOB_BYTES_MAX", 100)
    with pytest.raises(BuildError, match=r"job 'j': wanted at most 100 bytes with its tables"):
        job.to_bytes()
    with pytest.raises(ProtocolError, match="at most 100"):
        unpack_job(data)


def test_a_program_of_other_versions_is_not_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    program = counted().to(AnySink()).job("j").compile().program
    data = ship_program(program)
    monkeypatch.setattr(shipping, "_versions", lambda: {"python": "3.99", "polars": "9.9"})
    with pytest.raises(
        ProtocolError, match=r"wanted one made with .*3\.99.*found .*Submit it with the versions"
    ):
        load_program(data)


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: b"",
        lambda data: b"DRZPRG\x01",
        lambda data: b"DRZPRG\x01\xff\xff" + data[9:],
        lambda data: b"DRZPRG\x01\x00\x02{x" + data[9:],
        lambda data: data[:-20],
        lambda data: data[:60] + pickle.dumps("a text"),
    ],
)
def test_damaged_programs_are_errors(damage: Callable[[bytes], bytes]) -> None:
    data = ship_program(counted().to(AnySink()).job("j").compile().program)
    with pytest.raises(ProtocolError, match=r"^program: wanted .*\. (Submit|Install)"):
        load_program(damage(data))


# -- files


def test_the_jobs_of_a_file_are_found_in_order(write_file: WriteFile) -> None:
    path = write_file(JOB + "    also = job\n    second = counts.to(dz.console()).job('second')\n    n = 3\n")
    assert [job.name for job in dz.load_jobs(path)] == ["clicks", "second"]
    assert [job.name for job in dz.load_jobs(str(path))] == ["clicks", "second"]


def test_a_file_is_not_main_when_it_is_loaded(write_file: WriteFile) -> None:
    path = write_file(JOB + "    if __name__ == '__main__':\n        raise SystemExit('run as a script')\n")
    assert len(dz.load_jobs(path)) == 1


def test_functions_of_a_file_travel_by_value(write_file: WriteFile) -> None:
    path = write_file("""
        import polars as pl
        import drizzle_streams as dz

        FACTOR = 3

        def scaled(column: pl.Series) -> pl.Series:
            return column * FACTOR

        x = pl.col("x").map_batches(scaled, return_dtype=pl.Int64, is_elementwise=True)
        job = dz.stream("s", schema={"x": pl.Int64}).select(x).to(dz.console()).job("scaled")
    """)
    (job,) = dz.load_jobs(path)
    data = job.to_bytes()
    assert "__drizzle_job__" not in sys.modules
    (step,) = dz.Job.from_bytes(data).program.stages[0].steps
    assert pl.DataFrame({"x": [1, 2]}).select(*step.exprs)["x"].to_list() == [3, 6]  # pyright: ignore[reportAttributeAccessIssue]


def test_a_file_may_import_what_lies_beside_it(write_file: WriteFile, tmp_path: Path) -> None:
    (tmp_path / "jobs_neighbour_7.py").write_text("NAME = 'from-beside'\n")
    path = write_file(
        JOB.replace('job("clicks")', "job(NAME)").replace(
            "import polars", "from jobs_neighbour_7 import NAME\n    import polars"
        )
    )
    before = list(sys.path)
    assert [job.name for job in dz.load_jobs(path)] == ["from-beside"]
    assert sys.path == before


@pytest.mark.parametrize(
    ("text", "wording"),
    [
        ("x = 1\n", r"^job file '.*some job\.py': wanted a job in a global name, found none\. End it with"),
        (
            "x = 1\ny = (\n",
            r"some job\.py, line 2: wanted a job file that runs to its end, found SyntaxError: '\(' was",
        ),
        (
            "x = 1\nimport nowhere_to_be_found\n",
            r"line 2: .*found ModuleNotFoundError: .*Install 'nowhere_to_be_found'",
        ),
        ("def f():\n    return 1 / 0\n\nf()\n", r"line 2: .*found ZeroDivisionError: division by zero"),
        ("import sys\nsys.exit(3)\n", r"line 2: .*found SystemExit: 3"),
        (
            "import drizzle_streams as dz\n\ns = dz.stream('s', schema={'a': int})\ns.select('b')\n",
            r"some job\.py, line 4: stream 's': select: wanted one of the columns 'a', found 'b'",
        ),
        (
            JOB + "    again = counts.to(dz.console()).job('clicks')\n",
            r"wanted jobs of different names, found 2 jobs named",
        ),
    ],
)
def test_a_file_that_cannot_be_used_says_why_in_one_line(
    write_file: WriteFile, text: str, wording: str
) -> None:
    with pytest.raises(BuildError, match=wording) as caught:
        dz.load_jobs(write_file(text))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["nowhere.py", "."])
def test_a_file_that_is_not_there_says_so(tmp_path: Path, name: str) -> None:
    with pytest.raises(BuildError, match=r"job file '.*': wanted a Python file, found no such file"):
        dz.load_jobs(tmp_path / name)


def test_a_binary_file_says_so(tmp_path: Path) -> None:
    path = tmp_path / "job.py"
    path.write_bytes(b"\x00\xff\x00")
    with pytest.raises(BuildError, match="wanted a job file that runs to its end"):
        dz.load_jobs(path)


@pytest.mark.parametrize("future", ["", "from __future__ import annotations\n"])
def test_a_file_may_make_dataclasses_and_its_functions_still_travel_by_value(
    write_file: WriteFile, future: str
) -> None:
    file = write_file(JOB)
    file.write_text(
        future
        + "from dataclasses import dataclass\n\n@dataclass\nclass Page:\n    path: str\n\n"
        + file.read_text()
    )
    (job,) = dz.load_jobs(file)
    assert "__drizzle_job__" not in sys.modules
    assert dz.Job.from_bytes(job.to_bytes()).spec == job.compile().spec

"""`python job.py` submits what the file describes, and nothing that nobody would expect."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from textwrap import dedent

import pytest

from tests.api.stub_cluster import StubCluster, stub_cluster

ROOT = Path(__file__).resolve().parents[2]

JOB = """
    import sys
    import drizzle_streams as dz
    import polars as pl

    clicks = dz.stream("clicks", schema={"page": pl.String, "at": pl.Int64}, event_time="at")
    counts = clicks.window(dz.tumbling("10s")).group_by("page").agg(n=dz.count())
    job = counts.to(dz.redis("clicks")).job("clicks")
"""


def python(
    folder: Path, cluster: StubCluster | None, *arguments: str, stdin: str | None = None, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run the interpreter in a folder, the cluster's address in its environment."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("DRIZZLE_")}
    path = os.pathsep.join([str(ROOT / "services"), os.environ.get("PYTHONPATH", "")])
    address = {"DRIZZLE_CLUSTER": cluster.address, "DRIZZLE_TOKEN": "secret"} if cluster else {}
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env=kept | {"PYTHONPATH": path} | address | environment,
        input=stdin,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def write(folder: Path, text: str, name: str = "job.py") -> Path:
    path = folder / name
    path.write_text(dedent(text).lstrip())
    return path


def run(folder: Path, text: str, **environment: str) -> tuple[StubCluster, subprocess.CompletedProcess[str]]:
    """Write a job file and run it against a stub."""
    write(folder, text)
    with stub_cluster() as cluster:
        found = python(folder, cluster, "job.py", **environment)
    return cluster, found


def test_a_script_submits_its_job_when_it_ends(tmp_path: Path) -> None:
    cluster, found = run(tmp_path, JOB + "    print('the last line')\n")
    assert found.returncode == 0, found.stderr
    assert found.stdout.splitlines() == [
        "the last line",
        "Job 'clicks' is running. Stop it with: drizzle stop clicks",
    ]
    assert cluster.jobs == ["clicks"]


def test_a_script_submits_every_job_that_still_has_a_name(tmp_path: Path) -> None:
    more = """
    second = counts.to(dz.console()).job("second")
    forgotten = counts.to(dz.console()).job("forgotten")
    del forgotten
    counts.to(dz.console()).job("never named")  if False else None
"""
    cluster, found = run(tmp_path, JOB + more)
    assert found.returncode == 0, found.stderr
    assert cluster.jobs == ["clicks", "second"]


def test_functions_of_a_script_travel_by_value(tmp_path: Path) -> None:
    script = """
        import drizzle_streams as dz
        import polars as pl

        def scaled(column: pl.Series) -> pl.Series:
            return column * 3

        x = pl.col("x").map_batches(scaled, return_dtype=pl.Int64, is_elementwise=True)
        job = dz.stream("s", schema={"x": pl.Int64}).select(x).to(dz.console()).job("scaled")
    """
    cluster, found = run(tmp_path, script)
    assert found.returncode == 0, found.stderr
    loaded = """
        import sys
        import polars as pl
        import drizzle_streams as dz
        from drizzle_streams.protocol.jobfile import unpack_job
        from drizzle_streams.engine.shipping import load_program

        (step,) = load_program(unpack_job(open("job.bin", "rb").read()).program).stages[0].steps
        print(pl.DataFrame({"x": [2]}).select(*step.exprs).item())
    """
    ((_, _, body),) = cluster.posts
    (tmp_path / "job.bin").write_bytes(body)
    write(tmp_path, loaded, "worker.py")
    assert python(tmp_path, None, "worker.py").stdout == "6\n"


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (JOB + "    1 / 0\n", 1),
        (JOB + "    sys.exit(0)\n", 0),
        (JOB + "    sys.exit('arguments are missing')\n", 1),
        (JOB + "    raise KeyboardInterrupt\n", None),
        ("    raise ValueError\n" + JOB, 1),
    ],
)
def test_a_script_that_does_not_reach_its_end_submits_nothing(
    tmp_path: Path, text: str, code: int | None
) -> None:
    cluster, found = run(tmp_path, text)
    assert cluster.posts == []
    assert found.returncode == code or (code is None and found.returncode != 0)


@pytest.mark.parametrize(
    "more",
    [
        "    print(len(job.to_bytes()) > 100)\n",
        "    print(job.compile().spec.job == 'clicks')\n",
    ],
)
def test_a_script_that_does_something_with_its_job_has_decided(tmp_path: Path, more: str) -> None:
    cluster, found = run(tmp_path, JOB + more)
    assert (found.returncode, found.stdout) == (0, "True\n"), found.stderr
    assert cluster.posts == []


def test_a_script_that_submits_does_it_once(tmp_path: Path) -> None:
    cluster, found = run(tmp_path, JOB + "    print(job.submit())\n")
    assert (found.returncode, found.stdout) == (0, "clicks\n"), found.stderr
    assert cluster.jobs == ["clicks"]


@pytest.mark.parametrize(
    "text",
    [
        JOB + "    import os\n    if os.fork():\n        os.wait()\n        sys.exit(0)\n",
        "    import builtins\n    builtins.__IPYTHON__ = True\n" + JOB,
    ],
    ids=["a forked child", "a notebook"],
)
def test_forked_children_and_notebooks_submit_nothing(tmp_path: Path, text: str) -> None:
    cluster, found = run(tmp_path, text)
    assert found.returncode == 0, found.stderr
    assert cluster.posts == []


def test_the_environment_may_forbid_it(tmp_path: Path) -> None:
    cluster, found = run(tmp_path, JOB, DRIZZLE_NO_SUBMIT="1")
    assert (found.returncode, found.stdout, cluster.posts) == (0, "", [])


def test_an_import_submits_nothing(tmp_path: Path) -> None:
    write(tmp_path, JOB, "described.py")
    cluster, found = run(tmp_path, "    from described import job\n\n    print(job.name)\n")
    assert (found.returncode, found.stdout) == (0, "clicks\n"), found.stderr
    assert cluster.posts == []


def test_a_job_made_by_an_imported_function_is_not_the_scripts(tmp_path: Path) -> None:
    indented = "\n".join(f"    {line}" for line in dedent(JOB).splitlines())
    (tmp_path / "described.py").write_text(f"def make():{indented}\n    return job\n")
    cluster, found = run(tmp_path, "    from described import make\n\n    job = make()\n")
    assert found.returncode == 0, found.stderr
    assert cluster.posts == []


def test_a_job_made_in_a_function_of_the_script_is_its_own(tmp_path: Path) -> None:
    indented = "\n".join(f"    {line}" for line in dedent(JOB).splitlines())
    cluster, found = run(tmp_path, f"def make():{indented}\n    return job\n\njob = make()\n")
    assert found.returncode == 0, found.stderr
    assert cluster.jobs == ["clicks"]


def test_a_module_run_as_a_script_is_one(tmp_path: Path) -> None:
    write(tmp_path, JOB, "described.py")
    with stub_cluster() as cluster:
        found = python(tmp_path, cluster, "-m", "described")
    assert found.returncode == 0, found.stderr
    assert cluster.jobs == ["clicks"]


@pytest.mark.parametrize("arguments", [("-c", dedent(JOB)), ("-i", "job.py"), ("-",)])
def test_what_is_no_script_submits_nothing(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    write(tmp_path, JOB)
    with stub_cluster() as cluster:
        found = python(tmp_path, cluster, *arguments, stdin=dedent(JOB))
    assert cluster.posts == [], found.stdout


def test_a_refused_job_is_one_line_and_exit_code_two(tmp_path: Path) -> None:
    write(tmp_path, "    import atexit\n    atexit.register(lambda: print('registered before'))\n" + JOB)
    with stub_cluster((409, b"clicks runs")) as cluster:
        found = python(tmp_path, cluster, "job.py")
    assert found.returncode == 2
    assert found.stderr.count("\n") == 1
    assert found.stderr.startswith(
        f"drizzle: cluster {cluster.address}: wanted no job of that name, found 409"
    )
    assert found.stdout == "registered before\n", "nobody else's callback is lost"


def test_other_callbacks_at_exit_never_run_twice(tmp_path: Path) -> None:
    write(tmp_path, JOB + "    import atexit\n    atexit.register(lambda: print('registered after'))\n")
    with stub_cluster((400, b"no")) as cluster:
        found = python(tmp_path, cluster, "job.py")
    assert (found.returncode, found.stdout) == (2, "registered after\n")

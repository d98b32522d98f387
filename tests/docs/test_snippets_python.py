"""Every block of Python in the documents runs: page by page, from top to bottom, as a reader would."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

import polars as pl
import pytest

import drizzle_streams as dz
from tests.docs.pages import ROOT, Code, codes, name, pages

WITH_PYTHON = [page for page in pages() if codes(page, "python")]
MARKS = {"", "file", "no-run"}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where a reader of a page would be: an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DRIZZLE_NO_SUBMIT", "1")
    return tmp_path


@pytest.mark.parametrize("page", WITH_PYTHON, ids=name)
@pytest.mark.usefixtures("folder")
def test_the_python_of_a_page_runs(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("__drizzle_docs__")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    for code in codes(page, "python"):
        assert code.mark[0] in MARKS, f"{code}: {code.mark}"
        if code.mark[0] == "no-run":
            assert code.mark[1], f"{code}: a reason"
            continue
        run(code, module)


def run(code: Code, module: ModuleType) -> None:
    """Run a block with the line numbers of its page, so that a traceback shows where."""
    source = "\n" * code.line + code.text
    compiled = compile(source, str(ROOT / code.page), "exec", dont_inherit=True)
    exec(compiled, module.__dict__)


def test_a_block_that_fails_fails() -> None:
    with pytest.raises(ZeroDivisionError):
        run(Code("README.md", 1, "python", ("", ""), "1 / 0\n"), ModuleType("planted"))


def test_the_job_of_the_readme_is_the_job_of_the_examples(folder: Path) -> None:
    """As `drizzle submit` reads it: the same stages and columns, and short."""
    (block,) = [code for code in codes(ROOT / "README.md") if code.mark == ("file", "job.py")]
    (folder / "job.py").write_text(block.text)
    pl.DataFrame({"ad_id": ["ad-1"], "campaign_id": ["campaign-1"]}).write_parquet("ads.parquet")
    (ours,) = dz.load_jobs(folder / "job.py")
    (examples,) = dz.load_jobs(ROOT / "examples" / "ysb.py")
    assert ours.compile().spec == examples.compile().spec
    assert (ours.schema, ours.keys) == (examples.schema, examples.keys)
    assert len(block.text.splitlines()) < 20


def test_the_sink_of_the_guide_travels_with_its_job(folder: Path) -> None:
    """A class of a job file goes to the workers by value."""
    block = codes(ROOT / "docs" / "contributing.md", "python")[1]
    (folder / "job.py").write_text(block.text)
    (job,) = dz.load_jobs(folder / "job.py")
    assert dz.Job.from_bytes(job.to_bytes()).program.stages[-1].sink.kind == "sqlite"  # type: ignore[attr-defined]

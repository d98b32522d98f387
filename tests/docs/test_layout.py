"""The repository keeps its own rules: directions of imports, pinned requirements, nothing of one machine.

Each rule that a tool checks is also shown to fail: a planted import must break its contract.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = (ROOT / "services" / "drizzle_streams", ROOT / "loadgen" / "drizzle_loadgen")
PINNED = re.compile(r"(?P<name>[\w.-]+)==(?P<version>[^\s;]+)(?: ; [^-]+?)?(?: --hash=sha256:[0-9a-f]{64})+")
# Spelt so that this file does not hold what it looks for.
FOREIGN = re.compile(
    r"p[y]pi\.org|p[y]thonhosted|d[e]b\.debian\.org|registry\.n[p]mjs|npm[j]s\.org"
    r"|(?<![\w.])/(?:w[o]rk|f[a]rm)/|\.p[y]env\b|(?<![\w.])/h[o]me/\w+/|(?<![\w.])/U[s]ers/\w+/"
)


def lint_imports(folder: Path) -> subprocess.CompletedProcess[str]:
    """Run the import contracts over the packages in `folder`, whatever is installed."""
    command = Path(sys.executable).with_name("lint-imports")
    path = os.pathsep.join(str(folder / package.relative_to(ROOT).parent) for package in PACKAGES)
    return subprocess.run(
        [command, "--no-logo", "--no-cache"],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": path, "COLUMNS": "500"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_import_contracts_are_kept() -> None:
    found = lint_imports(ROOT)
    assert found.returncode == 0, found.stdout + found.stderr


@pytest.mark.parametrize(
    ("room", "line", "contract"),
    [
        ("core", "import asyncio", "core decides"),
        ("core", "import polars", "core decides"),
        ("model", "import time", "core decides"),
        ("engine", "import aiohttp", "engine computes"),
        ("runtime", "import drizzle_streams.worker", "Imports go down only"),
        ("runtime", "import drizzle_streams.transport.planted_http", "runtime knows"),
        ("worker", "import drizzle_streams.source", "Imports go down only"),
        ("api", "import drizzle_streams.runtime", "api describes"),
        ("cli", "import drizzle_loadgen", "nothing imports the loadgen"),
    ],
)
def test_a_planted_import_breaks_its_contract(tmp_path: Path, room: str, line: str, contract: str) -> None:
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    for package in PACKAGES:
        target = tmp_path / package.relative_to(ROOT)
        shutil.copytree(package, target, ignore=shutil.ignore_patterns("__pycache__"))
    streams = tmp_path / "services" / "drizzle_streams"
    (streams / room / "planted.py").write_text(f'"""Planted."""\n\n{line}\n')
    (streams / "transport" / "planted_http.py").write_text('"""Planted: one kind of transport."""\n')
    if room == "model":  # core is judged through what it imports, too
        (streams / "core" / "planted.py").write_text("import drizzle_streams.model.planted\n")

    found = lint_imports(tmp_path)

    assert found.returncode == 1, found.stdout + found.stderr
    assert any(contract in row and " BROKEN" in row for row in found.stdout.splitlines()), found.stdout


def test_every_folder_with_modules_is_a_package() -> None:
    folders = {module.parent for package in PACKAGES for module in package.rglob("*.py")}
    assert [folder for folder in sorted(folders) if not (folder / "__init__.py").is_file()] == []


def test_tracked_files_hold_no_registry_host_and_no_path_of_a_machine() -> None:
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout: no list of tracked files")
    listed = subprocess.run(
        ["git", "-c", f"safe.directory={ROOT}", "ls-files", "-z"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    tracked = [name for name in listed.stdout.split("\0") if (ROOT / name).is_file()]
    assert "pyproject.toml" in tracked
    found = [f"{name}:{row}" for name in tracked for row in foreign_rows((ROOT / name).read_bytes())]
    assert found == []


def foreign_rows(raw: bytes) -> list[str]:
    """Rows of a text file that only mean something on one machine; a binary file has none."""
    if b"\0" in raw[:8192]:
        return []
    rows = raw.decode(errors="replace").splitlines()
    return [f"{n}: {row}" for n, row in enumerate(rows, 1) if FOREIGN.search(row)]


def test_foreign_rows_finds_what_it_looks_for() -> None:
    planted = "index: https://py" + "pi.org/simple\ncd /wo" + "rk/main\nhomework/main is fine\n"
    assert foreign_rows(planted.encode()) == [f"{n}: {planted.splitlines()[n - 1]}" for n in (1, 2)]
    assert foreign_rows(b"\0" + planted.encode()) == []


def pins(name: str) -> dict[str, str]:
    """Name → version of a compiled requirements file; fails on any line that is not a hashed pin."""
    text = (ROOT / "requirements" / name).read_text()
    logical = text.replace("\\\n", " ")
    found: dict[str, str] = {}
    for line in logical.splitlines():
        requirement = " ".join(line.split())
        if requirement and not requirement.startswith("#"):
            match = PINNED.fullmatch(requirement)
            assert match, f"{name}: not a pin with hashes: {requirement}"
            found[match["name"]] = match["version"]
    return found


@pytest.mark.parametrize("name", ["runtime.txt", "dev.txt"])
def test_requirements_are_pinned_by_hash_and_name_no_index(name: str) -> None:
    assert pins(name)
    text = (ROOT / "requirements" / name).read_text()
    assert "://" not in text
    assert not re.search(r"(^|\s)(--(extra-)?index-url|--find-links|-i|-f)\b", text, re.MULTILINE)
    assert not re.search(r"(^|\s)/\w", text, re.MULTILINE), "a path of the machine that made the lock"


def test_locks_follow_the_declared_dependencies() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    runtime, dev = pins("runtime.txt"), pins("dev.txt")
    declared = [Requirement(line) for line in project["dependencies"]]
    stale = [str(need) for need in declared if not need.specifier.contains(runtime.get(need.name, "0"))]
    assert stale == [], "run `make lock`"
    assert runtime.items() <= dev.items(), "tests must run with the versions users get"

"""Every command that the documents show exists: its subcommand, its flags, its make target, its files."""

from __future__ import annotations

import argparse
import os
import re
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from drizzle_loadgen import cli as loadgen
from drizzle_streams.cli import main as drizzle
from tests.docs.pages import ROOT, Code, codes, pages, prose, rows

SHELL = [code for page in pages() for code in codes(page, "sh")]
TARGETS = re.findall(r"^([a-z-]+):.*?## ", (ROOT / "Makefile").read_text(), re.MULTILINE)
ALL_TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
COMPOSE = yaml.safe_load((ROOT / "compose.yaml").read_text())
WORKLOADS = {
    found["metadata"]["name"]
    for file in (ROOT / "k8s").rglob("*.yaml")
    for found in yaml.safe_load_all(file.read_text())
    if found and found["kind"] in ("Deployment", "StatefulSet", "Job")
}
PLAIN = {"git", "cd", "curl", ".", "echo", "export", "kind"}
"""Commands of others: not ours to check."""


def commands(text: str) -> list[list[str]]:
    """The simple commands of a block: comments and continuations resolved, joined ones apart."""
    found: list[list[str]] = []
    for line in text.replace("\\\n", " ").splitlines():
        for part in line.split("&&"):
            words = shlex.split(part, comments=True)
            if words and re.match(r"\w+=\$\(", words[0]):
                continue  # a value that another program gives
            while words and re.fullmatch(r"\w+=.*", words[0]):
                words = words[1:]
            if words:
                found.append(words)
    return found


def check_all(text: str, *, names_too: bool = False) -> None:
    """Fail unless every command of a text can be given; `names_too`: or is the bare name of one."""
    for words in commands(text):
        if not (
            names_too and words[0] == "drizzle" and words[1:] == [words[-1]] and words[1] in drizzle.COMMANDS
        ):
            check(words)


def check(words: list[str]) -> None:
    """Fail unless our command would take these words."""
    program = words[0].removeprefix(".venv/bin/")
    if program == "make":
        check_make(words[1:])
    elif program == "drizzle":
        parse(drizzle._parser(words[1:]), words[1:])
    elif words[:3] == ["python", "-m", "drizzle_loadgen"]:
        parse(loadgen._parser(), words[3:])
    elif program == "python":
        assert (ROOT / words[1]).is_file() or words[1] == "job.py", words
    elif program == "pytest":
        check_pytest(words[1:])
    elif words[:2] == ["docker", "compose"]:
        check_compose(words[2:])
    elif words[:2] == ["docker", "build"]:
        assert (ROOT / words[words.index("-f") + 1]).is_file(), words
    elif program == "kubectl":
        check_kubectl(words[1:])
    elif program.startswith("k8s/"):
        assert os.access(ROOT / program, os.X_OK), words
    else:
        assert program in PLAIN, words


def parse(parser: argparse.ArgumentParser, arguments: list[str]) -> None:
    try:
        parser.parse_args(arguments)
    except SystemExit as end:
        if end.code:
            raise AssertionError(f"{parser.prog} {shlex.join(arguments)}") from end


def check_make(arguments: list[str]) -> None:
    for word in arguments:
        if word.startswith("ARGS=") and "demo" in arguments:
            check(["drizzle", "demo", *shlex.split(word.removeprefix("ARGS="))])
        elif "=" not in word and not word.startswith("-"):
            assert word in ALL_TARGETS, f"make {word}"


def check_compose(arguments: list[str]) -> None:
    """What names a service names one of compose.yaml; what runs in one of ours is checked too."""
    if arguments[:1] == ["--profile"]:
        profiles = {one for service in COMPOSE["services"].values() for one in service.get("profiles", [])}
        assert arguments[1] in profiles, arguments
        arguments = arguments[2:]
    verb, *rest = arguments
    scaled = [rest[at + 1].split("=")[0] for at, word in enumerate(rest) if word == "--scale"]
    plain = [word for word in rest if not word.startswith("-") and "=" not in word]
    assert verb in {"up", "stop", "down", "exec", "run", "logs", "kill", "port"}, arguments
    named = plain[:1] if verb in ("exec", "run", "port") else plain
    assert {*scaled, *named} <= COMPOSE["services"].keys(), arguments
    if verb == "exec" and plain[1:2] == ["drizzle"]:
        check(rest[rest.index("drizzle") :])


def check_kubectl(arguments: list[str]) -> None:
    """Folders exist, what is named is in the manifests, and what runs in a pod of ours is checked too."""
    if "-k" in arguments:
        assert (ROOT / arguments[arguments.index("-k") + 1] / "kustomization.yaml").is_file(), arguments
    for word in arguments:
        kind, _, name = word.partition("/")
        if kind in ("deploy", "statefulset", "job"):
            assert name in WORKLOADS, arguments
    if "--" in arguments and arguments[arguments.index("--") + 1] == "drizzle":
        check(arguments[arguments.index("--") + 1 :])


def check_pytest(arguments: list[str]) -> None:
    paths = [word for word in arguments if word.startswith("tests/")]
    assert paths
    for path in paths:
        assert (ROOT / path).exists(), path
    if "-k" in arguments:
        (path,) = paths
        assert f"def test_{arguments[arguments.index('-k') + 1]}" in (ROOT / path).read_text()


@pytest.mark.parametrize("code", SHELL, ids=str)
def test_commands_in_blocks_exist(code: Code) -> None:
    check_all(code.text)


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.relative_to(ROOT).as_posix())
def test_commands_in_the_text_exist(page: Path) -> None:
    for text in re.findall(r"`((?:make|drizzle|python -m drizzle_loadgen|pytest) [^`\n]+)`", prose(page)):
        check_all(text, names_too=True)


@pytest.mark.parametrize(
    "wrong",
    [
        "make no-such-target",
        'make demo ARGS="--no-such-flag"',
        "drizzle no-such-command",
        "drizzle up --no-such-flag",
        "drizzle demo --kill nobody",
        "python -m drizzle_loadgen ads",
        "python no_such_file.py",
        "pytest tests/no_such_folder",
        "pytest tests/docs/test_layout.py -k no_such_test",
        "docker compose exec no-such-service drizzle status",
        "docker compose exec coordinator drizzle no-such-command",
        "kubectl apply -k k8s/no-such-overlay",
        "kubectl -n drizzle exec deploy/no-such-workload -- drizzle status",
        "kubectl -n drizzle exec deploy/coordinator -- drizzle no-such-command",
        "k8s/no-such-script",
        "docker compose up --scale no-such-service=2",
        "no-such-program",
    ],
)
def test_a_command_that_does_not_exist_is_found(wrong: str) -> None:
    with pytest.raises(AssertionError):
        check_all(wrong)


def test_every_command_and_target_is_told_of() -> None:
    """README and the guide name each subcommand and each target that `make help` lists."""
    told = " ".join(page.read_text() for page in pages())
    is_told: Callable[[str], bool] = lambda words: re.search(rf"{words}\b", told) is not None  # noqa: E731
    assert [name for name in drizzle.COMMANDS if not is_told(f"drizzle {name}")] == []
    in_table = {
        target
        for cells in rows(ROOT / "docs" / "contributing.md", "Targets")
        for target in re.findall(r"`make ([a-z-]+)`", cells[0])
    }
    assert in_table >= {*TARGETS, *(ALL_TARGETS - {"clean"})}

"""Every command says how it is used, quickly, and names what can be set."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from drizzle_streams import config
from drizzle_streams.cli.main import COMMANDS, main

SERVICES = {
    "coordinator": config.CoordinatorServiceSettings,
    "worker": config.WorkerServiceSettings,
    "source": config.SourceServiceSettings,
}


def helped(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    with pytest.raises(SystemExit) as ended:
        main([*arguments, "--help"])
    assert ended.value.code == 0
    return capsys.readouterr().out


def test_help_lists_every_command_with_what_it_does(capsys: pytest.CaptureFixture[str]) -> None:
    said = " ".join(helped(capsys).split())
    for command, says in COMMANDS.items():
        assert f" {command} {says}" in said


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_a_command_says_what_it_does_and_shows_an_example(
    capsys: pytest.CaptureFixture[str], command: str
) -> None:
    said = helped(capsys, command)
    assert COMMANDS[command] in " ".join(said.split())
    assert re.search(rf"^examples?:\n(.*\n)*  .*drizzle {command}", said, re.MULTILINE), said


@pytest.mark.parametrize("command", SERVICES)
def test_help_of_a_service_names_every_setting_and_its_variable(
    capsys: pytest.CaptureFixture[str], command: str
) -> None:
    said = helped(capsys, command)
    for option in config.options(SERVICES[command]):
        if option.flag:
            assert f"{option.flag} " in said
            assert option.variable in said
    assert "DRIZZLE_TOKEN_FILE" in said, "the token has no flag, but must be found"


def test_nothing_asked_for_is_help_and_exit_code_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert "drizzle demo" in capsys.readouterr().out


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert ended.value.code == 0
    assert re.fullmatch(r"drizzle \d+\.\d+\.\d+\n", capsys.readouterr().out)


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help_needs_neither_frames_nor_sockets(command: str) -> None:
    """A person waits for it: what takes a tenth of a second to import is not imported."""
    heavy = ("polars", "aiohttp", "redis", "rich", "uvloop")
    code = (
        "import sys\nfrom drizzle_streams.cli.main import main\n"
        f"try: main({[*command.split(), '--help']!r})\nexcept SystemExit: pass\n"
        f"print([name for name in {heavy!r} if name in sys.modules], file=sys.stderr)"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code], check=False, capture_output=True, timeout=60, text=True
    )
    assert (ended.stderr.strip(), "usage: drizzle" in ended.stdout) == ("[]", True)

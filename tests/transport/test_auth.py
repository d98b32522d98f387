"""Which header opens which door."""

from __future__ import annotations

import pytest

from drizzle_streams.errors import ConfigError
from drizzle_streams.transport.auth import PUBLIC, Bearer, BearerOf, admits, cluster, header


def test_a_public_door_is_open() -> None:
    assert admits(PUBLIC, None, {})
    assert admits(PUBLIC, "nonsense", {})


WRONG = ["", "Bearer", "Bearer ", "secret", "bearer secret", "Basic secret", "Bearer secre", "Bearer secrett"]
STRANGE = ["Bearer  secret", "Bearer secret ", "Bearer Secret", "Bearer s\u00e9cret", "Bearer \udcff"]


@pytest.mark.parametrize("presented", [None, *WRONG, *STRANGE])
def test_anything_but_the_token_is_refused(presented: str | None) -> None:
    assert not admits(cluster("secret"), presented, {})


def test_the_token_opens() -> None:
    assert admits(cluster("secret"), header("secret"), {})


def test_while_a_token_is_replaced_both_open() -> None:
    key = Bearer("cluster token", ("new", "old"))
    assert admits(key, header("new"), {})
    assert admits(key, header("old"), {})
    assert not admits(key, header("older"), {})


def test_a_token_may_depend_on_what_is_asked_for() -> None:
    tokens = {"clicks": ("c",), "views": ("v", "w")}
    key = BearerOf("ingest token", lambda variables: tokens.get(variables["stream"], ()))
    assert admits(key, header("c"), {"stream": "clicks"})
    assert admits(key, header("w"), {"stream": "views"})
    assert not admits(key, header("c"), {"stream": "views"})
    assert not admits(key, header(""), {"stream": "unknown"})


@pytest.mark.parametrize("tokens", [(), ("",), ("with space",), ("ok", "line\nbreak"), ("\u00e9",)])
def test_a_token_nobody_could_present_is_a_config_error(tokens: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError, match="printable ASCII"):
        Bearer("cluster token", tokens)

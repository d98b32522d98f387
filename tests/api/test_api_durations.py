from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drizzle_streams.api.durations import format_ms, parse_ms, parse_whole_ms
from drizzle_streams.errors import BuildError


@pytest.mark.parametrize(
    ("text", "millis"),
    [
        ("50ms", 50),
        ("10s", 10_000),
        ("1m", 60_000),
        ("2h", 7_200_000),
        ("1d", 86_400_000),
        ("1m30s", 90_000),
        ("1h 30m", 5_400_000),
        ("0.5s", 500),
        ("500us", 0.5),
        (" 10s ", 10_000),
        ("0s", 0),
        (timedelta(seconds=2), 2_000),
    ],
)
def test_durations_are_read(text: str | timedelta, millis: float) -> None:
    assert parse_ms(text, "x") == millis


@pytest.mark.parametrize(
    "text", ["", "10", "ten seconds", "10 sec", "-1s", "1.s", "s", "1e3s", 10, 1.5, None, True]
)
def test_what_is_no_duration_is_refused_with_an_example(text: object) -> None:
    with pytest.raises(
        BuildError, match="window size: wanted a duration, found .* Write a number and a unit"
    ):
        parse_ms(text, "window size")  # pyright: ignore[reportArgumentType]


def test_bounds_are_named() -> None:
    with pytest.raises(BuildError, match="batch_interval: wanted 1ms to 1m, found '0.5ms'"):
        parse_ms("0.5ms", "batch_interval", at_least_ms=1, at_most_ms=60_000)


def test_event_time_is_counted_in_whole_milliseconds() -> None:
    with pytest.raises(BuildError, match="size: wanted whole milliseconds, found '1500us'"):
        parse_whole_ms("1500us", "size")


@given(st.integers(0, 366 * 86_400_000))
def test_what_is_written_is_read_again(millis: int) -> None:
    assert parse_ms(format_ms(millis), "x") == pytest.approx(millis, rel=1e-11)

"""A task needs no thread of Polars: the batches of a job like the benchmark's, while all of them are held.

Waiting for another thread is what a short task costs on a busy machine (see `engine.eager`), and no
figure of a test may depend on speed; that nothing waits can be shown.
"""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.engine import held_pool

ONE_THREAD = {**os.environ, "POLARS_MAX_THREADS": "1"}
"""As workers have it: with more, Polars computes the sides of an expression beside each other."""


def held(scenario: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, held_pool.__file__, scenario]
    return subprocess.run(command, env=ONE_THREAD, capture_output=True, text=True, check=False, timeout=110)


@pytest.mark.parametrize(
    ("scenario", "gives"),
    [
        ("map", "20"),  # ten campaigns from each of two partitions
        ("merge", str(held_pool.BATCHES * 2 * 200)),  # two views of three records
        ("words", "3"),
        ("grow", str(held_pool.BATCHES * 400 + 100)),
    ],
)
def test_a_task_needs_no_thread_but_its_own(scenario: str, gives: str) -> None:
    ran = held(scenario)
    assert (ran.returncode, ran.stdout) == (0, gives), ran.stderr


def test_what_waits_is_seen_to_wait() -> None:
    ran = held("grouping")
    assert ran.returncode == 1
    assert "it waits for a thread of Polars" in ran.stderr

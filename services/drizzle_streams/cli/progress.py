"""A live line while a command waits for a job; nothing of it where nobody watches."""

from __future__ import annotations

import time
from collections.abc import Collection
from typing import TYPE_CHECKING, Any

from drizzle_streams.cli.client import get_from, job_path
from drizzle_streams.cli.jobs import says

if TYPE_CHECKING:
    from drizzle_streams.api.client import Destination

LOOKS_EVERY_S = 0.2
ENDED = ("stopped", "failed")


def until_phase(to: Destination, job: str, phases: Collection[str], timeout_s: float) -> dict[str, Any]:
    """The job's values once it is in one of the phases, or has ended.

    Raises `DrizzleError` after `timeout_s`, with what the job waits for.
    """
    from rich.console import Console

    from drizzle_streams.errors import DrizzleError, explain

    deadline = time.monotonic() + timeout_s
    with Console(stderr=True).status(f"job {job} …") as line:
        while True:
            values = get_from(to, job_path(job))
            if values["phase"] in phases or values["phase"] in ENDED:
                return values
            if time.monotonic() >= deadline:
                break
            line.update(f"job {job}: {values['phase']}{_because(values)}")
            time.sleep(LOOKS_EVERY_S)
    raise DrizzleError(
        explain(
            f"job {job}",
            wanted=f"{' or '.join(phases)} within {timeout_s:g} s",
            found=values["phase"] + _because(values),
            remedy="It goes on without this command; `drizzle status` shows it.",
        )
    )


def _because(values: dict[str, Any]) -> str:
    return f", waits for {says(values)}" if values["waits_for"] else ""

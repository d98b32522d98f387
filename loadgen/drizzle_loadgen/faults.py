"""Faults at chosen moments of a run: kill, pause or resume a process that the caller names by its id.

The loadgen's schedule is the clock of a run, so a fault can be placed in it exactly. Which process plays
which role is the caller's knowledge; nothing here looks processes up.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from drizzle_loadgen.clock import Clock
from drizzle_loadgen.errors import UsageError

ACTIONS = {"kill": signal.SIGKILL, "pause": signal.SIGSTOP, "resume": signal.SIGCONT}
PID_MAX = 2**31 - 1
AT_S_MAX = 1e6


@dataclass(frozen=True, slots=True)
class Fault:
    """`action` on process `pid`, `at_s` seconds after the run's start time."""

    at_s: float
    action: str
    pid: int

    @classmethod
    def parse(cls, text: str) -> Fault:
        """From `SECONDS:kill|pause|resume:PID`; UsageError if it is something else."""
        wanted = f"wanted SECONDS:{'|'.join(ACTIONS)}:PID, found {text!r}"
        try:
            at, action, pid = text.split(":")
            fault = cls(float(at), action, int(pid))
        except ValueError as error:
            raise UsageError(f"fault: {wanted}") from error
        # 0 and below name process groups, 1 is the system's or the container's first process.
        allowed = 1 < fault.pid <= PID_MAX and fault.pid != os.getpid()
        if fault.action not in ACTIONS or not allowed or not 0 <= fault.at_s < AT_S_MAX:
            raise UsageError(f"fault: {wanted}")
        return fault

    def strike(self) -> str:
        """Send the signal; "done", or why it could not be."""
        try:
            os.kill(self.pid, ACTIONS[self.action])
        except (ProcessLookupError, PermissionError) as error:
            return f"failed: {error.strerror}"
        return "done"


async def strike_all(
    faults: Sequence[Fault], start_ms: float, clock: Clock, happened: list[dict[str, Any]]
) -> None:
    """Strike each at its moment; append to `happened` what was done and when (Unix ms)."""
    for fault in sorted(faults, key=lambda fault: fault.at_s):
        wait_s = (start_ms - clock.now_ms()) / 1000 + fault.at_s
        await asyncio.sleep(max(0.0, wait_s))
        result = fault.strike()
        happened.append(
            {"action": fault.action, "pid": fault.pid, "at_ms": round(clock.now_ms()), "result": result}
        )

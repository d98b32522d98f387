"""From the first signal to the last line: how a service process begins and ends.

- Exit codes: 0 it ended or was asked to, 2 it cannot start as configured (one
  clear line, no traceback), 1 it crashed (with traceback) or would not stop.
- SIGTERM and SIGINT ask once: `stop` is set and the service winds up. A second
  signal, or the end of the grace, cancels it. A process that is stuck even then
  (a thread that never returns) is ended by a watchdog: stopping is always bounded.
- A local child dies with its parent where the kernel can promise that (Linux).
"""

from __future__ import annotations

import asyncio
import ctypes
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Coroutine

import uvloop

from drizzle_streams.errors import ConfigError, explain

log = logging.getLogger("drizzle.runtime")

EXIT_OK = 0
EXIT_CRASH = 1
EXIT_CONFIG = 2

GRACE_S = 10.0
"""What a service gets to wind up after the first signal (compose and k8s allow more)."""
CANCELLED_GRACE_S = 3.0
"""What it gets after it was cancelled, before the watchdog ends the process."""

_PR_SET_PDEATHSIG = 1

Main = Callable[[asyncio.Event], Coroutine[object, object, None]]
"""A service: runs until it is done or the event, `stop`, is set."""


def run_service(main: Main, *, grace_s: float = GRACE_S, parent_pid: int | None = None) -> int:
    """Run `main` on uvloop to its end and return the process's exit code.

    `parent_pid`: end when that process, our parent, ends.
    """
    watchdog = threading.Timer(grace_s + CANCELLED_GRACE_S, _end_by_force)
    watchdog.daemon = True
    try:
        if parent_pid is not None:
            die_with(parent_pid)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_until_stopped(main, grace_s, watchdog))
    except asyncio.CancelledError:
        log.critical("cancelled: it did not stop when asked", extra={"grace_s": grace_s})
        return EXIT_CRASH
    except Exception as error:
        refusals = _config_errors(error)
        if not refusals:
            log.critical("crashed", exc_info=error)
            return EXIT_CRASH
        sys.stderr.writelines(f"drizzle: {refusal}\n" for refusal in refusals)
        return EXIT_CONFIG
    finally:
        watchdog.cancel()
    return EXIT_OK


def die_with(parent_pid: int) -> None:
    """Have the kernel send this process SIGTERM when its parent's starting thread ends.

    Does nothing where the kernel has no such promise. Raises `ConfigError` when
    `parent_pid` is not our parent: it may have died before the kernel knew.
    """
    if sys.platform != "linux":
        return
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")
    if os.getppid() != parent_pid:
        raise ConfigError(
            explain(
                "the parent process",
                wanted=f"process {parent_pid}",
                found=f"process {os.getppid()}",
                remedy="It has ended, so this process ends too.",
            )
        )


async def _until_stopped(main: Main, grace_s: float, watchdog: threading.Timer) -> None:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    service = asyncio.ensure_future(main(stop))

    def asked(signum: signal.Signals) -> None:
        log.info("asked to stop", extra={"signal": signum.name})
        if stop.is_set():
            service.cancel()
            return
        stop.set()
        loop.call_later(grace_s, service.cancel)
        watchdog.start()

    for signum in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(signum, asked, signum)
    await service


def _config_errors(error: BaseException) -> list[ConfigError]:
    """The reasons why it cannot start, if `error` consists of such and nothing else."""
    if isinstance(error, ConfigError):
        return [error]
    if not isinstance(error, BaseExceptionGroup):
        return []
    parts = [_config_errors(part) for part in error.exceptions]
    return [refusal for part in parts for refusal in part] if all(parts) else []


def _end_by_force() -> None:
    """The last resort: whatever holds the process cannot be asked any more."""
    os.write(2, b"drizzle: did not stop within its grace; ended by force\n")
    os._exit(EXIT_CRASH)

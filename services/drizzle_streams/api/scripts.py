"""`python job.py` submits the job: what runs when a job file that is a script has come to its end.

A job file only describes; `drizzle submit job.py` reads it and submits what it finds. Run as a script, the
same file shall do the same, and it has no last line that says so. So the first job that a script makes
leaves a note to look again at the interpreter's exit. Rules, so that nobody is surprised:

- only a file run as a script: no import, no interactive session, no `python -c`, no notebook;
- only if the script ran to its last line: an exception, Ctrl-C or sys.exit() before means no submission;
- only jobs in the script's global names that nothing else was done with: a script that calls
  `job.submit()` or `dz.testing.run(job, ...)` itself has decided for itself;
- never with DRIZZLE_NO_SUBMIT set;
- only in the script's own process: a forked child that comes to its end submits nothing;
- it says what it did, one line per job; a failure is one line on stderr and exit code 2.
"""

from __future__ import annotations

import atexit
import builtins
import dis
import os
import sys
from pathlib import Path
from types import FrameType
from typing import Final, NoReturn, Protocol

from drizzle_streams.api import client
from drizzle_streams.errors import DrizzleError

EXIT_FAILED: Final = 2
"""As `drizzle submit` exits when a job is not taken."""

_MODULE: Final = "<module>"


class Submittable(Protocol):
    """A job, as far as this module needs it."""

    @property
    def name(self) -> str:
        """What it is called."""
        ...

    @property
    def taken(self) -> bool:
        """Whether the script did something with it."""
        ...

    def submit(self) -> str:
        """Post it to the cluster."""
        ...


class _Script:
    """The script this process runs, and the jobs it has made."""

    def __init__(self, frame: FrameType) -> None:
        self.frame = frame
        self.jobs: list[Submittable] = []
        self._callbacks = 0
        self._process = os.getpid()

    def add(self, job: Submittable) -> None:
        """Note a job; `finish` becomes the newest of the callbacks, which run newest first."""
        self.jobs.append(job)
        atexit.unregister(self.finish)
        atexit.register(self.finish)
        self._callbacks = atexit._ncallbacks()

    def finish(self) -> None:
        """Submit what is left to submit; a failure ends the process with `EXIT_FAILED`."""
        if os.getpid() != self._process or not _ran_to_its_end(self.frame):
            return
        globals_now = list(self.frame.f_globals.values())
        left = [job for job in self.jobs if not job.taken and any(job is value for value in globals_now)]
        submitted = [_submitted(job) for job in left]
        if not all(submitted):
            self._exit(EXIT_FAILED)

    def _exit(self, code: int) -> NoReturn:
        """End the process with an exit code, which a callback cannot set otherwise.

        The callbacks that are still to come run before. Not so where newer ones than this have run
        already: there is only a way to run all, and twice is worse than never.
        """
        atexit.unregister(self.finish)
        if atexit._ncallbacks() <= self._callbacks:
            atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


_scripts: dict[str, _Script] = {}
"""By file name; a process runs one script, but a debugger may run it inside another."""


def watch(job: Submittable) -> None:
    """Note a job that the script itself has just made; anything else is not ours to submit."""
    main = sys.modules["__main__"].__dict__
    maker = sys._getframe(2)
    if maker.f_globals is not main or not _is_script(main) or not client.submits_scripts():
        return
    frame: FrameType | None = maker
    while frame is not None and not (frame.f_code.co_name == _MODULE and frame.f_globals is main):
        frame = frame.f_back
    if frame is None:
        return
    script = _scripts.get(frame.f_code.co_filename)
    if script is None or script.frame is not frame:
        script = _scripts[frame.f_code.co_filename] = _Script(frame)
    script.add(job)


def _is_script(main: dict[str, object]) -> bool:
    file = main.get("__file__")
    interactive = sys.flags.interactive or hasattr(sys, "ps1") or hasattr(builtins, "__IPYTHON__")
    return isinstance(file, str) and Path(file).is_file() and not interactive


def _ran_to_its_end(frame: FrameType) -> bool:
    """Whether the last thing a finished frame did was to return; an exception, also sys.exit(), raises."""
    return dis.opname[frame.f_code.co_code[frame.f_lasti]].startswith("RETURN")


def _submitted(job: Submittable) -> bool:
    try:
        found = job.submit()
    except DrizzleError as error:
        sys.stderr.write(f"drizzle: {error}\n")
        return False
    sys.stdout.write(f"Job {found!r} is running. Stop it with: drizzle stop {found}\n")
    return True

"""A launcher that ties a process to its parent and to a directory, then becomes that process.

Run by path as `python -I -S tether.py <parent pid> <lock wait, s> <lock file> <command...>`. Rules:

- The command keeps this pid: `execv` replaces the launcher, so whoever started it signals and
  waits for the real process.
- If the parent dies, however it dies, the kernel sends SIGTERM (Linux; elsewhere nothing is
  tied). The launcher does this and not a `preexec_fn`, because Python code between fork and
  exec may deadlock in a process with threads. The kernel watches the *thread* that started the
  launcher: start it from a thread that lives as long as the process should.
- The lock is a POSIX record lock: `execv` keeps it, forked children do not get it and the
  kernel drops it at the process's death. So two processes never share the directory, not even
  when the old one is still on its way out while the new one starts.
- Only the standard library, no package import: it must start in milliseconds.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import signal
import sys
import time

LOCKED_EXIT_CODE = 97
"""Exit status when another process held the lock for all of the wait."""

_LOCK_POLL_S = 0.01
_PR_SET_PDEATHSIG = 1


def command(lock: str, lock_wait_s: float, argv: list[str]) -> list[str]:
    """The command line that starts `argv` tied to this process and holding the file `lock`.

    A predecessor that was told to go gets `lock_wait_s` to do so.
    """
    return [sys.executable, "-I", "-S", __file__, str(os.getpid()), str(lock_wait_s), lock, *argv]


def _die_with(parent_pid: int) -> None:
    if sys.platform == "linux":
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0) != 0:
            raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")
    if os.getppid() != parent_pid:  # it died before the kernel was told to watch it
        sys.exit(0)


def _hold(lock: str, wait_s: float) -> bool:
    """Take the lock for as long as this process lives; False if it stays taken."""
    descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    os.set_inheritable(descriptor, True)
    deadline = time.monotonic() + wait_s
    while True:
        try:
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except (BlockingIOError, PermissionError):  # the two errnos POSIX allows for "taken"
            if time.monotonic() > deadline:
                return False
            time.sleep(_LOCK_POLL_S)  # there is no lock with a timeout


def main(arguments: list[str]) -> None:
    """Tie, lock and become the command; exits with `LOCKED_EXIT_CODE` if the lock is taken."""
    parent_pid, lock_wait_s, lock, *argv = arguments
    _die_with(int(parent_pid))
    if not _hold(lock, float(lock_wait_s)):
        sys.exit(LOCKED_EXIT_CODE)
    os.execv(argv[0], argv)


if __name__ == "__main__":
    main(sys.argv[1:])

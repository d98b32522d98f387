"""A cluster's state directory: one cluster at a time, a token and ports that are kept.

lock         held while a cluster runs here, and gone with its process
token        the cluster's secret, readable by its user only
ports.json   port by service, so that a second `up` finds the same
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
from collections.abc import Sequence
from pathlib import Path

from drizzle_streams.errors import ConfigError, explain
from drizzle_streams.local.ports import free_port, is_free


class StateDirectory:
    """Made if need be. Used between `lock` and `unlock`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock: int | None = None

    def lock(self) -> None:
        """Make it ours. Raises `ConfigError`: it cannot be written, or another cluster uses it."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            found = error.strerror or str(error)
            raise self._unusable("a directory this user can write", found) from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(descriptor)
            raise self._unusable("no other cluster using it", "one that runs") from error
        self._lock = descriptor

    def unlock(self) -> None:
        """Let others use it; twice is once."""
        lock, self._lock = self._lock, None
        if lock is not None:
            os.close(lock)

    def token(self) -> str:
        """The cluster's secret, made here the first time."""
        path = self.path / "token"
        if not path.exists():
            path.touch(mode=0o600)
            path.write_text(secrets.token_hex(32))
        return path.read_text().strip()

    def ports(self, names: Sequence[str], given: dict[str, int]) -> dict[str, int]:
        """A free port for each name: the one that is given, else the one kept from before, else a new one."""
        path = self.path / "ports.json"
        kept: dict[str, int] = json.loads(path.read_text()) if path.exists() else {}
        ports = dict(given)
        for name in names:
            port = ports.get(name) or kept.get(name)
            while port is None or (name not in given and (port in ports.values() or not is_free(port))):
                port = free_port()
            ports[name] = port
        path.write_text(json.dumps({**kept, **ports}, indent=2))
        return ports

    def _unusable(self, wanted: str, found: str) -> ConfigError:
        remedy = "Stop the other cluster, or choose another directory with --dir."
        return ConfigError(explain(f"state directory {self.path}", wanted=wanted, found=found, remedy=remedy))

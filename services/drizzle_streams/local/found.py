"""Which cluster a command means: a flag, the environment, or the one that `drizzle up` started here.

`drizzle up` leaves a note (address and token, readable by its user only) in its state directory;
a command run beside it needs no settings.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

from drizzle_streams.config import ClientSettings, load

STATE_DIRECTORY = Path(".drizzle")
NOTE = "cluster.json"


def leave_note(directory: Path, address: str, token: str) -> None:
    """Say where the cluster of this state directory answers."""
    path = directory / NOTE
    path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as note:
        json.dump({"cluster": address, "token": token}, note)


def remove_note(directory: Path) -> None:
    """The cluster is gone."""
    (directory / NOTE).unlink(missing_ok=True)


def find_cluster(
    cluster: str | None, directory: Path | None = None, environ: Mapping[str, str] | None = None
) -> ClientSettings:
    """The settings of a client. Raises `ConfigError` where no token can be found."""
    around = os.environ if environ is None else environ
    note = (directory or STATE_DIRECTORY) / NOTE
    flags: dict[str, str | None] = {"cluster": cluster}
    if note.exists() and not around.get("DRIZZLE_TOKEN") and not around.get("DRIZZLE_TOKEN_FILE"):
        left = json.loads(note.read_text())
        if cluster in (None, left["cluster"]) and not around.get("DRIZZLE_CLUSTER"):
            flags = {"cluster": left["cluster"], "token": left["token"]}
    return load(ClientSettings, flags, around)

"""The note that `drizzle up` leaves in its folder, so that commands run there find the cluster.

It holds the cluster's secret, so only its user may read it. `api.client` reads it.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

from drizzle_streams.api.client import NOTE

STATE_DIRECTORY = NOTE.parent


def leave_note(directory: Path, address: str, token: str, supervisor: str = "") -> None:
    """Say where the cluster answers, in place of an earlier note. `directory` is made if need be.

    `supervisor`: where the process that keeps it answers (`local.control`).
    """
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / NOTE.name
    path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as note:
        json.dump({"cluster": address, "token": token, "supervisor": supervisor}, note)


def remove_note(directory: Path) -> None:
    """The cluster is gone."""
    (directory / NOTE.name).unlink(missing_ok=True)

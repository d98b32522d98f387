"""Whether somebody sits in front of this machine: only then a browser is opened unasked."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping


def has_desktop(environ: Mapping[str, str] = os.environ, platform: str = sys.platform) -> bool:
    """True where windows can be shown, and not merely forwarded from elsewhere."""
    if "SSH_CONNECTION" in environ:
        return False
    return platform == "darwin" or bool(environ.get("DISPLAY") or environ.get("WAYLAND_DISPLAY"))

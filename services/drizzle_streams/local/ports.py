"""Free ports on loopback for the services of a local cluster.

Ports are taken below the kernel's ephemeral range. A client that keeps dialling a dead port
inside that range sooner or later gets the same number as its own source port, connects to
itself (TCP allows it) and so keeps the restarted server from binding.
"""

from __future__ import annotations

import random
import socket
from pathlib import Path

from drizzle_streams.errors import ConfigError, explain

HOST = "127.0.0.1"

_LOWEST = 10_000
_ATTEMPTS_MAX = 50


def free_port() -> int:
    """A port that is free at this moment; whoever binds it must still be ready to lose it."""
    highest = max(_ephemeral_lowest() - 1, _LOWEST + 1_000)
    for _ in range(_ATTEMPTS_MAX):
        port = random.randint(_LOWEST, highest)
        if is_free(port):
            return port
    raise ConfigError(
        explain(
            "Local ports",
            wanted=f"a free port from {_LOWEST} to {highest}",
            found=f"{_ATTEMPTS_MAX} taken ones",
            remedy="Name a free port yourself.",
        )
    )


def is_free(port: int) -> bool:
    """Whether nothing listens on the port at this moment."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # TIME_WAIT is not "taken"
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
        return True


def require_free(port: int, thing: str) -> None:
    """Raise ConfigError naming `thing` if something listens on the port."""
    if not is_free(port):
        raise taken(port, thing)


def taken(port: int, thing: str) -> ConfigError:
    """The error for a port that somebody else has."""
    return ConfigError(
        explain(
            f"{thing} port",
            wanted=f"{HOST}:{port} free",
            found="another process listening on it",
            remedy="Stop that process or choose another port.",
        )
    )


def _ephemeral_lowest() -> int:
    """The first port the kernel hands to outgoing connections; 32,768 where it does not say."""
    path = Path("/proc/sys/net/ipv4/ip_local_port_range")
    return int(path.read_text().split()[0]) if path.exists() else 32_768

"""What the commands that talk to a cluster share: flags, requests, tables."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

    from drizzle_streams.api.client import Destination


ANSWERS_WITHIN_S = 10.0
WIDTH_UNSEEN = 240
"""Columns for output that goes to a file or a pipe: there is no edge to wrap lines at."""


def add_cluster(parser: argparse.ArgumentParser) -> None:
    """`--cluster` and `--profile`, with where the token comes from."""
    parser.set_defaults(asks_cluster=True)
    parser.add_argument(
        "--cluster",
        metavar="URL",
        default=argparse.SUPPRESS,  # it may stand before the command
        help="the coordinator, and its standbys after commas (default: DRIZZLE_CLUSTER, or what `drizzle up`"
        " started in this folder, or the default profile); its token is read from DRIZZLE_TOKEN or the file"
        " that DRIZZLE_TOKEN_FILE names",
    )
    parser.add_argument(
        "--profile",
        metavar="NAME",
        default=argparse.SUPPRESS,
        help="a cluster by its name in ~/.config/drizzle/config.toml [DRIZZLE_PROFILE]",
    )
    parser.add_argument("--tls-ca", type=Path, help="CA of an https cluster (PEM) [DRIZZLE_TLS_CA]")
    parser.add_argument(
        "--tls-cert", type=Path, help="certificate (PEM) where the cluster wants one [DRIZZLE_TLS_CERT]"
    )
    parser.add_argument("--tls-key", type=Path, help="the certificate's key (PEM) [DRIZZLE_TLS_KEY]")


def add_json(parser: argparse.ArgumentParser) -> None:
    """`--json`, for programs."""
    parser.add_argument("--json", action="store_true", help="print JSON")


def found(arguments: argparse.Namespace) -> Destination:
    """The cluster that is meant. Raises `ConfigError` where there is none."""
    from drizzle_streams.api.client import destination
    from drizzle_streams.tls import NO_TLS, TlsFiles

    tls = TlsFiles(arguments.tls_cert, arguments.tls_key, arguments.tls_ca)
    return destination(arguments.cluster, None, None if tls == NO_TLS else tls, arguments.profile)


def get(arguments: argparse.Namespace, path: str, method: str = "GET") -> dict[str, Any]:
    """The cluster's JSON answer."""
    return get_from(found(arguments), path, method)


def get_from(
    to: Destination, path: str, method: str = "GET", timeout_s: float = ANSWERS_WITHIN_S
) -> dict[str, Any]:
    """The JSON answer of the cluster, or of the service, at an address."""
    from drizzle_streams.local.http import ask

    return ask(to.cluster, path, to.token, method=method, timeout_s=timeout_s, tls=to.tls)


def job_path(job: str) -> str:
    """The door of a job."""
    return f"/jobs/{quote(job, safe='')}"


def print_json(values: object) -> None:
    """For programs."""
    print(json.dumps(values, indent=2))


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> RenderableType:
    """A table for people; says so when it is empty."""
    from rich.table import Table
    from rich.text import Text

    if not rows:
        return Text(f"{title}: none")
    made = Table(title=title, title_justify="left", box=None, header_style="bold", pad_edge=False)
    for column in columns:
        made.add_column(column, overflow="fold")
    for row in rows:
        made.add_row(*(Text(str(cell)) for cell in row))
    return made


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print it."""
    terminal().print(table(title, columns, rows))


def counted(number: int, one: str, many: str) -> str:
    """`1 batch`, `2 batches`."""
    return f"{number:,} {one if number == 1 else many}"


def terminal() -> Console:
    """Where tables go: as wide as the terminal, and not wrapped where there is none."""
    from rich.console import Console

    return Console() if sys.stdout.isatty() else Console(width=WIDTH_UNSEEN)

"""What the commands that talk to a cluster share: flags, requests, tables."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from drizzle_streams.api.client import Destination


def add_cluster(parser: argparse.ArgumentParser) -> None:
    """`--cluster`, with where the token comes from."""
    parser.add_argument(
        "--cluster",
        metavar="URL",
        help="the coordinator (default: DRIZZLE_CLUSTER, or what `drizzle up` started in this folder); its"
        " token is read from DRIZZLE_TOKEN or the file that DRIZZLE_TOKEN_FILE names",
    )
    parser.add_argument("--tls-ca", type=Path, help="CA of an https cluster (PEM) [DRIZZLE_TLS_CA]")
    parser.add_argument(
        "--tls-cert", type=Path, help="certificate (PEM) where the cluster wants one [DRIZZLE_TLS_CERT]"
    )
    parser.add_argument("--tls-key", type=Path, help="the certificate's key (PEM) [DRIZZLE_TLS_KEY]")


def found(arguments: argparse.Namespace) -> Destination:
    """The cluster that is meant. Raises `ConfigError` where there is none."""
    from drizzle_streams.api.client import destination
    from drizzle_streams.tls import NO_TLS, TlsFiles

    tls = TlsFiles(arguments.tls_cert, arguments.tls_key, arguments.tls_ca)
    return destination(arguments.cluster, None, None if tls == NO_TLS else tls)


def get(arguments: argparse.Namespace, path: str, method: str = "GET") -> dict[str, Any]:
    """The cluster's JSON answer."""
    from drizzle_streams.local.http import ask

    to = found(arguments)
    return ask(to.cluster, path, to.token, method=method, tls=to.tls)


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """A table for people; says so when it is empty."""
    from rich.console import Console
    from rich.table import Table

    if not rows:
        print(f"{title}: none")
        return
    table = Table(title=title, title_justify="left", box=None, header_style="bold", pad_edge=False)
    for column in columns:
        table.add_column(column)
    for row in rows:
        table.add_row(*(str(cell) for cell in row))
    Console().print(table)

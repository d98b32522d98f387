"""`drizzle scale --workers N`: more or fewer workers, while jobs run."""

from __future__ import annotations

import argparse
from dataclasses import replace
from typing import TYPE_CHECKING

from drizzle_streams.cli.client import add_cluster, add_json, found, get_from, print_json
from drizzle_streams.cli.values import whole
from drizzle_streams.errors import ConfigError, explain

if TYPE_CHECKING:
    from drizzle_streams.api.client import Destination

SCALED_WITHIN_S = 120.0
"""Starting workers takes a second or two; draining one as long as its partitions take to move."""

_EPILOG = """\
On a cluster that `drizzle up` started in this folder, worker processes are started, or asked to
drain: their partitions move at the next boundary, then they end. The command returns when it is
done. Elsewhere those who run the workers scale them, and the command says how, with exit code 2.

examples:
  drizzle scale --workers 4
  docker compose up -d --no-recreate --scale worker=4
  kubectl --namespace drizzle scale deployment/worker --replicas=4"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """How many, the cluster."""
    parser.add_argument(
        "--workers", type=whole(1, 64), required=True, metavar="N", help="how many there are to be"
    )
    add_cluster(parser)
    add_json(parser)
    parser.epilog = _EPILOG


def run(arguments: argparse.Namespace) -> int:
    """Have it done by the supervisor of a local cluster."""
    to = found(arguments)
    door = _supervisor(to, arguments.workers)
    answer = get_from(door, f"/workers?count={arguments.workers}", "POST", SCALED_WITHIN_S)
    if arguments.json:
        print_json(answer)
    else:
        print(f"workers: {', '.join(answer['workers'])}")
    return 0


def _supervisor(to: Destination, workers: int) -> Destination:
    from drizzle_streams.api.client import supervisor

    address = supervisor(to)
    if address is None:
        raise ConfigError(
            explain(
                f"cluster {to.cluster}",
                wanted="one that `drizzle up` started in this folder",
                found="another",
                remedy=f"Run `docker compose up -d --no-recreate --scale worker={workers}`, or"
                f" `kubectl --namespace drizzle scale deployment/worker --replicas={workers}`.",
            )
        )
    return replace(to, cluster=address)

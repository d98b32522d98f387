"""`drizzle token`: a token for those who shall have less than the cluster's secret."""

from __future__ import annotations

import argparse

_EPILOG = """\
The secret is read from DRIZZLE_TOKEN or the file that DRIZZLE_TOKEN_FILE names, or is that of the
cluster which `drizzle up` started in this folder. It is not asked of the cluster: nothing is sent.

  user     submit, stop, status, story, the console
  ingest   post records to one stream (--stream), or to any
  metrics  read /metrics: for Prometheus

A token cannot be taken back before it ends, except by replacing the secret.

examples:
  drizzle token --kind ingest --stream ad-events --ttl 7d
  drizzle token --kind metrics --ttl 365d > metrics-token
  DRIZZLE_TOKEN=$(drizzle token) drizzle status --cluster http://127.0.0.1:7070"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What for, for whom, how long."""
    parser.add_argument(
        "--kind",
        choices=("user", "ingest", "metrics"),
        default="user",
        help="what it opens (default: %(default)s)",
    )
    parser.add_argument(
        "--stream", metavar="STREAM", default="*", help="the stream of an ingest token (default: any)"
    )
    parser.add_argument("--name", default="", help="who will hold it, for your own records")
    parser.add_argument(
        "--ttl", default="30d", metavar="TIME", help="how long, up to 366d: 15m, 12h (default: 30d)"
    )
    parser.epilog = _EPILOG


def run(arguments: argparse.Namespace) -> int:
    """Print one."""
    import time

    from drizzle_streams.api.client import known_token
    from drizzle_streams.api.durations import parse_ms
    from drizzle_streams.errors import ConfigError, explain
    from drizzle_streams.protocol.tokens import Keyring, TokenKind

    secret = known_token()
    if not secret:
        raise ConfigError(
            explain(
                "DRIZZLE_TOKEN",
                wanted="the cluster's secret",
                found="nothing",
                remedy="Set it, or DRIZZLE_TOKEN_FILE to its file; `openssl rand -hex 32` makes one.",
            )
        )
    kind = TokenKind(arguments.kind)
    subject = arguments.stream if kind is TokenKind.INGEST else arguments.name or arguments.kind
    ttl_s = parse_ms(arguments.ttl, "--ttl", at_least_ms=1_000) / 1_000
    print(Keyring.parse(secret).mint(kind, subject, time.time(), ttl_s))
    return 0

"""`drizzle up`: a cluster on this machine, until Ctrl-C; what it holds is kept for the next time."""

from __future__ import annotations

import argparse
import asyncio
import sys
from pathlib import Path

from drizzle_streams.cli.values import whole
from drizzle_streams.config import COORDINATOR_PORT

_EPILOG = """\
State (logs of records, Redis, the secret) is kept in --dir, so the next `drizzle up` goes on where
this one ended. `drizzle submit`, `jobs`, `stop`, `status`, `scale` find the cluster from the same folder.

examples:
  drizzle up
  drizzle up --workers 4 --port 7070 --dir /var/lib/drizzle"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Sizes and places."""
    parser.add_argument("--workers", type=whole(1, 64), default=2, help="worker processes (default: 2)")
    parser.add_argument("--sources", type=whole(1, 64), default=2, help="source processes (default: 2)")
    parser.add_argument(
        "--standby", action="store_true", help="a second coordinator, which takes over when the first is gone"
    )
    parser.add_argument(
        "--port",
        type=whole(1, 65_535),
        default=COORDINATOR_PORT,
        help="the coordinator's port (default: 7070)",
    )
    parser.add_argument(
        "--dir", type=Path, default=Path(".drizzle"), help="state directory (default: .drizzle)"
    )
    parser.add_argument(
        "--no-open", action="store_true", help="do not open the console in this machine's browser"
    )
    parser.epilog = _EPILOG


def run(arguments: argparse.Namespace) -> int:
    """Keep the cluster up until asked to stop."""
    from drizzle_streams.cli.interrupt import until_interrupted

    asyncio.run(until_interrupted(_up(arguments)))
    return 0


async def _up(arguments: argparse.Namespace) -> None:
    from drizzle_streams.cli.console import sign_in_link
    from drizzle_streams.local.cluster import LocalCluster, LocalSettings
    from drizzle_streams.local.control import SupervisorDoor
    from drizzle_streams.local.found import STATE_DIRECTORY, leave_note, remove_note

    settings = LocalSettings(
        directory=arguments.dir.resolve(),
        workers=arguments.workers,
        sources=arguments.sources,
        port=arguments.port,
        standbys=int(arguments.standby),
    )
    note = STATE_DIRECTORY.resolve()  # in this folder, wherever the state is kept
    coordinators = "two coordinators" if settings.standbys else "a coordinator"
    print(
        f"starting {settings.sources} sources, {settings.workers} workers, {coordinators} and Redis …",
        flush=True,
    )
    async with LocalCluster(settings) as cluster, SupervisorDoor(cluster) as door:
        leave_note(note, cluster.address, cluster.token, door.address)
        try:
            link = sign_in_link(cluster.address, cluster.token)
            _say(cluster.address, cluster.source_addresses, settings.directory, link)
            if not arguments.no_open:
                await _open(link)
            await cluster.failed()
        finally:
            remove_note(note)
            print("stopping …", flush=True)


async def _open(link: str) -> None:
    """Only for a person at a desktop: not for a script, and no browser of text in this terminal."""
    from drizzle_streams.cli.console import open_console
    from drizzle_streams.local.desktop import has_desktop

    if sys.stdout.isatty() and has_desktop():
        await open_console(link)


def _say(address: str, sources: list[str], directory: Path, link: str) -> None:
    print(
        f"""
Drizzle is up. State and logs are in {directory}; Ctrl-C stops it.

  coordinator  {address.replace(",", ", ")}
  sources      {", ".join(sources)}
  console      {link}
               (signs a browser in within ten minutes; then: drizzle console)

Submit a job:     drizzle submit job.py
Look at it:       drizzle status --watch
More workers:     drizzle scale --workers 4
Post records:     curl -X POST {sources[0] if sources else "URL"}/streams/events/records \\
                    -H "Authorization: Bearer $(drizzle token --kind ingest)" \\
                    -H "Content-Type: application/x-ndjson" --data-binary @events.ndjson
""",
        flush=True,
    )

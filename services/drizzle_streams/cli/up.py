"""`drizzle up`: a cluster on this machine, until Ctrl-C; what it holds is kept for the next time."""

from __future__ import annotations

import argparse
import asyncio
import signal
from pathlib import Path

_EPILOG = """\
State (logs of records, Redis, the token) is kept in --dir, so the next `drizzle up` goes on where
this one ended. `drizzle submit`, `jobs`, `stop` and `status` find the cluster from the same folder.

examples:
  drizzle up
  drizzle up --workers 4 --port 7070 --dir /var/lib/drizzle"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Sizes and places."""
    parser.add_argument("--workers", type=int, default=2, help="worker processes (default: 2)")
    parser.add_argument("--sources", type=int, default=2, help="source processes (default: 2)")
    parser.add_argument("--port", type=int, default=7070, help="the coordinator's port (default: 7070)")
    parser.add_argument(
        "--dir", type=Path, default=Path(".drizzle"), help="state directory (default: .drizzle)"
    )
    parser.epilog = _EPILOG


def run(arguments: argparse.Namespace) -> int:
    """Keep the cluster up until asked to stop."""
    return asyncio.run(_up(arguments))


async def _up(arguments: argparse.Namespace) -> int:
    from drizzle_streams.local.cluster import LocalCluster, LocalSettings
    from drizzle_streams.local.found import leave_note, remove_note

    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for signum in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(signum, stop.set)
    settings = LocalSettings(
        directory=arguments.dir.resolve(),
        workers=arguments.workers,
        sources=arguments.sources,
        port=arguments.port,
    )
    print(f"starting {settings.sources} sources, {settings.workers} workers, a coordinator and Redis …")
    async with LocalCluster(settings) as cluster:
        leave_note(settings.directory, cluster.address, cluster.token)
        try:
            _say(cluster.address, cluster.source_addresses, settings.directory)
            assert cluster.failure is not None
            waiting = asyncio.create_task(stop.wait())
            await asyncio.wait({waiting, cluster.failure}, return_when=asyncio.FIRST_COMPLETED)
            waiting.cancel()
            if cluster.failure.done():
                raise cluster.failure.result()
        finally:
            remove_note(settings.directory)
            print("stopping …")
    return 0


def _say(address: str, sources: list[str], directory: Path) -> None:
    print(
        f"""
Drizzle is up. State and logs are in {directory}; Ctrl-C stops it.

  coordinator  {address}
  sources      {", ".join(sources)}

Submit a job:     drizzle submit job.py
Look at it:       drizzle status
Post records:     curl -X POST {sources[0] if sources else "URL"}/streams/events/records \\
                    -H "Authorization: Bearer $(cat {directory}/token)" \\
                    -H "Content-Type: application/x-ndjson" --data-binary @events.ndjson
""",
        flush=True,
    )

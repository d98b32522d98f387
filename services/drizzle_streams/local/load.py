"""The load generator as a process of its own: users run it so, and a load in this one would be part of it."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

from drizzle_streams.errors import DrizzleError

WORDS_MAX = 2_000
"""Characters of what it said that are told when it failed."""


async def load(
    arguments: Sequence[str],
    ingest_token: str,
    progress: Callable[[dict[str, Any]], None],
    *,
    timeout_s: float,
    statuses: tuple[int, ...] = (0,),
) -> None:
    """Run one of its commands to the end; each of its lines of progress goes to `progress`.

    Raises `DrizzleError` when it takes longer than `timeout_s` or ends in another status.
    """
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "drizzle_loadgen",
        *arguments,
        env={**os.environ, "DRIZZLE_INGEST_TOKEN": ingest_token},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,  # Ctrl-C is for us: we end it in order
    )
    assert process.stdout is not None
    assert process.stderr is not None
    said = asyncio.create_task(process.stderr.read())
    try:
        async with asyncio.timeout(timeout_s):
            async for line in process.stdout:
                progress(json.loads(line))
            status = await process.wait()
    except TimeoutError as error:
        raise DrizzleError(f"the load generator took longer than {timeout_s:g} s") from error
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
        words = (await said).decode(errors="replace").strip()
    if status not in statuses:
        raise DrizzleError(f"the load generator failed ({status}): {words[-WORDS_MAX:]}")

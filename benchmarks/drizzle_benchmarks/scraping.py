"""What services count, read from their `/metrics` doors."""

from __future__ import annotations

import asyncio
import time
from http.client import HTTPException
from urllib.request import Request, urlopen

from prometheus_client.parser import text_string_to_metric_families

from drizzle_streams.errors import UnreachableError, explain
from drizzle_streams.local.cluster import LocalCluster
from drizzle_streams.protocol.tokens import TokenKind, credential

TIMEOUT_S = 10.0
BEGINS_S_MAX = 60.0
"""How long the load generator may take to start; only then time is counted."""
POLL_S = 0.1
ANSWER_BYTES_MAX = 16 * 1024 * 1024


async def total(cluster: LocalCluster, role: str, sample: str) -> float:
    """The sum of a sample over all services of a role, whatever its labels; 0 where nobody has it.

    Raises `UnreachableError` where one does not answer.
    """
    found = [await asyncio.to_thread(_metrics, one.address, cluster.token) for one in cluster.of_role(role)]
    return sum(
        value
        for text in found
        for family in text_string_to_metric_families(text)
        for name, _, value, *_ in family.samples
        if name == sample
    )


async def load_began(cluster: LocalCluster) -> None:
    """Until the first records were taken: the load generator needs a while to start."""
    async with asyncio.timeout(BEGINS_S_MAX):
        while True:
            if await total(cluster, "source", "drizzle_appended_records_total"):
                return
            await asyncio.sleep(POLL_S)


def _metrics(address: str, token: str) -> str:
    request = Request(f"{address}/metrics")
    request.add_header("Authorization", f"Bearer {credential(token, TokenKind.METRICS, time.time())}")
    try:
        with urlopen(request, timeout=TIMEOUT_S) as answer:
            return answer.read(ANSWER_BYTES_MAX).decode()
    except (OSError, HTTPException) as error:
        raise UnreachableError(
            explain(address, wanted="its metrics", found=str(error), remedy="See its log.")
        ) from error

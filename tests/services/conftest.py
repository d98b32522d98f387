"""Services are tested on the loop they run on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping

import pytest
import uvloop

from drizzle_streams.coordinator.service import CoordinatorService
from drizzle_streams.stores.memory import MemoryLedger, MemorySnapshotStore
from tests.services.service_worlds import coordinator_on, running


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    return {"uvloop": uvloop.new_event_loop}


@pytest.fixture
def ledger() -> MemoryLedger:
    return MemoryLedger()


@pytest.fixture
def snapshots() -> MemorySnapshotStore:
    return MemorySnapshotStore()


@pytest.fixture
async def coordinator(
    ledger: MemoryLedger, snapshots: MemorySnapshotStore
) -> AsyncIterator[CoordinatorService]:
    async with running(service := coordinator_on(ledger, snapshots)):
        yield service

"""A program is unpickled only if the cluster's secret sealed it, whatever the ledger or the wire say."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from drizzle_streams.engine.shipping import ship_program
from drizzle_streams.model.ids import JobId
from drizzle_streams.model.task import TaskError
from drizzle_streams.protocol.jobfile import JobFile, pack_job
from drizzle_streams.protocol.tokens import Keyring
from drizzle_streams.stores.memory import MemoryLedger
from drizzle_streams.worker.loading import _load
from tests.services.service_worlds import TOKEN, ask, coordinator_on, running, submit, two_stages

RING = Keyring((TOKEN,))
NEXT = "the-next-secret-of-tests"


@dataclass
class Canary:
    """Leaves a file where it is unpickled."""

    path: Path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


@pytest.fixture
def canary(tmp_path: Path) -> Path:
    return tmp_path / "sang"


def hostile(canary: Path, job: str = "sums") -> bytes:
    return pack_job(JobFile(two_stages(job), ship_program(Canary(canary))))  # type: ignore[arg-type]


def load(data: bytes, ring: Keyring = RING) -> TaskError:
    """What a worker makes of an answer to its fetch of the program of `sums`."""
    bench = SimpleNamespace(ring=ring, redis_url="")
    found = _load(SimpleNamespace(spec=two_stages(), bench=bench), data)  # type: ignore[arg-type]
    assert isinstance(found, TaskError)
    return found


def test_the_canary_sings_when_its_program_is_loaded(canary: Path) -> None:
    load(RING.seal("sums", hostile(canary)))
    assert canary.exists(), "or the tests below would show nothing"


@pytest.mark.parametrize(
    "sealed",
    [
        pytest.param(lambda data: data, id="no seal"),
        pytest.param(
            lambda data: Keyring(("secret-of-another-cluster",)).seal("sums", data), id="another secret"
        ),
        pytest.param(lambda data: RING.seal("other", data), id="another job's"),
        pytest.param(lambda data: RING.seal("sums", b"a program")[:40] + data, id="another program's"),
        pytest.param(lambda data: RING.seal("sums", data) + b" ", id="longer"),
        pytest.param(lambda data: RING.seal("sums", data)[:-1], id="shorter"),
    ],
)
def test_without_the_seal_nothing_is_unpickled(canary: Path, sealed: Any) -> None:
    error = load(sealed(hostile(canary)))
    assert not canary.exists()
    assert "the seal of sums" in error.message


async def test_the_coordinator_unpickles_nothing_and_seals_what_it_took(canary: Path) -> None:
    ledger = MemoryLedger()
    async with running(coordinator_on(ledger)) as service:
        data = hostile(canary)
        assert (await submit(service.address, data)).status == 201
        stored = (await ledger.read())["program:sums"]
        assert RING.unseal("sums", stored) == data
        served = await ask("GET", f"{service.address}/jobs/sums/program")
        assert served.body == stored
    assert not canary.exists()


async def test_a_program_that_was_changed_in_the_ledger_is_served_as_it_is_and_refused_by_workers(
    canary: Path, caplog: pytest.LogCaptureFixture
) -> None:
    ledger = MemoryLedger()
    async with running(coordinator_on(ledger)) as service:
        await submit(service.address, pack_job(JobFile(two_stages(), b"a program")))
    await ledger.write(await ledger.raise_generation(), {"program:sums": hostile(canary)}, [])
    async with running(coordinator_on(ledger)) as service:
        served = await ask("GET", f"{service.address}/jobs/sums/program")
    assert "not what was submitted" in caplog.text
    assert "the seal of sums" in load(served.body).message
    assert not canary.exists()


async def test_programs_live_through_the_replacement_of_the_secret() -> None:
    ledger, data = MemoryLedger(), pack_job(JobFile(two_stages(), b"a program"))
    async with running(coordinator_on(ledger)) as service:
        await submit(service.address, data)
    for secrets in (f"{TOKEN},{NEXT}", f"{NEXT},{TOKEN}", NEXT):
        async with running(coordinator_on(ledger, token=secrets)):
            stored = (await ledger.read())["program:sums"]
            assert Keyring.parse(secrets).unseal("sums", stored) == data
    assert JobId("sums") == two_stages().job

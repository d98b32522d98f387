"""Every task has an owner that awaits it, and no failure goes unseen."""

from __future__ import annotations

import asyncio
import logging

import pytest

from drizzle_streams.runtime.supervisor import Supervisor


async def forever() -> None:
    await asyncio.get_running_loop().create_future()


async def test_leaving_the_block_ends_the_tasks_youngest_first() -> None:
    ended: list[str] = []

    async def work(name: str) -> None:
        try:
            await forever()
        finally:
            await asyncio.sleep(0)
            ended.append(name)

    async with Supervisor() as tasks:
        for name in ("first", "second", "third"):
            tasks.start(work(name), name)
        await asyncio.sleep(0)
    assert ended == ["third", "second", "first"]
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_the_first_failure_ends_the_wait_and_everything_else() -> None:
    fault = RuntimeError("broken")
    cancelled: list[str] = []

    async def fail() -> None:
        await asyncio.sleep(0)
        raise fault

    async def other() -> None:
        try:
            await forever()
        except asyncio.CancelledError:
            cancelled.append("other")
            raise

    async def service() -> None:
        async with Supervisor() as tasks:
            tasks.start(other(), "other")
            tasks.start(fail(), "fail")
            await tasks.until(asyncio.Event())

    with pytest.raises(RuntimeError) as raised:
        await service()
    assert raised.value is fault
    assert cancelled == ["other"]
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_a_failure_before_anybody_waits_is_raised_all_the_same() -> None:
    async def fail() -> None:
        raise RuntimeError("broken")

    async def service() -> None:
        async with Supervisor() as tasks:
            tasks.start(fail(), "fail")
            await asyncio.sleep(0)

    with pytest.raises(RuntimeError, match="broken"):
        await service()


async def test_a_failure_reported_from_a_callback_stops_the_service() -> None:
    async def service() -> None:
        async with Supervisor() as tasks:
            asyncio.get_running_loop().call_soon(tasks.fail, ValueError("from a callback"))
            await tasks.until(asyncio.Event())

    with pytest.raises(ValueError, match="from a callback"):
        await service()


async def test_a_task_that_returns_is_no_failure() -> None:
    async def done() -> str:
        return "done"

    stop = asyncio.Event()
    async with Supervisor() as tasks:
        task = tasks.start(done(), "done")
        asyncio.get_running_loop().call_later(0.01, stop.set)
        await tasks.until(stop)
    assert task.result() == "done"


async def test_a_failure_while_stopping_is_logged_beside_the_one_raised(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def stumble() -> None:
        try:
            await forever()
        finally:
            raise RuntimeError("second")

    async def service() -> None:
        async with Supervisor() as tasks:
            tasks.start(stumble(), "stumble")
            await asyncio.sleep(0)
            raise KeyError("first")

    with caplog.at_level(logging.ERROR, "drizzle.runtime"), pytest.raises(KeyError, match="first"):
        await service()
    assert "second" in caplog.text

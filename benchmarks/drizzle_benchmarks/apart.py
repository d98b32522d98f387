"""Calls in processes of their own, with one thread of Polars, as workers have; memory goes with them."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


async def isolated(work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Call in a fresh process with one thread of Polars; its memory goes with it."""
    with one_polars_thread(), ProcessPoolExecutor(1, get_context("spawn")) as pool:
        return await asyncio.wrap_future(pool.submit(work, *args, **kwargs))


@contextmanager
def one_polars_thread() -> Iterator[None]:
    """Processes started meanwhile have one thread of Polars, which reads that once, when it is imported."""
    before = os.environ.get("POLARS_MAX_THREADS")
    os.environ["POLARS_MAX_THREADS"] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ["POLARS_MAX_THREADS"]
        else:
            os.environ["POLARS_MAX_THREADS"] = before


class Resident:
    """An object in a process of its own, of which methods are called one after the other."""

    def __init__(self, make: Callable[P, object], *args: P.args, **kwargs: P.kwargs) -> None:
        with one_polars_thread():
            self._pool = ProcessPoolExecutor(1, get_context("spawn"))
            self._made = self._pool.submit(_move_in, make, args, kwargs)  # this starts the process

    async def moved_in(self) -> None:
        """Until the object is made; raises what that raised."""
        await asyncio.wrap_future(self._made)

    async def call(self, method: str, *args: object) -> Any:
        """What the method gives; raises what it raised."""
        return await asyncio.wrap_future(self._pool.submit(_call, method, args))

    def close(self) -> None:
        """End the process; waits for a call under way."""
        self._pool.shutdown(cancel_futures=True)


_inhabitants: list[Any] = []
"""In a resident's process: the object."""


def _move_in(make: Callable[..., object], args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    _inhabitants.append(make(*args, **kwargs))


def _call(method: str, args: tuple[Any, ...]) -> Any:
    return getattr(_inhabitants[0], method)(*args)

"""Sources that have fallen behind seal and offer what is due together; exact whatever is lost on the way."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from drizzle_streams.core import worker_blocks
from drizzle_streams.core.offered import OfferedBatch, offered_batches
from drizzle_streams.core.source_job import SourceJob, StageReading
from drizzle_streams.core.window import IN_FLIGHT_MIN
from drizzle_streams.model.ids import BatchId
from drizzle_streams.protocol.messages import Offer
from tests.simulation.checkers import demand_caught, demand_everything, demand_progress
from tests.simulation.disks import BrokenPromiseError
from tests.simulation.faults import heal
from tests.simulation.listening import Listener
from tests.simulation.values import spec
from tests.simulation.world import Weather, World

pytestmark = pytest.mark.timeout(600)  # many seconds of CPU on a busy machine, none of waiting


def stopped_for_moments(seed: int, weather: Weather | None = None) -> tuple[World, list[int]]:
    """One source after another is stopped for some intervals; also how many batches each offer speaks of."""
    world = World(seed, workers=3, sources=2, job=spec(group_size=40))
    lengths = Listener(world, Offer).lengths
    world.run(3.0)
    if weather is not None:
        world.weather = weather
    for number in range(6):
        world.stop(world.of_kind("source")[number % 2], 0.35)
        world.run(0.8)
    return world, lengths


def in_calm_weather(seed: int) -> World:
    """Nothing is lost, so nobody may have to ask."""
    world, lengths = stopped_for_moments(seed)
    demand_progress(world)
    demand_everything(world)
    if world.asked:
        raise BrokenPromiseError(f"{world.asked} tasks had to ask who owes them what, in a calm world")
    if not 4 <= max(lengths) <= IN_FLIGHT_MIN:
        raise BrokenPromiseError(f"the longest offer is of {max(lengths)} batches")
    return world


def sources_back_after_a_second(seed: int) -> World:
    """So much is due then that only credit bounds what is sealed at once."""
    world = World(seed, workers=3, sources=2, job=spec(group_size=40))
    lengths = Listener(world, Offer).lengths
    world.run(3.0)
    for source in list(world.of_kind("source")):
        world.stop(source, 1.0)
    world.run(3.0)
    demand_progress(world)
    demand_everything(world)
    if max(lengths) > IN_FLIGHT_MIN:
        raise BrokenPromiseError(f"an offer of {max(lengths)} batches, and {IN_FLIGHT_MIN} may be under way")
    if max(lengths) < IN_FLIGHT_MIN:
        raise AssertionError(f"nothing was at its bound: {max(lengths)} batches at most")
    return world


def in_bad_weather(seed: int) -> World:
    """Offers are lost, come twice and late; a source dies with what it had sealed, and a worker for good."""
    weather = Weather(loss=0.1, duplicate=0.1, straggle=0.05, straggle_s=0.5)
    world, lengths = stopped_for_moments(seed, weather)
    source = world.of_kind("source")[seed % 2]
    world.stop(source, 0.3)
    world.run(0.31)
    world.crash(source)
    world.crash(world.of_kind("worker")[seed % 3])
    world.start_worker()
    world.run(3.0)
    heal(world)
    demand_progress(world)
    demand_everything(world)
    if max(lengths) < 4:
        raise AssertionError("no source had fallen behind")
    return world


@pytest.mark.parametrize("seed", range(4))
def test_what_is_due_together_is_offered_together(seed: int) -> None:
    in_calm_weather(seed)


@pytest.mark.parametrize("seed", range(4))
def test_no_more_is_offered_together_than_may_be_under_way(seed: int) -> None:
    sources_back_after_a_second(seed)


@pytest.mark.parametrize("seed", range(6))
def test_offered_ranges_are_exact_whatever_is_lost(seed: int) -> None:
    in_bad_weather(seed)


def test_planted_only_the_first_batch_of_an_offer_is_taken_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """The others come when somebody has asked for them."""

    def short(offer: Offer) -> Iterator[OfferedBatch]:
        yield next(offered_batches(offer))

    monkeypatch.setattr(worker_blocks, "offered_batches", short)
    demand_caught(in_calm_weather, seeds=range(4))


def test_planted_a_range_goes_beyond_its_credit(monkeypatch: pytest.MonkeyPatch) -> None:
    """That its first batch may be sealed is taken for all that are due."""
    due = SourceJob._due_through

    def greedy(self: SourceJob, reading: StageReading, first: BatchId, now: float) -> BatchId:
        with monkeypatch.context() as patched:
            patched.setattr(SourceJob, "_credit", lambda self, reading, batch: True)
            return due(self, reading, first, now)

    monkeypatch.setattr(SourceJob, "_due_through", greedy)
    demand_caught(sources_back_after_a_second, seeds=range(4))

"""A tuned group size at a real coordinator: measured by its stopwatch and its members, shown at its doors."""

from __future__ import annotations

from dataclasses import replace

import pytest

from drizzle_streams.cli.status import lines
from drizzle_streams.model.tuning import Tuning, TuningMode
from tests.services.service_worlds import (
    ask,
    job_becomes,
    job_file,
    members,
    source,
    submit,
    two_stages,
    worker,
)

MODEL = Tuning(mode=TuningMode.MODEL, group_size_max=40)


async def test_groups_grow_as_they_are_measured_and_everything_is_shown(coordinator):
    at = coordinator.address
    await submit(at, job_file(two_stages(group_size=2, tuning=MODEL)))
    async with members(worker(at), worker(at), source(at)):
        values = await job_becomes(
            at, lambda v: (v["tuner"] or {}).get("mode") == "model" and v["group_size"] > 4, "tuned"
        )
    tuner = values["tuner"]
    assert tuner["binding"] != "unmeasured"
    assert tuner["inputs"]["coordination_seconds"] > 0.0
    assert tuner["inputs"]["workers"] == 2.0
    assert tuner["inputs"]["tasks"] == 4.0, "two workers, each with a task of both stages"
    assert 1 <= values["group_size"] <= 40
    text = (await ask("GET", f"{at}/metrics", token=None)).body.decode()
    assert 'drizzle_tuner_input{input="coordination_seconds",job="sums"}' in text


@pytest.mark.parametrize(
    "change",
    [
        {"group_size_max": 0},
        {"group_size_min": 41},
        {"overhead_upper": 0.0},
        {"overhead_lower": 0.2},
        {"tail_quantile": float("nan")},
        {"adaptation_objective_ms": float("inf")},
        {"memory_bytes": -1},
    ],
)
async def test_promises_that_make_no_sense_are_refused(coordinator, change):
    answer = await submit(coordinator.address, job_file(two_stages(tuning=replace(MODEL, **change))))
    assert (answer.status, next(iter(change)) in answer.error) == (400, True), answer.body


async def test_the_status_shows_what_the_tuner_reckons_with(coordinator):
    at = coordinator.address
    for mode in (MODEL, Tuning()):
        await submit(at, job_file(two_stages(f"job-{mode.mode}", group_size=2, tuning=mode)))
    async with members(worker(at), source(at)):
        tuned = await job_becomes(
            at, lambda v: (v["tuner"] or {}).get("mode") == "model", "tuned", job="job-model"
        )
        fixed = await job_becomes(at, lambda v: v["tuner"] is not None, "launched", job="job-fixed")
    text = "\n".join(lines(tuned))
    assert "coordination_seconds" in text
    assert "workers 1" in text
    assert f"{tuned['tuner']['binding']} decides, at least" in text
    assert "coordination_seconds" not in "\n".join(lines(fixed)), "it is the job that decides"

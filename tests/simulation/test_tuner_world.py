"""The tuner against every fixed size, in simulated clusters it is not told about; and when they change."""

from __future__ import annotations

from dataclasses import replace

import pytest

from drizzle_streams.core.tuner import Tuner
from drizzle_streams.model.tuning import Objective, Tuning, TuningMode
from tests.simulation.tuner_world import Cluster, Ended, Life, loss, sweep

FREE = Tuning(
    mode=TuningMode.MODEL,
    group_size_max=1_000,
    adaptation_objective_ms=1e9,
    recovery_objective_ms=1e9,
    tail_quantile=0.0,
    overhead_upper=0.99,
)
"""No promise binds, so that the formula alone decides."""
PAPER = Cluster()
WITHIN = 1.10
FAILURES = 120
SEED = 11

SETTINGS = {
    "128 workers, stalling, all roll back": (PAPER, FREE),
    "dear coordination, long batches": (
        Cluster(interval_s=0.25, coordination_s=1.0, failure_every_s=1_500.0),
        FREE,
    ),
    "sixteen busy workers share what is lost": (
        Cluster(
            interval_s=0.2,
            workers=16,
            tasks=32,
            utilisation=0.8,
            coordination_s=0.1,
            rollback=False,
            failure_every_s=1_000.0,
        ),
        FREE,
    ),
    "launched ahead, little stall": (
        Cluster(coordination_s=0.2, pipelined=True, stall_s=0.004, failure_every_s=300.0),
        FREE,
    ),
    "adaptations each minute that wait": (
        Cluster(adaptation_every_s=60.0, wait_cost=1.0, failure_every_s=900.0),
        replace(FREE, wait_cost=1.0),
    ),
    "adaptations each minute that cut": (
        Cluster(adaptation_every_s=60.0, wait_cost=1.0, failure_every_s=600.0, cut_s=0.02),
        replace(FREE, wait_cost=1.0),
    ),
    "how late records are counts": (
        Cluster(areas=True, utilisation=0.7, failure_every_s=300.0),
        replace(FREE, objective=Objective.LATENCY),
    ),
    "promises of this product's defaults": (
        Cluster(
            interval_s=0.05,
            workers=2,
            tasks=4,
            utilisation=0.3,
            coordination_s=0.01,
            pipelined=True,
            stall_s=0.002,
            own_checkpoints=True,
        ),
        Tuning(mode=TuningMode.MODEL),
    ),
}


def horizon(cluster: Cluster) -> float:
    """Seconds until there were enough failures to compare sizes by."""
    return FAILURES * cluster.failure_every_s


@pytest.mark.parametrize("name", SETTINGS)
def test_the_model_is_within_a_tenth_of_the_best_fixed_size(name: str) -> None:
    cluster, tuning = SETTINGS[name]
    seconds = horizon(cluster)
    tuner = Tuner(tuning)
    tuned = Life(lambda _: cluster, tuner, SEED).run(seconds)
    settled = seconds / 4
    decision = tuner.decide(seconds, cluster.environment)
    allowed = [size for size in sweep(tuner.size) if decision.lower <= size <= decision.upper]
    losses = {size: loss(Life(lambda _: cluster, size, SEED).run(seconds), settled) for size in allowed}
    best = min(losses, key=lambda size: losses[size])
    found = loss(tuned, settled)
    assert max(losses.values()) > 1.3 * losses[best], "the size matters here"
    assert found <= WITHIN * losses[best], f"{tuner.size} loses {found:.4f}, {best} only {losses[best]:.4f}"


CALM = Cluster(workers=256, tasks=128, utilisation=0.45, coordination_s=0.01, failure_every_s=100.0)
"""A cluster in which coordination is cheap and there is room."""
CHANGES = {
    "a round trip takes twenty times as long": replace(CALM, coordination_s=20 * CALM.coordination_s),
    "half of the workers are gone": replace(
        CALM, workers=128, utilisation=2 * CALM.utilisation, failure_every_s=2 * CALM.failure_every_s
    ),
}
CHANGED_AT_S = 4_000.0
LIVED_S = 10_000.0
LEARNT_S = 1_000.0


@pytest.mark.parametrize("change", CHANGES)
def test_it_finds_the_new_best_size_when_the_world_changes_and_others_do_worse(change: str) -> None:
    def cluster_at(at: float) -> Cluster:
        return CALM if at < CHANGED_AT_S else CHANGES[change]

    def lived(policy: Tuner | int) -> list[Ended]:
        return Life(cluster_at, policy, SEED).run(LIVED_S)

    before, after = _best(CALM), _best(CHANGES[change])
    model = lived(Tuner(FREE))
    paper = lived(Tuner(replace(FREE, mode=TuningMode.AIMD, overhead_upper=0.10)))
    found = loss(model, CHANGED_AT_S)
    assert found <= WITHIN * loss(lived(after), CHANGED_AT_S), "what learning costs included"
    assert loss(lived(before), CHANGED_AT_S) > 1.1 * found, "the best size of before"
    assert loss(paper, CHANGED_AT_S) > 1.1 * found, "the paper's controller"
    sizes = [group.size for group in model if group.at_s > CHANGED_AT_S + LEARNT_S]
    assert all(after / 2 < size < after * 2 for size in sizes), "and it stays there"


def _best(cluster: Cluster) -> int:
    """The fixed size that loses least in a cluster that does not change."""
    tuner = Tuner(FREE)
    Life(lambda _: cluster, tuner, SEED).run(50 * cluster.failure_every_s)
    seconds = horizon(cluster)
    return min(sweep(tuner.size), key=lambda size: loss(Life(lambda _: cluster, size, SEED).run(seconds)))

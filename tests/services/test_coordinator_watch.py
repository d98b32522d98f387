"""What the coordinator's watch makes of the machine's state, look by look."""

from __future__ import annotations

from dataclasses import replace

import pytest
from prometheus_client import CollectorRegistry

from drizzle_streams.coordinator.stopwatch import Stopwatch
from drizzle_streams.coordinator.watch import Watch
from drizzle_streams.core.coordinator import Coordinator, CoordinatorSettings
from drizzle_streams.core.coordinator_job import CoordinatorJob
from drizzle_streams.core.coordinator_standing import Recovery
from drizzle_streams.core.events import NodeExited
from drizzle_streams.core.node import Node
from drizzle_streams.core.tuning.band import Alarm, Constraint
from drizzle_streams.core.tuning.facts import Decision
from drizzle_streams.model.ids import (
    COORDINATOR,
    BatchId,
    Generation,
    GroupId,
    JobId,
    NodeId,
    SourceId,
    WorkerId,
)
from drizzle_streams.model.placement import Placement
from drizzle_streams.model.tuning import TuningMode
from drizzle_streams.protocol.messages import SealedReport
from drizzle_streams.protocol.parts import Copies
from drizzle_streams.protocol.records import GroupRecord, JobPhase
from drizzle_streams.telemetry.metrics import CoordinatorMetrics
from tests.services.service_worlds import two_stages

NAME = JobId("sums")


class Looked:
    """A coordinator's machine, and what a scrape of it shows."""

    def __init__(self) -> None:
        self.now = 100.0
        self.registry = CollectorRegistry()
        self.role = Coordinator(CoordinatorSettings(), Generation(1), {}, self.now)
        self.node = Node(COORDINATOR, 1, self.role)
        self.stopwatch = Stopwatch(self.node)
        metrics = CoordinatorMetrics(self.registry)
        self.watch = Watch(metrics, self.role, self.stopwatch, lambda: self.now)

    def join(self, *workers: str, busy: float = 0.0) -> None:
        for worker in workers:
            node = NodeId(worker)
            self.role.membership.join(node, f"http://{worker}", is_worker=True, size=1, now=self.now)
            self.role.membership.renew(node, busy, self.now)

    def run_job(self) -> CoordinatorJob:
        """Batches 10 to 14 are launched; both stages lie on w1 and w2."""
        stages = tuple(replace(stage, partitions=2) for stage in two_stages().stages)
        job = CoordinatorJob(replace(two_stages(), stages=stages), self.role.story)
        job.phase, job.generation = JobPhase.RUNNING, Generation(1)
        job.group = GroupRecord(GroupId(2), BatchId(10), BatchId(14), 100_000.0)
        job.placement = Placement(((WorkerId("w1"), WorkerId("w2")),) * 2)
        self.role.jobs[NAME] = job
        return job

    def shows(self, name: str, **labels: str) -> float | None:
        return self.registry.get_sample_value(name, labels)


@pytest.fixture
def looked() -> Looked:
    return Looked()


def test_workers_that_come_and_go_are_counted_by_how_they_went(looked: Looked) -> None:
    looked.join("w1", "w2", "w3")
    looked.watch.refresh()
    assert looked.shows("drizzle_workers_joined_total") == 3
    looked.node.handle(NodeExited(NodeId("w1")), looked.now)
    del looked.role.membership.members[NodeId("w2")]  # as one that has drained goes
    looked.join("w4")
    looked.watch.refresh()
    assert looked.shows("drizzle_workers_joined_total") == 4
    assert looked.shows("drizzle_workers_lost_total") == 1
    assert looked.shows("drizzle_workers_left_total") == 1
    assert looked.shows("drizzle_workers", state="alive") == 2


def test_a_worker_lost_before_anybody_looked_did_not_leave(looked: Looked) -> None:
    looked.join("w1")
    looked.watch.refresh()
    looked.join("w2")
    looked.node.handle(NodeExited(NodeId("w2")), looked.now)
    looked.watch.refresh()
    assert looked.shows("drizzle_workers_lost_total") == 1
    assert looked.shows("drizzle_workers_left_total") == 0


def test_a_fixed_group_size_is_a_band_of_one_value_with_what_is_known(looked: Looked) -> None:
    looked.join("w1", busy=0.2)
    looked.join("w2", busy=0.4)
    looked.run_job()
    looked.watch.refresh()
    for name in ("target", "optimum", "lower", "upper"):
        assert looked.shows(f"drizzle_tuner_{name}_batches", job=NAME) == 5
    assert looked.shows("drizzle_tuner_band_empty", job=NAME) == 0
    for size in ("target", "lower", "upper"):
        assert looked.shows("drizzle_tuner_binding", job=NAME, size=size, constraint="fixed") == 1
    found = {
        name: looked.shows("drizzle_tuner_input", job=NAME, input=name)
        for name in ("interval_seconds", "utilisation_ratio", "workers", "tasks", "coordination_seconds")
    }
    interval_s = two_stages().batch_interval_ms / 1000
    assert found == {
        "interval_seconds": interval_s,
        "utilisation_ratio": pytest.approx(0.3),
        "workers": 2,
        "tasks": 4,
        "coordination_seconds": 0,
    }


def test_a_decision_of_the_tuner_is_shown_with_what_contradicts(looked: Looked) -> None:
    job = looked.run_job()
    job.sizing.decision = Decision(
        group_size=12,
        target=12.0,
        optimum=30.0,
        lower=12.0,
        upper=7.0,
        binds_lower=Constraint.OVERHEAD,
        binds_upper=Constraint.RECOVERY,
        binding=Constraint.OVERHEAD,
        mode=TuningMode.MODEL,
        alarm=Alarm(Constraint.OVERHEAD, Constraint.RECOVERY),
        inputs={"failures_per_second": 0.25},
    )
    looked.watch.refresh()
    sizes = [
        looked.shows(f"drizzle_tuner_{name}_batches", job=NAME)
        for name in ("target", "optimum", "lower", "upper")
    ]
    assert sizes == [12, 30, 12, 7]
    assert looked.shows("drizzle_tuner_band_empty", job=NAME) == 1
    assert looked.shows("drizzle_tuner_binding", job=NAME, size="upper", constraint="recovery") == 1
    assert looked.shows("drizzle_tuner_input", job=NAME, input="failures_per_second") == 0.25


def test_a_checkpoint_that_never_comes_grows_old(looked: Looked) -> None:
    job = looked.run_job()
    looked.watch.refresh()
    looked.now += 7.0
    looked.watch.refresh()
    assert looked.shows("drizzle_checkpoint_age_seconds", job=NAME) == pytest.approx(7.0)
    job.committed_at = looked.now - 2.0
    looked.watch.refresh()
    assert looked.shows("drizzle_checkpoint_age_seconds", job=NAME) == pytest.approx(2.0)
    planned_s = job.snapshot_every * job.spec.batch_interval_ms / 1000
    assert looked.shows("drizzle_checkpoint_interval_seconds", job=NAME) == pytest.approx(planned_s)


def test_counts_start_at_nothing_so_that_the_first_is_an_increase(looked: Looked) -> None:
    looked.run_job()
    looked.watch.refresh()
    for name in ("groups_cut", "speculations", "batches_replayed"):
        assert looked.shows(f"drizzle_{name}_total", job=NAME) == 0
    assert looked.shows("drizzle_recovery_seconds_count", job=NAME) == 0


def test_copies_are_counted_as_sources_say_and_never_taken_back(looked: Looked) -> None:
    job = looked.run_job()
    looked.watch.refresh()
    source = SourceId("s1")
    for copies in (Copies(5, 3, 1), Copies(6, 4, 2), Copies(0, 0, 0), Copies(1, 0, 0)):
        job.sealed[source] = SealedReport(job.spec.job, job.generation, source, BatchId(9), 0, 0, copies)
        looked.watch.refresh()
    assert looked.shows("drizzle_speculations_total", job=NAME) == 7
    assert looked.shows("drizzle_speculations_won_total", job=NAME) == 4
    assert looked.shows("drizzle_speculations_wasted_total", job=NAME) == 2


def test_jobs_are_counted_by_phase_and_leave_nothing_when_they_end(looked: Looked) -> None:
    job = looked.run_job()
    job.recovery = Recovery("w1 lost", looked.now, (), BatchId(9), 3)
    looked.watch.refresh()
    assert looked.shows("drizzle_jobs", phase="running") == 1
    assert looked.shows("drizzle_recovering", job=NAME) == 1
    job.phase = JobPhase.FAILED
    looked.watch.refresh()
    assert looked.shows("drizzle_jobs", phase="running") == 0
    assert looked.shows("drizzle_jobs", phase="failed") == 1
    left = [s for family in looked.registry.collect() for s in family.samples if s.labels.get("job")]
    assert left == []


def test_a_job_that_waits_has_no_placement_yet(looked: Looked) -> None:
    job = looked.run_job()
    job.phase, job.placement, job.group = JobPhase.WAITING, Placement(), None
    looked.watch.refresh()
    assert looked.shows("drizzle_tuner_input", job=NAME, input="tasks") == 0


def test_a_job_submitted_again_between_two_looks_is_counted_on(looked: Looked) -> None:
    """Counts of a run begin at 0: what its predecessor was seen to have says nothing about it."""
    looked.run_job().groups_cut = 5
    looked.watch.refresh()
    again = looked.run_job()
    again.spec, again.groups_cut = replace(again.spec, born=Generation(7)), 2
    looked.watch.refresh()
    assert looked.shows("drizzle_groups_cut_total", job=NAME) == 7

"""Who is relieved and who is reinstated: the judge alone, told what workers did."""

from __future__ import annotations

from drizzle_streams.core.membership import Member
from drizzle_streams.core.relief import change, shares
from drizzle_streams.core.stalls import PULSE_S, StallWatch
from drizzle_streams.core.stragglers import (
    BATCHES_COMPARED_MAX,
    PENANCE_S,
    PENANCE_S_MAX,
    SLOW_AFTER_MS_MIN,
    SLOW_BATCHES,
    SLOW_WITHIN_S,
    Stragglers,
    is_slow,
    slow_after_ms,
)
from drizzle_streams.model.ids import BatchId, JobId, NodeId, StageId, WorkerId

JOB, STAGE = JobId("sums"), StageId(0)
A, B, C = WorkerId("a"), WorkerId("b"), WorkerId("c")
INTERVAL_MS = 50.0


def members(*workers: WorkerId, load: float = 0.2) -> list[Member]:
    return [Member(NodeId(w), "", is_worker=True, size=1, expires=0.0, load=load) for w in workers]


class Cluster:
    """Reports of batches, one after another, in virtual time."""

    def __init__(self, *workers: WorkerId, load: float = 0.2) -> None:
        self.stragglers = Stragglers()
        self.workers = members(*workers, load=load)
        self.now = 100.0
        self.batch = 0

    def batches(self, count: int, late_ms: dict[WorkerId, float], over_s: float = 0.0) -> None:
        for _ in range(count):
            self.batch += 1
            for worker, ms in late_ms.items():
                task = (JOB, STAGE, BatchId(self.batch))
                self.stragglers.finished(task, worker, ms, len(late_ms), INTERVAL_MS, self.now)
            self.now += over_s / count

    def judged(self) -> list[WorkerId]:
        """Who is relieved after judging now."""
        self.stragglers.judge(self.workers, self.now)
        return [worker for worker, _ in self.stragglers.relieve(self.workers, self.now)]

    def pulses(self, count: int, late_ms: float = 150.0) -> None:
        """Stops of a worker: what they delayed is reported at once, with a second between them."""
        for _ in range(count):
            self.batches(3, {A: late_ms, B: 8.0})
            self.batches(17, {A: 8.0, B: 8.0}, over_s=1.0)


def test_noise_is_no_straggling() -> None:
    """Ten times the median, and still nothing that costs a batch."""
    assert not is_slow(30.0, 3.0, INTERVAL_MS)
    assert not is_slow(SLOW_AFTER_MS_MIN + 3.0, 3.0, INTERVAL_MS)
    assert is_slow(SLOW_AFTER_MS_MIN + 4.0, 3.0, INTERVAL_MS)


def test_large_batches_have_a_large_floor_and_long_tasks_a_ratio() -> None:
    assert slow_after_ms(500.0) == 500.0
    assert not is_slow(1_350.0, 1_000.0, INTERVAL_MS)
    assert is_slow(1_450.0, 1_000.0, INTERVAL_MS)


def test_pulses_relieve_the_worker_that_is_stopped() -> None:
    cluster = Cluster(A, B)
    cluster.pulses(1)
    assert cluster.judged() == [], "once is forgiven"
    cluster.pulses(1)
    assert cluster.judged() == [A]
    assert cluster.stragglers.relieved == {A}
    assert cluster.judged() == [], "told once"


def test_what_is_long_ago_does_not_count() -> None:
    cluster = Cluster(A, B)
    for _ in range(5):
        cluster.pulses(1)
        assert cluster.judged() == []
        cluster.now += SLOW_WITHIN_S


def test_being_slow_for_long_is_straggling_too() -> None:
    cluster = Cluster(A, B)
    cluster.batches(SLOW_BATCHES + 10, {A: 120.0, B: 8.0}, over_s=0.8)
    assert cluster.judged() == []
    cluster.batches(SLOW_BATCHES, {A: 120.0, B: 8.0}, over_s=0.3)
    assert cluster.judged() == [A]


def test_what_delays_everybody_is_nobody_s_fault() -> None:
    cluster = Cluster(A, B)
    cluster.batches(60, {A: 180.0, B: 180.0}, over_s=3.0)
    assert cluster.judged() == []
    assert cluster.stragglers.slow_batches(A, cluster.now) == 0


def test_stages_of_a_batch_count_once() -> None:
    cluster = Cluster(A, B)
    for stage in range(SLOW_BATCHES):
        for worker, ms in {A: 150.0, B: 8.0}.items():
            task = (JOB, StageId(stage), BatchId(1))
            cluster.stragglers.finished(task, worker, ms, 2, INTERVAL_MS, cluster.now)
    assert cluster.stragglers.slow_batches(A, cluster.now) == 1


def test_nobody_is_relieved_where_the_others_have_no_room() -> None:
    cluster = Cluster(A, B, load=0.45)
    cluster.pulses(4)
    assert cluster.judged() == []


def test_nobody_is_relieved_while_everybody_is_late() -> None:
    """Slots are not all that can be full: a machine may have too few cores for its processes."""
    cluster = Cluster(A, B)
    for _ in range(4):
        cluster.batches(20, {A: 700.0, B: 400.0}, over_s=1.0)
    assert cluster.stragglers.slow_batches(A, cluster.now) >= SLOW_BATCHES
    assert cluster.judged() == []


def test_no_more_than_half_are_relieved() -> None:
    cluster = Cluster(A, B, C)
    for _ in range(3):
        cluster.batches(3, {A: 150.0, B: 8.0, C: 8.0})
        cluster.batches(3, {A: 8.0, B: 150.0, C: 8.0})
        cluster.batches(14, {A: 8.0, B: 8.0, C: 8.0}, over_s=1.0)
    assert len(cluster.judged()) == 1


def test_a_relieved_worker_comes_back_when_it_has_not_stalled_for_a_while() -> None:
    cluster = Cluster(A, B)
    cluster.pulses(2)
    assert cluster.judged() == [A]
    cluster.now += PENANCE_S - 1.0
    cluster.stragglers.heard(A, 180.0, cluster.now)
    cluster.now += PENANCE_S - 1.0
    cluster.stragglers.heard(A, 12.0, cluster.now)
    assert cluster.stragglers.judge(cluster.workers, cluster.now) == []
    cluster.now = cluster.stragglers.next_deadline() or 0.0
    assert [worker for worker, _ in cluster.stragglers.judge(cluster.workers, cluster.now)] == [A]
    assert cluster.stragglers.relieved == frozenset()


def test_what_is_due_is_done_whatever_the_clock_says() -> None:
    """Else a machine is asked for ever for what it says is due: seed 1 of `test_rhythm` never ended."""
    for step in range(200):
        cluster = Cluster(A, B)
        cluster.now = 1020.0 + step / 37.0
        cluster.pulses(3)
        assert cluster.judged() == [A]
        due = cluster.stragglers.next_deadline()
        assert due is not None
        cluster.now = due
        assert cluster.stragglers.judge(cluster.workers, due)
        assert cluster.stragglers.next_deadline() is None


def test_each_relapse_doubles_the_wait() -> None:
    cluster = Cluster(A, B)
    waits: list[float] = []
    for _ in range(8):
        cluster.pulses(2)
        assert cluster.judged() == [A]
        waits.append((cluster.stragglers.next_deadline() or 0.0) - cluster.now)
        cluster.now += waits[-1]
        cluster.stragglers.judge(cluster.workers, cluster.now)
    doubled = [PENANCE_S * 2**relapses for relapses in range(8)]
    assert [round(wait, 6) for wait in waits] == [min(wait, PENANCE_S_MAX) for wait in doubled]


def test_who_is_needed_comes_back_at_once_and_is_let_be() -> None:
    cluster = Cluster(A, B)
    cluster.pulses(2)
    assert cluster.judged() == [A]
    cluster.batches(40, {B: 600.0}, over_s=2.0)
    assert [worker for worker, _ in cluster.stragglers.judge(cluster.workers, cluster.now)] == [A]
    cluster.pulses(2)
    assert cluster.judged() == [], "moving it to and fro would cost more than it does"
    cluster.now += PENANCE_S
    cluster.pulses(2)
    assert cluster.judged() == [A]


def test_batches_that_one_owner_never_reports_are_forgotten() -> None:
    stragglers = Stragglers()
    for batch in range(2 * BATCHES_COMPARED_MAX):
        stragglers.finished((JOB, STAGE, BatchId(batch)), A, 8.0, 2, INTERVAL_MS, 100.0)
    assert len(stragglers._compared) == BATCHES_COMPARED_MAX


def test_shares_of_relieved_workers() -> None:
    workers, relieved = [(A, 2), (B, 1)], frozenset((A,))
    assert shares(workers, relieved, lambda _: True, boundary=True) == [(A, 0), (B, 1)]
    assert shares(workers, relieved, lambda _: True, boundary=False) == workers, "it would be replayed"
    assert shares(workers, relieved, lambda _: False, boundary=False) == [(A, 0), (B, 1)]
    assert shares([(A, 2)], relieved, lambda _: False, boundary=True) == [(A, 2)], "nobody else is left"


def test_a_boundary_is_wanted_only_for_a_change() -> None:
    none, only_a, both = frozenset[WorkerId](), frozenset((A,)), frozenset((A, B))
    assert change(none, none, both, both) == ""
    assert change(none, only_a, both, both) == "a relieved"
    assert change(only_a, only_a, both, frozenset((B,))) == ""
    assert change(only_a, none, both, frozenset((B,))) == "a reinstated"
    assert change(none, only_a, only_a, only_a) == "", "nobody could take over"


def test_a_stall_is_how_late_one_was_woken() -> None:
    stalls = StallWatch()
    stalls.look(10.0)
    stalls.look(10.01)
    stalls.look(10.0 + PULSE_S + 0.2)
    stalls.look(10.0 + 2 * PULSE_S + 0.21)
    assert round(stalls.take_ms()) == 200
    assert stalls.take_ms() == 0.0


def test_the_next_coordinator_knows_who_was_relieved_and_how_often() -> None:
    before = Cluster(A, B, C)
    before.pulses(2)
    assert before.judged() == [A]
    before.now += PENANCE_S
    before.judged()
    before.pulses(2)
    assert before.judged() == [A], "a relapse"

    after = Cluster(A, B, C)
    after.now = before.now
    after.stragglers.remember(before.stragglers.relief())
    assert after.stragglers.relieved == frozenset(), "who has not come back is nobody's concern"
    assert after.stragglers.relief() == before.stragglers.relief(), "nor is it forgotten by the next but one"
    assert after.stragglers.welcome_back(members(A, B, C), after.now) == [A]
    after.now += 2 * PENANCE_S - 0.1
    assert after.stragglers.judge(after.workers, after.now) == []
    after.now += 0.1
    assert [worker for worker, _ in after.stragglers.judge(after.workers, after.now)] == [A]

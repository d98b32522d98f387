"""One job on one worker: cohorts that come, compute, write and go.

The local scheduler of the paper (section 3.2): a task starts when its cohort stands at the
batch before, the batch is launched, and the last awaited piece is here. Nobody is asked.
`worker_blocks` knows what has come, `worker_launches` what may begin.
"""

from __future__ import annotations

from dataclasses import replace

from drizzle_streams.core import actions as act
from drizzle_streams.core import events as ev
from drizzle_streams.core.below import is_last, says
from drizzle_streams.core.cohorts import Cohort
from drizzle_streams.core.copies import CopyTask
from drizzle_streams.core.late_sources import awaited, begun, first_batches
from drizzle_streams.core.later import said_at
from drizzle_streams.core.machine import Effects
from drizzle_streams.core.pressure import allowed_through, doubtful_from
from drizzle_streams.core.retained import Run
from drizzle_streams.core.worker_launches import JobLaunches
from drizzle_streams.model.ids import COORDINATOR, BatchId, CohortId, NodeId, PartitionId, StageId
from drizzle_streams.model.replanning import StageSeen, added, choice_at
from drizzle_streams.model.task import TaskKey
from drizzle_streams.protocol import messages as msg
from drizzle_streams.protocol import parts

OUTPUTS_PENDING_MAX = 16
"""Computed batches whose output the sink has not taken; at the bound the cohort waits (back-pressure)."""


class WorkerJob(JobLaunches):
    """State of one job; the worker machine dispatches to it."""

    # --- a new generation -----------------------------------------------------------------

    def assign(self, assign: msg.Assign, now: float, out: Effects) -> None:
        """Take a generation: give up, adopt, and announce what others now need from us."""
        self.generation = assign.generation
        self.copies.clear()
        self.untold.drop()
        self.later.drop()
        self.boundary = None
        self.failed = False
        self.newest_at = now
        if assign.spec != self.spec:
            out.start(act.LayOut(assign.spec.job, assign.spec))
        changed = self.lay_out(assign.spec)
        self.damaged = [one for one in self.damaged if one[0] not in changed]
        self.placement = assign.placement
        self.layouts = {layout.stream: layout for layout in assign.layouts}
        self.awaited = awaited(self.spec, self.layouts)
        needed = begun(assign.needed, first_batches(self.spec, assign.layouts))
        self.doubtful = max(self.doubtful, doubtful_from(needed, self.snapshot_every))
        self.commit(assign.committed, out)
        for stage in self.spec.stages:
            mine = () if stage.stage in changed else assign.placement.held_by(self.worker, stage.stage)
            self._give_up(stage.stage, frozenset(mine), out)
        for adoption in assign.adoptions:
            self._adopt(adoption, now, out)
        self._tell_damaged(out)
        for stage in self.spec.stages:
            self._announce_all(stage, assign.needed, out)
        for cohort in self.cohorts.values():
            if cohort.computed >= 0:
                # Credit given in the older generation may have been refused by now.
                for source, taken in self._credits(cohort.stage, cohort.partitions, cohort.computed):
                    out.send(source, taken)
        self.report_due = self._report_whole = True

    def _give_up(self, stage: StageId, mine: frozenset[PartitionId], out: Effects) -> None:
        for cohort in self._of_stage(stage):
            self._drop_from(cohort, frozenset(cohort.partitions) - mine, out)

    def _drop_from(self, cohort: Cohort, dropped: frozenset[PartitionId], out: Effects) -> None:
        kept = tuple(p for p in cohort.partitions if p not in dropped)
        if kept != cohort.partitions:
            cohort.keep(kept)
            out.start(act.KeepPartitions(self.spec.job, cohort.stage, cohort.cohort, kept))
        if not kept:
            del self.cohorts[cohort.cohort]

    def _adopt(self, adoption: parts.Adoption, now: float, out: Effects) -> None:
        """Partitions become a cohort; those held already and not behind are left alone."""
        behind = {c.cohort for c in self._of_stage(adoption.stage) if self._is_short(c, adoption)}
        for cohort in self._of_stage(adoption.stage):
            if cohort.cohort in behind:
                self._drop_from(cohort, frozenset(adoption.partitions), out)
        held = {p for cohort in self._of_stage(adoption.stage) for p in cohort.partitions}
        partitions = tuple(p for p in adoption.partitions if p not in held)
        if partitions:
            self._open(adoption, partitions, now, out)
        for line in adoption.available:
            ready = self._ready(line, adoption.stage, adoption.partitions)
            self.blocks_ready(ready, carried=False, out=out)

    def _is_short(self, cohort: Cohort, adoption: parts.Adoption) -> bool:
        """Whether a cohort is behind, or came in too late to have the blocks from there on."""
        if cohort.next <= adoption.first:
            return cohort.next < adoption.first
        shared = frozenset(cohort.partitions).intersection(adoption.partitions)
        has_readers = bool(self.spec.downstream(adoption.stage))
        return has_readers and not self.retained.has(adoption.stage, adoption.first, shared)

    def _open(
        self, adoption: parts.Adoption, partitions: tuple[PartitionId, ...], now: float, out: Effects
    ) -> None:
        self._cohorts_made += 1
        before = BatchId(adoption.first - 1)
        stateful = self.spec.stage(adoption.stage).stateful
        cohort = Cohort(
            cohort=CohortId(self._cohorts_made),
            stage=adoption.stage,
            partitions=partitions,
            computed=before,
            done=before,
            reported=before,
            open=not stateful,
            waiting_since=now,
            done_before=adoption.done,
        )
        self.cohorts[cohort.cohort] = cohort
        if stateful:
            out.start(
                act.OpenCohort(
                    self.spec.job,
                    adoption.stage,
                    cohort.cohort,
                    partitions,
                    before,
                    adoption.snapshots,
                    adoption.formers,
                )
            )

    # --- running --------------------------------------------------------------------------

    def ready(self, *, pressed: bool = False) -> list[Cohort]:
        """Cohorts whose next task can start now; `pressed`: memory for blocks is full."""
        if not self.loaded or self.failed:
            return []
        found = [cohort for cohort in self.cohorts.values() if self._can_run(cohort)]
        if not pressed:
            return found
        last = allowed_through(max(self.committed, self.newest), self.snapshot_every, self.doubtful)
        return [c for c in found if c.next <= last or not self.spec.downstream(c.stage)]

    def _can_run(self, cohort: Cohort) -> bool:
        batch = cohort.next
        if cohort.running or not cohort.open or batch > self.launched[cohort.stage]:
            return False
        if cohort.computed - cohort.done >= OUTPUTS_PENDING_MAX:
            return False
        table = self.arrivals[cohort.stage]
        if self.spec.stages[cohort.stage].stream is not None:
            return table.complete_input(batch, act.INPUT, cohort.mask)
        return table.complete(batch, self.awaited[cohort.stage].at(batch), cohort.mask)

    def replays(self, cohort: Cohort) -> bool:
        """Whether other partitions of the stage here are ahead of this cohort."""
        return any(other.computed > cohort.computed for other in self._of_stage(cohort.stage))

    def run(self, cohort: Cohort, out: Effects) -> None:
        """Start the cohort's next task."""
        batch = cohort.next
        table = self.arrivals[cohort.stage]
        sealed_at_ms = table.sealed_at_ms(batch)
        cohort.running = True
        cohort.sealed_at_ms[batch] = sealed_at_ms
        key = TaskKey(self.spec.job, cohort.stage, cohort.cohort, batch)
        choice = choice_at(self.chosen, batch, cohort.stage)
        pieces, replayed = table.pieces(batch, cohort.mask), batch <= cohort.done_before
        out.start(act.RunTask(key, cohort.partitions, pieces, sealed_at_ms, choice, replayed))

    def saw(self, seen: StageSeen | None) -> None:
        """What a batch was like, for the next report that carries such."""
        if seen is not None:
            self.seen[seen.stage] = added(self.seen.get(seen.stage), seen)

    def run_copy(self, out: Effects) -> bool:
        """Start a copy of another worker's task, if there is one to run."""
        task = self.copies.start(self.spec.job) if self.loaded and not self.failed else None
        if task is not None:
            key = task.key
            out.start(replace(task, choice=choice_at(self.chosen, key.batch, key.stage)))
        return task is not None

    def _copied(self, copy: CopyTask, out: Effects) -> None:
        """Its blocks are as good as the original's: announce them, and tell the source."""
        fragment, stage = copy.fragment, copy.stage
        self.retained.keep(stage, fragment.batch, fragment.partitions, copy.sealed_at_ms)
        run = Run(fragment.batch, fragment.batch, fragment.partitions, (copy.sealed_at_ms,))
        self.tell_run(stage, run, out)
        out.send(fragment.sender, self.taken(stage, fragment.partitions, fragment.batch))

    def finished(self, key: TaskKey, now: float, out: Effects) -> None:
        """A batch is computed: announce its blocks, give credit, write its rows, maybe snapshot."""
        copy = self.copies.ended(key)
        if copy is not None:
            self._copied(copy, out)
            return
        cohort = self.cohorts.get(key.cohort)
        if cohort is None:
            return
        cohort.running = False
        cohort.computed = key.batch
        cohort.came(now)
        stage = self.spec.stages[cohort.stage]
        sealed_at_ms = cohort.sealed_at_ms.get(key.batch, 0.0)
        if self.spec.speculation and sealed_at_ms and not self.replays(cohort):
            late_ms = now * 1000.0 - sealed_at_ms
            self.lateness.append(parts.TaskLateness(stage.stage, key.batch, late_ms))
        if not is_last(self.spec, stage):
            self._finished(cohort, key.batch, sealed_at_ms, now, out)
        elif says(self.spec, stage, key.batch, self.say_every):
            self.credit_below(cohort, None, out)
        if stage.writes_output:
            self._write(cohort, out)
        else:
            self._done(cohort, key.batch, now)
        if (key.batch + 1) % self.snapshot_every == 0 or key.batch == self.boundary:
            self._store(cohort, out)
        self._settle(cohort, now, out)

    def _finished(
        self, cohort: Cohort, batch: BatchId, sealed_at_ms: float, now: float, out: Effects
    ) -> None:
        """Others wait for it: now, or when it is told with the batches that can follow at once."""
        stage = cohort.stage
        if self.spec.downstream(stage):
            self.retained.keep(stage, batch, cohort.partitions, sealed_at_ms)
        # What is launched stage by stage is announced by who launches it: no range goes on into that.
        more = cohort.next <= self.notify_through and self._can_run(cohort)
        for run in self.untold.add(stage, cohort.partitions, batch, sealed_at_ms, more=more):
            self._hand_on(stage, run, now, out)

    def tell_untold(self, now: float, out: Effects) -> None:
        """Say what was held back."""
        for stage, run in self.untold.take():
            self._hand_on(stage, run, now, out)

    def _hand_on(self, stage: StageId, run: Run, now: float, out: Effects) -> None:
        """Announce finished batches to those below, if this job's workers do, and credit those above."""
        if run.last <= self.notify_through:
            self.tell_run(stage, run, out)
        until = said_at(run.sealed_at_ms[-1], self.spec.batch_interval_ms, now)
        for source, taken in self._credits(stage, run.partitions, run.last):
            if until > now:
                self.later.hold(source, taken, now, until)
            else:
                out.send(source, taken)

    def say_later(self, now: float, out: Effects) -> None:
        """Give the credit that has waited."""
        for source, taken in self.later.due(now):
            out.send(source, taken)

    def _credits(
        self, stage: StageId, computed: tuple[PartitionId, ...], batch: BatchId
    ) -> list[tuple[NodeId, msg.Taken]]:
        """What tells the sources of a stage that reads how far it is; of others none."""
        stream = self.spec.stages[stage].stream
        if stream is None:
            return []
        layout = self.layouts[str(stream)]
        by_source: dict[NodeId, list[PartitionId]] = {}
        for partition in computed:
            by_source.setdefault(NodeId(layout.owners[partition]), []).append(partition)
        return [
            (source, self.taken(stage, tuple(partitions), batch)) for source, partitions in by_source.items()
        ]

    def credit_below(self, cohort: Cohort, only: NodeId | None, out: Effects) -> None:
        """A last stage tells all sources how far it is, or one of them: see `core.below`."""
        owners = dict.fromkeys(NodeId(o) for layout in self.layouts.values() for o in layout.owners)
        for source in owners:
            if only in (None, source):
                out.send(source, self.taken(cohort.stage, cohort.partitions, cohort.computed))

    def unsaid(self, node: NodeId, out: Effects) -> None:
        """What was said to a node is lost: if it is a source, it must know how far the last stages are."""
        for cohort in self.cohorts.values():
            if is_last(self.spec, self.spec.stages[cohort.stage]) and cohort.computed >= 0:
                self.credit_below(cohort, node, out)

    # --- output, reports, checkpoints -----------------------------------------------------

    def _write(self, cohort: Cohort, out: Effects) -> None:
        if not cohort.writing and cohort.done < cohort.computed:
            cohort.writing = True
            first = BatchId(cohort.done + 1)
            out.start(act.WriteOutput(self.spec.job, cohort.stage, cohort.cohort, first, cohort.computed))

    def output_written(self, cohort_id: CohortId, last: BatchId, now: float, out: Effects) -> None:
        """The sink holds everything up to `last`."""
        cohort = self.cohorts.get(cohort_id)
        if cohort is None:
            return
        cohort.writing = False
        self._done(cohort, last, now)
        self._write(cohort, out)
        self._settle(cohort, now, out)

    def _done(self, cohort: Cohort, last: BatchId, now: float) -> None:
        final = self.spec.stages[cohort.stage].writes_output
        for batch in range(cohort.done + 1, last + 1):
            sealed_at_ms = cohort.sealed_at_ms.pop(BatchId(batch), 0.0)
            if final and sealed_at_ms and batch > cohort.done_before:
                took_ms = now * 1000.0 - sealed_at_ms
                self.latencies.add(BatchId(batch), took_ms, sealed_at_ms)
        cohort.done = last
        self.report_due = True

    def _settle(self, cohort: Cohort, now: float, out: Effects) -> None:
        """Merge with a cohort at the same batch; let go of inputs that nobody here needs."""
        for other in self._of_stage(cohort.stage):
            if other is cohort or not (cohort.settled and other.settled):
                continue
            if other.computed == cohort.computed:
                self._merge(cohort, other, now, out)
        through = BatchId(self._oldest(cohort.stage) - 1)
        kept = self.copies.keeps_from(cohort.stage)
        if kept is not None:
            through = BatchId(min(through, kept - 1))
        if self.arrivals[cohort.stage].release(through):
            out.start(act.ReleaseFragments(self.spec.job, cohort.stage, through))

    def _merge(self, cohort: Cohort, other: Cohort, now: float, out: Effects) -> None:
        cohort.keep(tuple(sorted(cohort.partitions + other.partitions)))
        cohort.reported = BatchId(min(cohort.reported, other.reported))
        cohort.stored = BatchId(max(cohort.stored, other.stored))
        cohort.done_before = BatchId(min(cohort.done_before, other.done_before))
        cohort.waiting_since = now
        del self.cohorts[other.cohort]
        out.start(act.MergeCohorts(self.spec.job, cohort.stage, cohort.cohort, other.cohort))

    def snapshot_damaged(self, event: ev.CohortDamaged, out: Effects) -> None:
        """A cohort cannot be opened with what there is: the coordinator says with what else."""
        cohort = self.cohorts.pop(event.cohort, None)
        if cohort is not None:
            self.damaged.append((cohort.stage, cohort.partitions, event))
            self._tell_damaged(out)

    def _tell_damaged(self, out: Effects) -> None:
        """Say what could not be opened, also to a coordinator that planned anew before it heard of it."""
        told, self.damaged = self.damaged, []
        for stage, partitions, event in told:
            held = {p for cohort in self._of_stage(stage) for p in cohort.partitions}
            lacking = set(self.placement.held_by(self.worker, stage)).intersection(partitions) - held
            if lacking:
                still = tuple(sorted(lacking))
                self.damaged.append((stage, still, event))
                place = (self.spec.job, self.generation, self.worker, stage, still)
                out.send(COORDINATOR, msg.SnapshotDamaged(*place, event.batch, event.reason))

    def commit(self, batch: BatchId, out: Effects) -> None:
        """Two checkpoints are durable: blocks behind the older one are nobody's need any more."""
        if batch <= self.committed:
            return
        self.committed = batch
        self.retained.drop(batch)
        out.start(act.DropBlocks(self.spec.job, batch))

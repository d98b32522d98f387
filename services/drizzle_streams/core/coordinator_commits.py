"""What of one job is committed for good, and how it ends.

The third layer of `coordinator_job`. A checkpoint is committed when every present owner stands at
it; a damaged one is fallen back from; a job that ends lets go of all that was stored for it.
"""

from __future__ import annotations

from drizzle_streams.core import actions as act
from drizzle_streams.core.coordinator_launches import JobLaunches
from drizzle_streams.core.machine import Effects
from drizzle_streams.model.ids import BatchId, NodeId, PartitionId, StageId, WorkerId
from drizzle_streams.protocol import messages as msg
from drizzle_streams.protocol import parts
from drizzle_streams.protocol.records import BlocksRecord, CheckpointRecord, JobPhase, JobRecord, job_key


class JobCommits(JobLaunches):
    """One job at the coordinator, as far as it is committed and ended."""

    def _commit(self, now: float, out: Effects) -> None:
        # Not beyond what every present owner stands at: an owner that replays still needs what a
        # checkpoint would drop (the old owner's snapshot of a later batch may be stored already).
        through = min(self.progress.frontier, self.progress.held_by_all)
        boundary = None if self.boundary is None else self.boundary.batch
        checkpoint = self.checkpoints.complete(through, self.snapshot_every, boundary)
        if checkpoint is None:
            return
        obsolete = self.checkpoints.commit(checkpoint)
        self.rhythm.committed(checkpoint.batch)
        self.committed_at = now
        job = self.spec.job
        self._put_checkpoint(out)
        out.put(job_key(job, "blocks"), BlocksRecord(self._blocks_held()))
        committed = msg.Committed(job, self.generation, self.checkpoints.floor, checkpoint.batch)
        for node in self.nodes():
            out.send_along(node, committed)
        if obsolete:
            out.start(act.DeleteSnapshots(job, obsolete))

    def _put_checkpoint(self, out: Effects) -> None:
        record = CheckpointRecord(self.checkpoints.committed, self.checkpoints.previous)
        out.put(job_key(self.spec.job, "checkpoint"), record)

    def _blocks_held(self) -> tuple[parts.Available, ...]:
        """Shuffle metadata: which worker holds which stage's blocks up to which batch."""
        found: dict[tuple[StageId, WorkerId, BatchId], list[PartitionId]] = {}
        for stage in self.spec.stages:
            if self.spec.downstream(stage.stage):
                for owner, partitions in self.placement.by_owner(stage.stage).items():
                    for p in self.progress.begun(stage.stage, partitions, self.checkpoints.committed.batch):
                        last = self.progress.held[stage.stage][p]
                        found.setdefault((stage.stage, owner, last), []).append(p)
        first = BatchId(self.checkpoints.committed.batch + 1)
        return tuple(
            parts.Available(stage, tuple(ps), owner, first, last)
            for (stage, owner, last), ps in found.items()
            if last >= first
        )

    def snapshot_damaged(self, found: msg.SnapshotDamaged, now: float, out: Effects) -> None:
        """A snapshot is not what was stored: fall back to the checkpoint before it, and plan anew.

        Its worker does not hold these partitions then; neither do those that lack blocks from there on.
        """
        if found.generation != self.generation:
            return
        name = f"snapshot of stage {found.stage} at batch {found.batch}"
        if found.batch == self.checkpoints.committed.batch:
            if not self.checkpoints.fall_back():
                self.end(
                    JobPhase.FAILED, f"{name} is damaged, and so is the one before: {found.reason}", now, out
                )
                return
            self._put_checkpoint(out)
        first = BatchId(self.checkpoints.committed.batch + 1)
        self.story.tell(
            now, "SnapshotDamaged", f"{name}: replay from batch {first}, {found.reason}", self.spec.job
        )
        unheld = {
            (found.stage, p) for p in found.partitions if self.holders.get((found.stage, p)) == found.worker
        }
        unheld |= self.lineage.short_of(first, self.spec, self.holders)
        for key in unheld:
            del self.holders[key]
        self.want_plan(f"{name} damaged", now)

    # --- ends -----------------------------------------------------------------------------

    def _input_is_done(self) -> bool:
        """Whether the input has ended at every source, and everything up to there is computed and written."""
        if not self.ended_at:
            return False  # asked after every report, and looking up all sources is dear
        sources = self.sources()
        if not sources or any(source not in self.ended_at for source in sources):
            return False
        return self.progress.frontier >= max(self.ended_at.values())

    def end(self, phase: JobPhase, detail: str, now: float, out: Effects) -> None:
        """The job is over: say so, remember why, let go of everything else."""
        self.phase, self.detail = phase, detail
        self.wants_plan = ""
        self._put_phase(out)
        for kind in ("assign", "group", "checkpoint", "blocks"):
            out.delete(job_key(self.spec.job, kind))
        stop = msg.StopJob(self.spec.job, self.generation, detail.splitlines()[0])
        for node in (*self.nodes(), *map(NodeId, self.newcomers.told())):
            out.send(node, stop)
        stored = tuple(sorted(self.checkpoints.forget()))
        if stored:
            out.start(act.DeleteSnapshots(self.spec.job, stored))
        out.start(act.ForgetProgram(self.spec.job))
        kind = "JobFailed" if phase is JobPhase.FAILED else "JobStopped"
        self.story.tell(now, kind, detail.splitlines()[0], self.spec.job)

    def _put_phase(self, out: Effects) -> None:
        record = JobRecord(self.spec, self.phase, self.layouts, self.detail)
        out.put(job_key(self.spec.job, "spec"), record)

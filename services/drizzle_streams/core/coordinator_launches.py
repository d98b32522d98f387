"""What is launched of one job, and in which words nodes hear of it (section 3.1).

The second layer of `coordinator_job`. A group is one message per node, a range of batches; a cut
takes back what has not begun; in barrier mode stages are launched one by one, for comparison.
"""

from __future__ import annotations

from dataclasses import replace

from drizzle_streams.core.boundary import cut_group
from drizzle_streams.core.coordinator_standing import JobStanding
from drizzle_streams.core.machine import Effects
from drizzle_streams.core.planner import next_group
from drizzle_streams.model.ids import NO_BATCH, BatchId, NodeId
from drizzle_streams.model.job import Scheduling
from drizzle_streams.protocol import messages as msg
from drizzle_streams.protocol import parts
from drizzle_streams.protocol.records import GroupRecord, job_key


class JobLaunches(JobStanding):
    """One job at the coordinator, as far as its groups are launched and cut."""

    def _launch_due(self, now: float, out: Effects) -> None:
        while True:
            group = next_group(self.spec, self.group, self.progress.frontier, now * 1000.0)
            if group is None:
                return
            progress = self.progress
            group = self._spaced(group, now)
            self.rhythm.decide(now, len(self.planned_workers), self.sizing.utilisation)
            sized = self.sizing.sized(
                group,
                now,
                placement=self.placement,
                frontier=progress.frontier,
                latencies=progress.latencies,
            )
            workers = len(self.planned_workers)
            planned = self.replanning.planned(sized, self.checkpoints.floor, now, workers)
            self._launch_group(planned, out)

    def _spaced(self, group: GroupRecord, now: float) -> GroupRecord:
        """The group with the interval that is best now, where that is ours to choose."""
        if not self.spec.interval_auto:
            return group
        if self.recovery is not None:
            self.interval.begin()
        ms = self.interval.decide(now, self.progress.frontier, group.first)
        return replace(group, interval_ms=ms)

    def _launch_group(self, group: GroupRecord, out: Effects) -> None:
        self.group = group = replace(group, granted=BatchId(max(self.granted, group.last)))
        self.groups_launched += 1
        out.put(job_key(self.spec.job, "group"), group)
        launch = self._launch(group)
        nodes = self.nodes()
        if self.spec.scheduling is Scheduling.BARRIER:
            nodes = tuple(NodeId(source) for source in self.sources())
        for node in nodes:
            out.send(node, launch)

    def _launch_again(self, out: Effects) -> None:
        """A new generation launches what was launched: catching up is always pre-scheduled."""
        launch = self._launch(self._everything())
        for node in self.nodes() if launch.first <= launch.last else ():
            out.send(node, launch)
        if self.spec.scheduling is Scheduling.BARRIER:
            self._stage_launched = [launch.last] * len(self.spec.stages)

    def _launch_to_sources(self, out: Effects) -> None:
        """A cut ends later than it was said: a source that came back since knows of no batch beyond that."""
        launch = self._launch(self._everything())
        for source in self.sources():
            out.send(NodeId(source), launch)

    def _everything(self) -> GroupRecord:
        """All launched and uncommitted batches as one range, on the newest group's schedule."""
        assert self.group is not None
        first = BatchId(self.checkpoints.committed.batch + 1)
        earlier = self.group.first - first
        starts_at_ms = self.group.starts_at_ms - earlier * self.interval_ms
        return replace(self.group, first=first, starts_at_ms=starts_at_ms)

    def _launch(self, group: GroupRecord) -> msg.Launch:
        return msg.Launch(
            job=self.spec.job,
            generation=self.generation,
            group=group.group,
            first=group.first,
            last=group.last,
            starts_at_ms=group.starts_at_ms,
            interval_ms=self.interval_ms,
            snapshot_every=self.snapshot_every,
            chosen=group.chosen,
        )

    def _say_cut(self, last: BatchId, out: Effects) -> None:
        assert self.group is not None
        later = last > self.group.last
        if last != self.group.last:
            self.group = cut_group(self.group, last, self.interval_ms)
            out.put(job_key(self.spec.job, "group"), self.group)
        if later:
            self._launch_to_sources(out)
        for node in self.nodes():
            out.send(node, msg.Cut(self.spec.job, self.generation, self.group.group, last))

    # --- barrier mode ---------------------------------------------------------------------

    def barrier_reset(self) -> None:
        """A new generation starts its stages afresh."""
        self._stage_launched = [NO_BATCH] * len(self.spec.stages)

    def _launch_stages(self, out: Effects) -> None:
        """Spark's way, for comparison: a stage starts when the coordinator has seen the one before end."""
        assert self.group is not None
        batch = self.group.last
        for stage in self.spec.stages:
            if self._stage_launched[stage.stage] >= batch:
                continue
            if any(self.progress.stage_done(upstream) < batch for upstream in stage.inputs):
                continue
            self._stage_launched[stage.stage] = batch
            available = tuple(
                parts.Available(upstream, begun, owner, batch, batch)
                for upstream in stage.inputs
                for owner, partitions in self.placement.by_owner(upstream).items()
                if (begun := self.progress.begun(upstream, partitions, batch))
            )
            for owner in self.placement.by_owner(stage.stage):
                launch = msg.LaunchStage(
                    self.spec.job, self.generation, stage.stage, batch, self.snapshot_every, available
                )
                out.send(NodeId(owner), launch)

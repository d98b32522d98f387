"""What the worker machine starts, done: one dispatcher, each action in the module of its purpose.

The performer runs on the event loop and never blocks it; it gives work to chains, threads and
fetches, and files what rides in with messages. Nothing is decided here (law 1), only refused:
a payload that the machine would not take (unknown job, older generation, no such stage) is not
kept, so that what is left behind by an old generation can never stand in for the new one's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

from drizzle_streams.core import actions as act
from drizzle_streams.core.offered import offered_batches
from drizzle_streams.errors import CorruptError
from drizzle_streams.model.ids import JobId, NodeId
from drizzle_streams.protocol.messages import BlocksReady, Message, Offer
from drizzle_streams.worker.bench import Bench
from drizzle_streams.worker.counters import Refusal
from drizzle_streams.worker.fetching import Fetching
from drizzle_streams.worker.fragments import inputs_of
from drizzle_streams.worker.gate import fits
from drizzle_streams.worker.jobs import JobRun
from drizzle_streams.worker.loading import load_program
from drizzle_streams.worker.notifying import attached, detached
from drizzle_streams.worker.opening import keep_partitions, lay_out, merge_cohorts, open_cohort
from drizzle_streams.worker.storing import take_snapshot, write_output
from drizzle_streams.worker.tasks import run_task


class WorkerPerformer:
    """Implements `runtime.driver.Performer` for one life of a worker."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.jobs: dict[JobId, JobRun] = {}
        self.fetching = Fetching(bench)
        self._does: Mapping[type[Any], Callable[[Any], None]] = {
            act.LoadProgram: self._load,
            act.OpenCohort: self._of_job(open_cohort),
            act.KeepPartitions: self._of_job(keep_partitions),
            act.LayOut: self._of_job(lay_out),
            act.MergeCohorts: self._of_job(merge_cohorts),
            act.RunTask: self._run,
            act.WriteOutput: self._of_job(write_output),
            act.TakeSnapshot: self._of_job(take_snapshot),
            act.FetchBlocks: self._of_job(self.fetching.blocks),
            act.FetchInput: self._fetch_input,
            act.ReleaseFragments: self._release,
            act.DropBlocks: self._drop,
            act.ForgetJob: self._forget,
            act.Rejoin: self._rejoin,
            act.Depart: self._depart,
        }

    def perform(self, action: act.Start) -> None:
        """Start an action of a worker; nothing is awaited."""
        self._does[type(action)](action)

    def attach(self, to: NodeId, message: Message) -> bytes | None:  # noqa: ARG002 - a share names its reader
        """The shares that a notification announces, if they lie ready and are short."""
        return attached(self.bench.blocks, message) if isinstance(message, BlocksReady) else None

    def absorb(self, sender: NodeId, message: Message, payload: bytes) -> bool:
        """Keep what rode in: blocks or records. False, counted, if it is not usable."""
        refusal = self._refusal(sender, message)
        if refusal is None:
            try:
                self._keep(message, payload)
            except CorruptError:
                refusal = Refusal.GARBAGE
        if refusal is None:
            self.bench.weigh()
            return True
        self.bench.counters.payloads_refused[refusal] += 1
        return False

    async def close(self) -> None:
        """The life ends: nothing new begins, what runs is cancelled, sinks are closed."""
        self.fetching.close()
        await self.bench.tasks.close()
        self.bench.threads.close()
        await asyncio.gather(*(job.close() for job in self.jobs.values()))

    # --- payloads -------------------------------------------------------------------------

    def _refusal(self, sender: NodeId, message: Message) -> Refusal | None:
        """Why a payload is not kept, by the rules for its message; None if it is."""
        if not isinstance(message, Offer | BlocksReady):
            return Refusal.GARBAGE
        job = self.jobs.get(message.job)
        generation = self.bench.generation(message.job)
        if job is None or message.generation < generation:
            return Refusal.GENERATION
        if not fits(sender, message, job.spec, generation):
            return Refusal.GARBAGE
        return Refusal.FULL if self.bench.full else None

    def _keep(self, message: Message, payload: bytes) -> None:
        if isinstance(message, Offer):
            batches = list(offered_batches(message))
            inputs = inputs_of([one.bounds for one in batches], payload)
            for one, content in zip(batches, inputs, strict=True):
                self.bench.fragments.put_input(one.fragment, content)
        elif isinstance(message, BlocksReady):
            for fragment, blocks in detached(message, payload):
                self.bench.fragments.put_blocks(fragment, blocks)

    # --- actions --------------------------------------------------------------------------

    def _of_job(self, operation: Callable[[JobRun, Any], None]) -> Callable[[Any], None]:
        """An operation on the run that the action names; on none if the machine has forgotten it."""

        def do(action: Any) -> None:
            job = self.jobs.get(action.job)
            if job is not None:
                operation(job, action)

        return do

    def _load(self, action: act.LoadProgram) -> None:
        job = self.jobs[action.spec.job] = JobRun(action.spec, self.bench)
        self.bench.tell("JobAssigned", f"run {action.spec.run}", action.spec.job)
        self.bench.tasks.start(load_program(job), f"loading {action.spec.run}")

    def _run(self, action: act.RunTask) -> None:
        run_task(self.jobs[action.key.job], action)

    def _fetch_input(self, action: act.FetchInput) -> None:
        self.fetching.input(self.jobs[action.fragment.job], action)

    def _release(self, action: act.ReleaseFragments) -> None:
        self.bench.fragments.release(action.job, action.downstream, action.through)
        self.bench.weigh()

    def _drop(self, action: act.DropBlocks) -> None:
        self.bench.blocks.drop(action.job, action.through)
        self.bench.weigh()
        if (job := self.jobs.get(action.job)) is not None:
            job.drop_parted(action.through)

    def _forget(self, action: act.ForgetJob) -> None:
        self.bench.tell("JobForgotten", action.reason, action.job)
        self.bench.fragments.forget(action.job)
        self.bench.blocks.forget(action.job)
        self.bench.weigh()
        self.bench.metrics.forget_job(action.job)
        job = self.jobs.pop(action.job, None)
        if job is not None:
            job.forget()

    def _rejoin(self, action: act.Rejoin) -> None:
        self.bench.tell("LifeEnded", action.reason)
        self.bench.rejoin(action.reason)

    def _depart(self, action: act.Depart) -> None:
        self.bench.tell("Departed", action.reason)
        self.bench.depart(action.reason)

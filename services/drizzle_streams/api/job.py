"""Jobs: a stream that ends in a sink, with a name. Describing one starts nothing; `submit` posts it."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from drizzle_streams.api import client, scripts
from drizzle_streams.api.compile import CompiledJob, compiled
from drizzle_streams.api.durations import Duration, format_ms
from drizzle_streams.api.plan import Plan
from drizzle_streams.api.schemas import Schema
from drizzle_streams.api.settings import Partitions, SchedulingMode, Settings, StartFrom, settings
from drizzle_streams.api.sinks import checked_sink
from drizzle_streams.api.sizes import GroupSize
from drizzle_streams.connectors.base import SinkSpec
from drizzle_streams.engine.shipping import load_program, ship_program
from drizzle_streams.protocol.jobfile import JobFile, pack_job, unpack_job
from drizzle_streams.tls import TlsFiles


class Output:
    """A stream that ends in a sink; only a name is missing to make it a job."""

    __slots__ = ("_plan", "_sink")

    def __init__(self, plan: Plan, sink: SinkSpec) -> None:
        self._plan = plan
        self._sink = sink

    def job(  # noqa: PLR0913 - everything there is to say about how a job runs
        self,
        name: str,
        *,
        batch_interval: Duration | Literal["auto"] = "50ms",
        scheduling: SchedulingMode = "group",
        group_size: GroupSize = "auto",
        checkpoint_interval: Duration | Literal["auto"] | None = None,
        partitions: Partitions = "auto",
        start_from: StartFrom = "earliest",
        speculation: bool = True,
        replanning: bool = True,
        pipelining: bool = True,
    ) -> Job:
        """Name the job and say how it runs.

        `batch_interval`: how long records are collected before they are processed; latency is a bit more.
        Batches end soon after full multiples of it, so windows that do too wait for no further batch.
        "auto" makes it as short as the workers can stand, from 10 to 500 ms, and longer while they are
        overloaded; what is idle (`idle_after`) is then counted in batches of 10 ms.
        `scheduling`: "group" launches `group_size` batches at a time; "prescheduled" and "barrier" are for
        comparison and give the same results.
        `group_size`: "auto" lets Drizzle choose it from what it measures; `tuned(...)` does so with an
        objective and promises of your own; a number of batches stays what it is.
        `checkpoint_interval`: how often state is kept durably, one second unless batches are longer; so much
        is computed again after a failure. "auto" chooses it from what checkpoints cost and how often
        workers are lost.
        `partitions`: of every shuffle. "auto" begins with 8, and those of the last stage are split when there
        are many workers, and merged again when there are few. A number stays what it is.
        `speculation`: what straggles is computed a second time elsewhere, and workers that are slow again and
        again lose their partitions for a while; results are the same with and without.
        `replanning`: how the job is computed (where it aggregates, the order of filters) may change between
        groups, by what is measured; results are the same with and without. `drizzle explain` shows it.
        Without, partitions stay as many as they are, too.
        `pipelining`: a group is launched while the one before it still runs; without, batches wait at each
        boundary, which is only for comparison.
        `start_from`: "earliest" reads what the streams still hold, "latest" only what comes from now on.

        A file that is run as a script (`python job.py`) submits its jobs when it ends: see `Job.submit`.
        """
        checked = settings(
            name,
            batch_interval=batch_interval,
            scheduling=scheduling,
            group_size=group_size,
            checkpoint_interval=checkpoint_interval,
            partitions=partitions,
            start_from=start_from,
            speculation=speculation,
            replanning=replanning,
            pipelining=pipelining,
        )
        job = Job(self._plan, self._sink, checked)
        scripts.watch(job)
        return job

    def __repr__(self) -> str:
        return f"Output({self._plan.source.name!r} to {self._sink!r})"


def output(plan: Plan, sink: object, thing: str) -> Output:
    """The output of a plan into a sink; raises `BuildError` when that is none or refuses these rows."""
    return Output(plan, checked_sink(sink, plan, thing))


class Job:
    """A job: what it computes, where that goes, how it runs. Made by `.to(...).job(...)`, never changed."""

    __slots__ = ("_plan", "_settings", "_sink", "_taken")

    def __init__(self, plan: Plan, sink: SinkSpec, checked: Settings) -> None:
        self._plan = plan
        self._sink = sink
        self._settings = checked
        self._taken = False

    @property
    def name(self) -> str:
        """The name it runs under; a cluster has one job of a name at a time."""
        return self._settings.name

    @property
    def schema(self) -> Schema:
        """The columns that go to the sink."""
        return dict(self._plan.schema)

    @property
    def keys(self) -> tuple[str, ...]:
        """The columns that tell result rows apart; empty where every row stands for itself."""
        return () if self._plan.result is None else self._plan.result.identity

    @property
    def taken(self) -> bool:
        """Whether something was done with it: submitted, compiled, run in a test."""
        return self._taken

    def compile(self, *, partitions: int | None = None) -> CompiledJob:
        """What the coordinator and the workers get; reads the rows of the tables.

        `partitions` overrides the job's, and stays.
        """
        self._taken = True
        chosen = self._settings
        if partitions is not None:
            chosen = replace(chosen, partitions=partitions, partitions_auto=False)
        return compiled(self._plan, self._sink, chosen)

    def to_bytes(self) -> bytes:
        """The job as bytes to post to a coordinator; raises `BuildError` when it cannot be shipped."""
        made = self.compile()
        return pack_job(JobFile(made.spec, ship_program(made.program)))

    @staticmethod
    def from_bytes(data: bytes) -> CompiledJob:
        """The reverse of `to_bytes`, compiled; raises `ProtocolError` for bytes of another version.

        Unpickles the user's functions: only for bytes that came through the cluster's authentication.
        """
        file = unpack_job(data)
        return CompiledJob(file.spec, load_program(file.program))

    def submit(
        self, cluster: str | None = None, *, token: str | None = None, tls: TlsFiles | None = None
    ) -> str:
        """Post the job to a cluster and return its id there; it then runs until it is stopped.

        `cluster` is the coordinator's URL, else DRIZZLE_CLUSTER of the environment, else the cluster that
        `drizzle up` started in this folder; `token` the cluster's secret or a token of it, else
        DRIZZLE_TOKEN, else that cluster's; `tls` the files for https, else those that DRIZZLE_TLS_CA,
        DRIZZLE_TLS_CERT and DRIZZLE_TLS_KEY name. Raises `DrizzleError` when the job was not taken.

        A script need not call it: when a file is run as `python job.py` and ends without an error, the jobs
        in its global names that nothing was done with are submitted. Not so in an interactive session, in an
        import, after `submit`, `to_bytes`, `compile` or `testing.run` of the job, or when DRIZZLE_NO_SUBMIT
        is set.
        """
        self._taken = True
        return client.submit(self.to_bytes(), cluster=cluster, token=token, tls=tls)

    def __repr__(self) -> str:
        interval = "auto" if self._settings.interval_auto else format_ms(self._settings.batch_interval_ms)
        return f"Job({self.name!r}: {self._plan.source.name!r} to {self._sink!r} every {interval})"

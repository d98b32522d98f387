"""The coordinator's doors: those marked with an asterisk for its services, the others for users, too.

    POST   /jobs                  a job file (application/vnd.drizzle.job)
                                  201 {"job"} · 400 reason · 409 name taken · 413 · 415 · 429 · 503
    GET    /jobs                  {"jobs": [in short]}
    GET    /jobs/{job}            phase, frontier, lag, placement, latencies, recoveries, … · 404
    DELETE /jobs/{job}            stop after what is launched: 202, or 200 when it has ended · 404
    GET    /jobs/{job}/batches    when batches were sealed, and how late they were done, one by one · 404
    GET    /jobs/{job}/plan       how its stages run, what was measured, why · 404
    GET    /jobs/{job}/program  * the job file as it was posted, sealed: what workers load · 404
    GET    /status                members, jobs in short, generation
    POST   /nodes/{node}/exited * a supervisor saw that node's process end: 202

201 means durable: the job survives the death of the coordinator from then on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from aiohttp import hdrs, web

from drizzle_streams.coordinator import status
from drizzle_streams.coordinator.admission import check_job
from drizzle_streams.coordinator.explaining import explained
from drizzle_streams.coordinator.memory import Memory
from drizzle_streams.coordinator.programs import Programs
from drizzle_streams.coordinator.stopwatch import Stopwatch
from drizzle_streams.core.coordinator import Coordinator
from drizzle_streams.core.coordinator_job import CoordinatorJob
from drizzle_streams.core.coordinator_standing import ACTIVE
from drizzle_streams.core.events import Event, JobSubmitted, NodeExited, StopRequested
from drizzle_streams.core.machine import Persist, Put
from drizzle_streams.errors import BackPressureError, StoreError, explain
from drizzle_streams.model.ids import JobId, NodeId
from drizzle_streams.model.job import JobSpec
from drizzle_streams.protocol.jobfile import JOB_MEDIA_TYPE, unpack_job
from drizzle_streams.protocol.records import job_key
from drizzle_streams.transport.http_errors import RefusedError

JOBS_ACTIVE_MAX = 100
"""Jobs that run, wait or stop at a time."""
INLINE_BYTES_MAX = 256 * 1024
"""Larger job files are looked at in a thread, so that the loop goes on."""
SUBMIT_TIMEOUT_S = 40.0
"""Longer than the ledger rides out an outage of its server; then the process ends anyway."""


class Doors:
    """The job routes of a coordinator.

    `post` hands events to the driver; `fail` ends the service when the ledger may not be
    trusted any more; `now` is cluster time.
    """

    def __init__(
        self,
        role: Coordinator,
        memory: Memory,
        programs: Programs,
        stopwatch: Stopwatch,
        *,
        post: Callable[[Event], None],
        fail: Callable[[BaseException], None],
        now: Callable[[], float],
    ) -> None:
        self._role = role
        self._programs = programs
        self._stopwatch = stopwatch
        self._post = post
        self._fail = fail
        self._now = now
        self._submitted: dict[JobId, asyncio.Future[None]] = {}
        memory.watch(self._persisted)

    def routes(self) -> list[web.RouteDef]:
        """Doors for users."""
        return [
            web.post("/jobs", self._submit),
            web.get("/jobs", self._list),
            web.get("/jobs/{job}", self._describe),
            web.delete("/jobs/{job}", self._stop),
            web.get("/jobs/{job}/batches", self._batches),
            web.get("/jobs/{job}/plan", self._explain),
            web.get("/status", self._status),
        ]

    def service_routes(self) -> list[web.RouteDef]:
        """Doors for the cluster's services."""
        return [
            web.get("/jobs/{job}/program", self._program),
            web.post("/nodes/{node}/exited", self._exited),
        ]

    # --- submitting -----------------------------------------------------------------------

    async def _submit(self, request: web.Request) -> web.Response:
        if request.content_type != JOB_MEDIA_TYPE:
            raise RefusedError(
                415,
                hdrs.CONTENT_TYPE,
                wanted=JOB_MEDIA_TYPE,
                found=request.content_type[:100],
                remedy="Post what Job.to_bytes() gives, or use `drizzle submit`.",
            )
        data = await request.read()
        file = (
            unpack_job(data) if len(data) <= INLINE_BYTES_MAX else await asyncio.to_thread(unpack_job, data)
        )
        check_job(file.spec)
        self._check_room()
        try:
            async with self._programs.submission(file.spec.job, data):
                await self._made_durable(file.spec)
        except StoreError as error:
            self._fail(error)
            raise
        return web.json_response({"job": file.spec.job}, status=201)

    async def _made_durable(self, spec: JobSpec) -> None:
        """Tell the machine, and wait until what it made of the job is in the ledger."""
        durable = self._submitted[spec.job] = asyncio.get_running_loop().create_future()
        try:
            self._post(JobSubmitted(spec))
            async with asyncio.timeout(SUBMIT_TIMEOUT_S):
                await durable
        except TimeoutError as error:
            raise StoreError(
                explain(
                    f"job {spec.job}",
                    wanted=f"to be durable within {SUBMIT_TIMEOUT_S:g} s",
                    found="no word from the ledger",
                    remedy="See the coordinator's log; submit again when it is ready.",
                )
            ) from error
        finally:
            del self._submitted[spec.job]

    def _persisted(self, change: Persist) -> None:
        if not isinstance(change, Put) or not self._submitted:
            return
        for job, durable in self._submitted.items():
            if change.key == job_key(job, "spec") and not durable.done():
                durable.set_result(None)

    def _check_room(self) -> None:
        active = {name for name, job in self._role.jobs.items() if job.phase in ACTIVE}
        if len(active.union(self._programs.incoming)) >= JOBS_ACTIVE_MAX:
            raise BackPressureError(
                explain(
                    "active jobs",
                    wanted=f"at most {JOBS_ACTIVE_MAX}",
                    found="as many",
                    remedy="Stop one first.",
                )
            )

    # --- looking and stopping -------------------------------------------------------------

    async def _list(self, _: web.Request) -> web.Response:
        return web.json_response({"jobs": status.jobs(self._role, self._now())})

    async def _describe(self, request: web.Request) -> web.Response:
        job = self._job(request)
        values = status.detail(job, self._stopwatch.cost(job.spec.job), self._now())
        kept = job.progress.latencies.copy()
        values["batch_latency_ms"] = await asyncio.to_thread(status.latencies, kept)
        return web.json_response(values)

    async def _batches(self, request: web.Request) -> web.Response:
        kept = self._job(request).progress.latencies.copy()
        return web.json_response({"batches": await asyncio.to_thread(status.batches, kept)})

    async def _explain(self, request: web.Request) -> web.Response:
        return web.json_response(explained(self._job(request)))

    async def _stop(self, request: web.Request) -> web.Response:
        job = self._job(request)
        name = job.spec.job
        if job.phase not in ACTIVE:
            return web.json_response({"job": name, "phase": job.phase.value})
        self._post(StopRequested(name))
        return web.json_response({"job": name, "phase": "stopping"}, status=202)

    async def _program(self, request: web.Request) -> web.Response:
        data = self._programs.get(JobId(request.match_info["job"]))
        if data is None:
            raise _no_job(request, "a job that runs")
        return web.Response(body=data, content_type=JOB_MEDIA_TYPE)

    async def _status(self, _: web.Request) -> web.Response:
        return web.json_response(status.cluster(self._role, self._now()))

    async def _exited(self, request: web.Request) -> web.Response:
        node = request.match_info["node"]
        self._post(NodeExited(NodeId(node)))
        return web.json_response({"node": node}, status=202)

    def _job(self, request: web.Request) -> CoordinatorJob:
        job = self._role.jobs.get(JobId(request.match_info["job"]))
        if job is None:
            raise _no_job(request, "a job of this cluster")
        return job


def _no_job(request: web.Request, wanted: str) -> RefusedError:
    name = request.match_info["job"][:100]
    remedy = "`drizzle jobs` lists them, and GET /jobs."
    return RefusedError(404, f"job {name!r}", wanted=wanted, found="none by that name", remedy=remedy)

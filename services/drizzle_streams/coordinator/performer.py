"""Does what the coordinator machine starts: the fence, the snapshot store, the job files."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from drizzle_streams.coordinator.chores import Chores, Clear, Delete, Fence
from drizzle_streams.coordinator.memory import Memory
from drizzle_streams.coordinator.programs import Programs
from drizzle_streams.core import actions as act
from drizzle_streams.core.coordinator_job import CoordinatorJob
from drizzle_streams.core.events import Event, GenerationRaised
from drizzle_streams.model.ids import JobId, NodeId
from drizzle_streams.protocol.messages import Message


class CoordinatorPerformer:
    """See `runtime.driver.Performer`. `post` is the driver's, set before it runs.

    `job` gives the machine's state of a job: actions name jobs, the snapshot store knows runs.
    """

    def __init__(
        self,
        memory: Memory,
        chores: Chores,
        programs: Programs,
        job: Callable[[JobId], CoordinatorJob | None],
    ) -> None:
        self._memory = memory
        self._chores = chores
        self._programs = programs
        self._job = job
        self.post: Callable[[Event], None] = _unwired

    def perform(self, action: act.Start) -> Awaitable[None] | None:
        """Start it. The fence and the ledger are awaited in order, the snapshot store is not."""
        match action:
            case act.RaiseGeneration():
                return self._raise_generation()
            case act.FenceSnapshots(job=name):
                if (job := self._job(name)) is not None:
                    self._chores.add(Fence(JobId(job.spec.run), job.generation))
            case act.DeleteSnapshots(keys=keys):
                self._chores.add(Delete(keys))
            case act.ForgetProgram(job=name):
                if (job := self._job(name)) is not None and job.spec.born:
                    self._chores.add(Clear(JobId(job.spec.run), self._memory.generation))
                return self._programs.forget(name)
            case _:
                raise TypeError(f"{type(action).__name__} is not the coordinator's to do")
        return None

    def attach(self, to: NodeId, message: Message) -> bytes | None:  # noqa: ARG002 - the protocol's
        """The coordinator's messages carry no payload (law 8)."""
        return None

    def absorb(self, sender: NodeId, message: Message, payload: bytes) -> bool:  # noqa: ARG002 - the protocol's
        """No payload is for the coordinator."""
        return False

    async def _raise_generation(self) -> None:
        self.post(GenerationRaised(await self._memory.raise_generation()))


def _unwired(event: Event) -> None:
    raise RuntimeError(f"{type(event).__name__} came before the driver was there")

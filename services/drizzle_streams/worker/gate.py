"""The gate before the machine: sentences of the protocol that do not fit this worker's jobs.

The codec lets in only well-formed messages; a broken or foreign release can still name a stage
or a partition that a job does not have, or speak in another's name. Such a message is counted
and goes no further, so that the machine may look things up without asking twice. Generations
are the machine's own to judge.
"""

from __future__ import annotations

from drizzle_streams.core import fitting
from drizzle_streams.core.events import Event, Received
from drizzle_streams.core.machine import Effects
from drizzle_streams.core.worker import Worker
from drizzle_streams.model.ids import COORDINATOR, Generation, NodeId
from drizzle_streams.model.job import JobSpec
from drizzle_streams.protocol.messages import BlocksReady, Message, Offer


class Gate:
    """A worker's role behind the check; `refused` counts what did not pass."""

    def __init__(self, role: Worker) -> None:
        self.refused = 0
        self._role = role

    def refuses(self, sender: NodeId, /) -> Message | None:
        """As the machine says."""
        return self._role.refuses(sender)

    def next_deadline(self) -> float | None:
        """As the machine says."""
        return self._role.next_deadline()

    def on_deadline(self, now: float, out: Effects) -> None:
        """Pass it on."""
        self._role.on_deadline(now, out)

    def handle(self, event: Event, now: float, out: Effects) -> None:
        """Pass on what fits."""
        if isinstance(event, Received) and not self._passes(event.sender, event.message):
            self.refused += 1
            if not event.more:
                self._role.settle(now, out)  # what came before it in its envelope has waited for that
            return
        self._role.handle(event, now, out)

    def _passes(self, sender: NodeId, message: Message) -> bool:
        if not isinstance(message, Offer | BlocksReady):
            return sender == COORDINATOR
        job = self._role.jobs.get(message.job)
        return job is None or fits(sender, message, job.spec, job.generation)


def fits(sender: NodeId, message: Message, spec: JobSpec, generation: Generation) -> bool:
    """Whether an offer or a notification is its sender's own and names what the job has.

    What a generation has that is newer than ours, the machine will know when it hears of it.
    """
    match message:
        case Offer(source=source):
            own = source == sender
        case BlocksReady(worker=worker):
            own = worker == sender
        case _:
            return False
    return own and (message.generation > generation or fitting.fits(message, spec))

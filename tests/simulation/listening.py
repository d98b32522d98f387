"""How many batches the messages in a world speak of."""

from __future__ import annotations

from drizzle_streams.protocol.messages import BlocksReady, Envelope, Offer
from tests.simulation.world import Life, World


class Listener:
    """`lengths` of all that is said of one kind, from the moment it begins to listen."""

    def __init__(self, world: World, kind: type[BlocksReady | Offer]) -> None:
        self.lengths: list[int] = []
        self._kind = kind
        self._send = world.network_send
        world.network_send = self.hear

    def hear(self, life: Life, to: str, envelope: Envelope) -> None:
        for item in envelope.items:
            message = item.message
            if isinstance(message, BlocksReady | Offer) and isinstance(message, self._kind):
                self.lengths.append(len(message.sealed_at_ms))
        self._send(life, to, envelope)

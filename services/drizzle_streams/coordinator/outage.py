"""Whether the ledger answers, as this coordinator sees it: told when it does not, and when it does again.

Nothing is decided without the ledger, and nothing is lost by waiting for it: workers finish what they
were launched and wait, sources keep the records and tell producers to wait at their bounds. So an outage
ends nobody. The lease runs out meanwhile, by our own clock as well: doors say 503 and nothing is sent
until it is renewed, or until another coordinator leads.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field

log = logging.getLogger("drizzle.coordinator")

Tell = Callable[[str, str], None]
"""Called with the kind of a line of the story, and its text."""


@dataclass
class LedgerOutage:
    """`tell` is the story of the present life, if one leads. `now` is in seconds."""

    now: Callable[[], float]
    tell: Tell = field(default=lambda *_: None)
    since: float | None = None

    @property
    def seconds(self) -> float:
        """How long the ledger has been away; 0 while it answers."""
        return 0.0 if self.since is None else max(0.0, self.now() - self.since)

    def away(self, reason: str) -> None:
        """It has not answered for a while. Heard once per outage."""
        self.since = self.now()
        log.warning("the ledger does not answer: everything waits", extra={"reason": reason})
        self.tell("LedgerAway", f"nothing is decided until it answers: {reason}")

    def back(self) -> None:
        """It answers again."""
        waited_s, self.since = self.seconds, None
        log.warning("the ledger answers again", extra={"waited_s": round(waited_s, 3)})
        self.tell("LedgerBack", f"after {waited_s:.1f} s")

"""Who leads, as coordinators say it at `GET /leader` and members and clients read it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

from drizzle_streams.errors import ProtocolError, explain

LEADER_PATH = "/leader"
WAIT_MS_MAX = 10_000
"""How long a question may wait for an answer that is new."""
ANSWER_BYTES_MAX = 4_096


@dataclass(frozen=True, slots=True)
class LeaderAnswer:
    """`leader`: its address, None if nobody leads; `term` grows with each new one, -1 where none was seen.

    `leads`: the one who answers is the leader.
    """

    leader: str | None
    term: int
    leads: bool

    def to_bytes(self) -> bytes:
        """As JSON."""
        return json.dumps(asdict(self)).encode()


def leader_answer(data: bytes) -> LeaderAnswer:
    """Read an answer. Raises `ProtocolError` for anything else."""
    try:
        fields = json.loads(data)
        leader, term, leads = fields["leader"], fields["term"], fields["leads"]
    except (ValueError, KeyError, TypeError) as error:
        raise _garbage(data) from error
    if not (isinstance(leader, str | None) and isinstance(term, int) and isinstance(leads, bool)):
        raise _garbage(data)
    return LeaderAnswer(leader, term, leads)


def _garbage(data: bytes) -> ProtocolError:
    return ProtocolError(
        explain(
            f"the answer to {LEADER_PATH}",
            wanted="leader, term, leads",
            found=repr(data[:80]),
            remedy="Run one release of Drizzle in a cluster, and check the coordinators' addresses.",
        )
    )

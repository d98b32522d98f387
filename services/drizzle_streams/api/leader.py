"""Finding the coordinator that leads, for clients: scripts, commands, a local cluster's supervisor.

A client is told one or more addresses between commas. Each is asked in turn; a standby answers 503
and names the leader, which is asked next. What a standby refused was not taken, and who cannot know
what became of a request that does harm twice raises something else than `AskAnotherError`.
Standard library only.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Final

from drizzle_streams.errors import UnreachableError, explain

NEW_LEADER_S: Final = 10.0
"""How long a client waits for a leader while only standbys answer."""
REST_S: Final = 0.1
"""Between one round of questions and the next."""
ADDRESSES_MAX: Final = 32
"""Coordinators asked in one round, those that were named by others included."""

Request = Callable[[str], tuple[int, bytes]]
"""Asks one address: (status, body). Raises `AskAnotherError` where another one may be asked."""


class AskAnotherError(UnreachableError):
    """No answer, and asking at another address does no harm."""


def addresses_of(cluster: str) -> tuple[str, ...]:
    """The addresses between the commas."""
    return tuple(address.strip() for address in cluster.split(",") if address.strip())


def ask_leader(cluster: str, request: Request, *, patience_s: float = NEW_LEADER_S) -> tuple[int, bytes]:
    """The leader's answer.

    Raises `AskAnotherError` of the first address when nobody answers, `UnreachableError` when only
    standbys do, for `patience_s`; and what `request` raises else.
    """
    deadline = time.monotonic() + patience_s
    while True:
        answer, failure, standbys = _round(addresses_of(cluster), request)
        if answer is not None:
            return answer
        if not standbys and failure is not None:
            raise failure
        if time.monotonic() >= deadline:
            raise UnreachableError(
                explain(
                    f"cluster {cluster}",
                    wanted=f"a coordinator that leads within {patience_s:g} s",
                    found="standbys only" if failure is None else f"standbys, and {failure}",
                    remedy="See the coordinators' logs: they agree on a leader through Redis.",
                )
            )
        time.sleep(REST_S)


def _round(
    cluster: tuple[str, ...], request: Request
) -> tuple[tuple[int, bytes] | None, AskAnotherError | None, bool]:
    """Ask everybody once: the leader's answer, the first failure, whether a standby answered."""
    waiting, asked = list(cluster), set[str]()
    failure: AskAnotherError | None = None
    standbys = False
    while waiting and len(asked) < ADDRESSES_MAX:
        address = waiting.pop(0)
        if address in asked:
            continue
        asked.add(address)
        try:
            status, body = request(address)
        except AskAnotherError as error:
            failure = failure or error
            continue
        stands_by, leader = _hint(status, body)
        if not stands_by:
            return (status, body), None, False
        standbys = True
        if leader:
            waiting.insert(0, leader.rstrip("/"))
    return None, failure, standbys


def _hint(status: int, body: bytes) -> tuple[bool, str | None]:
    """Whether it is a standby that answered, and the leader it names."""
    if status != 503:
        return False, None
    try:
        answer = json.loads(body)
    except ValueError:
        return False, None
    if not isinstance(answer, dict) or "leader" not in answer:
        return False, None
    leader = answer["leader"]
    return True, leader if isinstance(leader, str) else None

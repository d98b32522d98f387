"""Workers that have joined but have no share yet: they load a job's program before anything moves.

A program takes a good part of a second to fetch and load. Were that done when partitions have moved,
everybody's next batch would wait for it. So a newcomer is told of the job at once (`Prepare`), answers
(`Prepared`) when its program is loaded or has failed, and only then the boundary is pulled forward.

A recovery does not wait: what is lost is rebuilt on whoever is there.
"""

from __future__ import annotations

from collections.abc import Collection

from drizzle_streams.model.ids import WorkerId

PREPARE_S_MAX = 2.0
"""How long newcomers are waited for, from the first one; then they get their share unprepared."""


class Newcomers:
    """Of one job: who was told of it, and who is still waited for."""

    def __init__(self) -> None:
        self._told: dict[WorkerId, bool] = {}
        self._until: float | None = None

    @property
    def deadline(self) -> float | None:
        """When the present newcomers are waited for no longer; None while there are none to wait for."""
        return self._until

    def told(self) -> tuple[WorkerId, ...]:
        """Newcomers that know of the job although they have no share: its end must be said to them too."""
        return tuple(sorted(self._told))

    def look(self, came: Collection[WorkerId], now: float, *, tell: bool = True) -> tuple[WorkerId, ...]:
        """Who has no share now; gives those to whom the job must be told, if it may be told to anybody."""
        self._told = {worker: ready for worker, ready in self._told.items() if worker in came}
        untold = tuple(sorted(set(came) - self._told.keys())) if tell else ()
        self._told |= dict.fromkeys(untold, False)
        if untold and self._until is None:
            self._until = now + PREPARE_S_MAX
        if self._until is not None and self._until <= now:
            self._told = dict.fromkeys(self._told, True)
        if all(self._told.values()):
            self._until = None
        return untold

    def prepared(self, worker: WorkerId) -> None:
        """It has answered."""
        if worker in self._told:
            self._told[worker] = True

    @property
    def ready(self) -> bool:
        """Whether nobody is waited for."""
        return self._until is None

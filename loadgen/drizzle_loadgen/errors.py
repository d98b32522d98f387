"""What can go wrong, by meaning.

A tree of its own, because the package shares no code with the system that it judges.

Messages name the thing, what was found and what to do, because a person reads them on one line.
"""

from __future__ import annotations


class LoadgenError(Exception):
    """Root of everything that the load generator raises on purpose."""


class UsageError(LoadgenError):
    """An option or a file given by the user cannot be used as it is."""


class DeliveryError(LoadgenError):
    """A source refused a block for good, or took none within the bounds of the retries."""


class AnswerError(LoadgenError):
    """A peer's answer is not HTTP as this client speaks it."""


class SinkError(LoadgenError):
    """The sink cannot be read, or does not have the layout that the oracle knows."""

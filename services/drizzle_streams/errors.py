"""One tree of errors, so that a caller can catch by meaning.

Every message names the thing, what was wanted, what was found and the remedy;
`explain` keeps that shape in one place. Errors of the user's own code are not
here: they are values (`model.task.TaskError`) and never unwind a service.
"""

from __future__ import annotations


class DrizzleError(Exception):
    """Root of everything that Drizzle raises on purpose."""


class BuildError(DrizzleError):
    """A job cannot be built as written: raised while the user's file runs."""


class ConfigError(DrizzleError):
    """A setting, a port or a path cannot be used: the process must not start."""


class ProtocolError(DrizzleError):
    """Bytes from outside are not a message this version understands."""


class StoreError(DrizzleError):
    """A durable store did not do what was asked within its bounds."""


class OutageError(StoreError):
    """Nobody answered within the bound: it may be asked again, and perhaps was done."""


class FencedError(StoreError):
    """A newer generation exists: whoever wrote must stop writing."""


class CorruptError(StoreError):
    """Stored bytes fail their checksum."""


class UnreachableError(DrizzleError):
    """A peer did not answer within the bounds of its retries."""


class BackPressureError(DrizzleError):
    """A named bound is reached: try again later, nothing was taken."""

    retry_after_s: int = 1
    """When to try again, where whoever raises it knows better."""


class JobFailedError(DrizzleError):
    """A job ended because the user's own code failed; carries its traceback."""


def explain(thing: str, *, wanted: str, found: str, remedy: str) -> str:
    """Word an error the way all of ours are worded: thing, wanted, found, remedy."""
    return f"{thing}: wanted {wanted}, found {found}. {remedy}"

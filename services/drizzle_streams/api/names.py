"""Names: what a job, a stream or a column may be called, and which name was probably meant."""

from __future__ import annotations

import re
from collections.abc import Iterable
from difflib import get_close_matches
from typing import Final

from drizzle_streams.engine.columns import RESERVED_PREFIX, WINDOW_END, WINDOW_START, is_reserved
from drizzle_streams.errors import BuildError, explain

NAME_CHARS_MAX: Final = 64
"""Names become file names, Redis keys and parts of URLs."""
LISTED_MAX: Final = 12
"""So many names are listed in an error, then an ellipsis."""

WINDOW_COLUMNS: Final = (WINDOW_START, WINDOW_END)

_NAME: Final = re.compile(rf"[A-Za-z0-9][A-Za-z0-9._-]{{0,{NAME_CHARS_MAX - 1}}}")


def check_name(name: object, thing: str) -> str:
    """`name` if it may name a job or a stream, else a `BuildError`."""
    if isinstance(name, str) and _NAME.fullmatch(name):
        return name
    raise BuildError(
        explain(
            f"{thing} name",
            wanted=f"1 to {NAME_CHARS_MAX} letters, digits, '.', '_' or '-', a letter or digit first",
            found=repr(name),
            remedy=f'Name it, for example, "{_example(name)}".',
        )
    )


def check_new_column(name: str, thing: str) -> None:
    """Refuse column names that belong to the engine or to the result of a window."""
    if is_reserved(name) or not name:
        raise BuildError(
            explain(
                f"{thing}: column name",
                wanted=f"a name that does not start with '{RESERVED_PREFIX}' and is not empty",
                found=repr(name),
                remedy="Choose another name; these belong to the engine.",
            )
        )
    if name in WINDOW_COLUMNS:
        raise BuildError(
            explain(
                f"{thing}: column name",
                wanted=f"a name other than {' and '.join(WINDOW_COLUMNS)}",
                found=repr(name),
                remedy="Choose another name; these two are written by windows alone.",
            )
        )


def unknown_column(name: str, known: Iterable[str], thing: str) -> BuildError:
    """The error for a column that is not there, with the one that was probably meant."""
    names = list(known)
    return BuildError(
        explain(
            thing,
            wanted=f"one of the columns {listed(names)}",
            found=f"{name!r}, which is not there",
            remedy=_meant(name, names)
            or "Check the name, or add the column to the schema or with with_columns.",
        )
    )


def listed(names: Iterable[str]) -> str:
    """Names for an error message, bounded."""
    every = [repr(name) for name in names]
    shown = every[:LISTED_MAX]
    return (
        ", ".join(shown) + (f", … ({len(every)} in all)" if len(every) > len(shown) else "")
        if every
        else "(none)"
    )


def _meant(name: str, known: list[str]) -> str:
    by_fold = {candidate.casefold(): candidate for candidate in known}
    close = get_close_matches(name.casefold(), by_fold, n=1, cutoff=0.6)
    return f"Did you mean {by_fold[close[0]]!r}?" if close else ""


def _example(name: object) -> str:
    cleaned = re.sub(r"[^A-Za-z0-9._-]+", "-", str(name)).strip("._-")[:NAME_CHARS_MAX]
    return cleaned if _NAME.fullmatch(cleaned) else "clicks-per-minute"

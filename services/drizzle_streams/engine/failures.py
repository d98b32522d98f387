"""What Polars raises, and what a user's code may.

Panics of Polars are not `Exception`s at run time, though its stubs say so: catch both. Nor is what
`sys.exit()` raises, and that would end the whole process from any thread or task it gets out of.
"""

from __future__ import annotations

from typing import Final

import polars as pl

POLARS_ERRORS: Final = (pl.exceptions.PolarsError, pl.exceptions.PanicException)
"""Everything that a Polars call raises for data or an expression that it cannot take."""

USERS_ERRORS: Final = (Exception, *POLARS_ERRORS, SystemExit)
"""Everything that code of the user's raises: it fails the job, never the worker."""

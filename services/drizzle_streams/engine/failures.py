"""What Polars raises. Its panics are not `Exception`s at run time, though its stubs say so: catch both."""

from __future__ import annotations

from typing import Final

import polars as pl

POLARS_ERRORS: Final = (pl.exceptions.PolarsError, pl.exceptions.PanicException)
"""Everything that a Polars call raises for data or an expression that it cannot take."""

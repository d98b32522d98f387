"""What may follow `.to(...)`: a sink of `connectors`, and rows that it can keep apart."""

from __future__ import annotations

from typing import Final, TypeGuard

from drizzle_streams.api.names import listed
from drizzle_streams.api.plan import Plan
from drizzle_streams.connectors.base import SinkSpec
from drizzle_streams.errors import BuildError, explain

_KNOWN: Final = 'dz.redis("<prefix>")'


def checked_sink(sink: object, plan: Plan, thing: str) -> SinkSpec:
    """`sink` if it is one and takes these rows, else a `BuildError`; the columns it checks itself."""
    if isinstance(sink, type) or not _is_spec(sink):
        called = callable(sink)
        raise BuildError(
            explain(
                thing,
                wanted=f"a sink: {_KNOWN} or dz.console()",
                found=f"{type(sink).__name__} {str(sink)[:60]!r}",
                remedy="Call it with its arguments." if called else f"Write .to({_KNOWN}).",
            )
        )
    result = plan.result
    missing = [name for name in result.identity if name not in plan.schema] if result is not None else []
    if result is not None and missing and not result.final:
        raise BuildError(
            explain(
                thing,
                wanted=f"the columns {listed(result.identity)}: they say what an update replaces",
                found=f"no {listed(missing)}",
                remedy="Keep them in the select before the sink.",
            )
        )
    keys = () if result is None or missing else result.keys
    sink.validate(dict(plan.schema), keys)
    return sink


def _is_spec(sink: object) -> TypeGuard[SinkSpec]:
    return isinstance(getattr(sink, "kind", None), str) and all(
        callable(getattr(sink, name, None)) for name in ("validate", "create")
    )

"""Values as people read them in a cell of a table."""

from __future__ import annotations


def cell(value: object) -> str:
    """Of percentiles the median and the 99th, of other values by name each, of nothing a dash."""
    match value:
        case None:
            return "-"
        case bool():
            return "yes" if value else "no"
        case {"p50": median, "p99": tail}:
            return f"p50 {median:g}, p99 {tail:g}"
        case dict():
            return ", ".join(f"{name} {cell(one)}" for name, one in value.items())
        case list() | tuple():
            return ", ".join(cell(one) for one in value)
        case _:
            return str(value)

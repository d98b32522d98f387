"""What the cycle collector costs a service, kept small.

By default Python looks at all objects of a process every few hundred allocations' survivors: a worker
has 80,000, nearly all of them made by its imports and never garbage, and a full look takes 80 to 130 ms
in which no batch moves. What exists when a service starts is therefore set aside, and the young are
looked at in larger portions. Cycles made later are found as before: the full look is then at little.
"""

from __future__ import annotations

import gc
from typing import Final

YOUNG_MAX: Final = 10_000
"""Objects made and not yet freed, beyond which the young are looked at; 700 by default."""


def settle() -> None:
    """Set aside all objects that exist. Called once, when everything is imported."""
    gc.collect()
    gc.freeze()
    _, middle, old = gc.get_threshold()
    gc.set_threshold(YOUNG_MAX, middle, old)

"""A service sets aside what its imports made, and still finds cycles that come later."""

from __future__ import annotations

import subprocess
import sys

# In a process of its own: what is set aside stays so for the rest of a process.
_SETTLED = """
import gc, weakref
from drizzle_streams.runtime import garbage

class Node:
    pass

before = len(gc.get_objects())
garbage.settle()
assert gc.get_freeze_count() > before // 2, (gc.get_freeze_count(), before)
assert len(gc.get_objects()) < before // 2
assert gc.isenabled()

node = Node()
node.itself = node
gone = weakref.ref(node)
del node
made = []
while gone() is not None and len(made) < 50 * garbage.YOUNG_MAX:
    made.append([])
assert gone() is None, "a cycle made later was not collected"
"""


def test_what_exists_is_set_aside_and_later_cycles_are_collected() -> None:
    subprocess.run([sys.executable, "-c", _SETTLED], check=True, timeout=60)

"""What every test shares: how hypothesis searches.

A deadline per example would fail on a busy machine, so there is none; pytest-timeout bounds the
whole test. Continuous integration tries the same examples every time, a person new ones.
"""

from __future__ import annotations

import os

from hypothesis import settings

settings.register_profile("local", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True, database=None, print_blob=True)
settings.load_profile("ci" if os.environ.get("CI") else "local")

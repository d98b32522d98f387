"""`python -m drizzle_loadgen`."""

from __future__ import annotations

import sys

from drizzle_loadgen.cli import main

if __name__ == "__main__":
    sys.exit(main())

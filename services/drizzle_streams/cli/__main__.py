"""`python -m drizzle_streams.cli` is the `drizzle` command: how services are started by their supervisor."""

from __future__ import annotations

import sys

from drizzle_streams.cli.main import main

sys.exit(main())

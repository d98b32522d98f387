"""Writes the dashboards' JSON from `boards/`; run it from the repository's root after a change there.

    python -m deploy.grafana.generate

Tests compare the files with what would be written now.
"""

from __future__ import annotations

import json
from pathlib import Path

from deploy.grafana.boards import cluster, groups, recovery, traffic
from deploy.grafana.rendering import dashboard

FOLDER = Path(__file__).resolve().parent / "dashboards"
BOARDS = (cluster.BOARD, groups.BOARD, recovery.BOARD, traffic.BOARD)


def files() -> dict[str, str]:
    """What each file should hold, by name."""
    return {f"{board.uid}.json": json.dumps(dashboard(board), indent=2) + "\n" for board in BOARDS}


def main() -> None:
    """Write them."""
    for name, text in files().items():
        (FOLDER / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()

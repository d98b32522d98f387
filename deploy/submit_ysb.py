"""Submits the benchmark's job once: makes the seed's table of ads, and leaves a job alone that runs already.

The table is part of the job, and ids in it follow from the seed, so a job counts the events of one
seed. That is why compose names the job after its seed.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from drizzle_loadgen import cli as loadgen
from drizzle_streams.api.client import destination
from drizzle_streams.api.load import load_jobs
from drizzle_streams.errors import DrizzleError
from drizzle_streams.local.http import ask

JOB_FILE = Path(__file__).with_name("ysb.py")
ENDED = ("stopped", "failed")


def main() -> int:
    """0 when the job runs, 2 when it cannot be submitted."""
    name, ads = os.environ["YSB_JOB"], os.environ["YSB_ADS"]
    try:
        to = destination(None, None)
        phases = {job["job"]: job["phase"] for job in ask(to.cluster, "/jobs", to.token)["jobs"]}
        if phases.get(name, ENDED[0]) not in ENDED:
            print(f"job {name} is {phases[name]} already")
            return 0
        if made := loadgen.main(["ads", "--seed", os.environ["YSB_SEED"], "--out", ads]):
            return made
        for job in load_jobs(JOB_FILE):
            print(f"job {job.submit()} runs on {to.cluster}")
    except DrizzleError as error:
        sys.stderr.write(f"submit: {error}\n")
        return 2
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

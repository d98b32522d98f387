"""FRAMES: a job's program as pure functions over Polars frames; no I/O, no clock, no randomness."""

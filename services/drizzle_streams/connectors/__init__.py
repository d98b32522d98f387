"""The world: replayable sources and idempotent sinks, one file per system."""

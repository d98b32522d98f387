"""The worker service: wiring, executor, blocks, tables."""

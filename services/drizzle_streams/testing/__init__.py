"""Public: run a stream over given batches, in this process, with virtual time."""

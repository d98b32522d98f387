"""The loop: drives a machine, keeps the clock, owns every task it starts."""

"""Decisions: pure machines that turn events into actions; no clock, loop, socket, file or chance."""

"""A whole cluster for one machine: the real services as processes on loopback."""

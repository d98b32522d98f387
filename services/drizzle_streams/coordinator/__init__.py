"""The coordinator service: wiring, job routes, console page."""

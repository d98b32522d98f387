"""The user's language: lazy streams, windows and aggregates, compiled to a job."""

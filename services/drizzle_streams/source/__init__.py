"""The source service: wiring, ingest, log."""

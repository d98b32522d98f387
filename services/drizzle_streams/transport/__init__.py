"""Bytes between services: envelopes over WebSocket, bulk blocks over HTTP, and both in memory."""

"""DECISIONS: pure machines. No asyncio, clock, socket, file, random, environ or data library."""

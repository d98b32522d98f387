"""Durable memory: the fenced ledger and the snapshots, behind one interface per purpose."""

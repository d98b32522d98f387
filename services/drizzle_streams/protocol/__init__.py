"""SENTENCES: what services say to each other and what the coordinator remembers. Bytes only in `codec`."""

"""Load and oracle: events from a seed, an open-loop schedule, and every window recomputed.

This package judges the streaming system, so it shares no code with it: it knows only the HTTP ingest route
of a source, the layout of the Redis sink, and the Yahoo Streaming Benchmark (YSB).

- `events`    event i is a function of (seed, i), any block of them can be made alone
- `schedule`  open loop: the due time of an event starts its clock, whatever the system under test is doing
- `client`    posts blocks to sources in order, each until it is acknowledged exactly once
- `oracle`    recomputes every (campaign, window) count and compares it with what the sink shows
- `faults`    signals for processes at chosen moments
- `report`    percentiles as a table and as JSON

`python -m drizzle_loadgen --help` lists the commands.
"""

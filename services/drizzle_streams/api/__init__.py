"""USER: lazy streams, windows and aggregates; every mistake is an error at the call that makes it.

Nothing here starts a process or opens a socket: a stream is an immutable description, a `Job`
is that description with a name, and `compile` turns it into what the engine runs. Users import
all of it as `import drizzle_streams as dz`.
"""

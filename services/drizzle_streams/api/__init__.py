"""USER: lazy streams, windows and aggregates; every mistake is an error at the call that makes it.

A stream is an immutable description, a `Job` is that description with a name, and `compile` turns it
into what the engine runs. Nothing here starts a process; a socket is opened only by `client`, when the
user submits a job. Users import all of it as `import drizzle_streams as dz`.
"""

# What `__init__.py` gives by name when it is used, spelt out for type checkers and editors.
from drizzle_streams import errors as errors
from drizzle_streams import testing as testing
from drizzle_streams.api.aggregates import count as count
from drizzle_streams.api.aggregates import first as first
from drizzle_streams.api.aggregates import last as last
from drizzle_streams.api.aggregates import max as max  # noqa: A004 - read as dz.max
from drizzle_streams.api.aggregates import mean as mean
from drizzle_streams.api.aggregates import min as min  # noqa: A004 - read as dz.min
from drizzle_streams.api.aggregates import sum as sum  # noqa: A004 - read as dz.sum
from drizzle_streams.api.job import Job as Job
from drizzle_streams.api.load import load_jobs as load_jobs
from drizzle_streams.api.sizes import tuned as tuned
from drizzle_streams.api.stream import Stream as Stream
from drizzle_streams.api.stream import files as files
from drizzle_streams.api.stream import stream as stream
from drizzle_streams.api.tables import Table as Table
from drizzle_streams.api.tables import table as table
from drizzle_streams.api.windows import tumbling as tumbling
from drizzle_streams.connectors.console import console as console
from drizzle_streams.connectors.redis import redis as redis
from drizzle_streams.errors import BuildError as BuildError
from drizzle_streams.errors import DrizzleError as DrizzleError

"""Benchmarks of Drizzle: `drizzle bench NAME`, or `python -m drizzle_benchmarks NAME`.

Each benchmark is a module with a docstring that says what it measures and against what, `NAME`,
`add_arguments(parser)` and `async run(arguments) -> Report`. A report is JSON of one shape (`report`);
claims in it say what was hoped for and whether it holds. A run that measured exits with 0, whatever
its claims say: benchmarks are not tests.
"""

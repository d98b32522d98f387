"""The graph a user describes: one stream, a line of operations, and what is known after each.

A line and no tree, because operations with two streams do not exist yet; a shuffle is an `Aggregation`
among the operations. Immutable: every call on a stream makes a new plan that shares the old one's parts.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from drizzle_streams.api.schemas import Schema
from drizzle_streams.api.tables import Table
from drizzle_streams.engine.columns import WINDOW_START
from drizzle_streams.engine.program import Aggregation, Step
from drizzle_streams.model.files import Format

Operation = Step | Aggregation


@dataclass(frozen=True, slots=True)
class EventTime:
    """Which column says when an event happened, and how far out of order events may come."""

    column: str
    max_delay_ms: int


@dataclass(frozen=True, slots=True)
class Result:
    """What is known of the rows after an aggregation.

    `keys` tell its rows apart, `window_start` too where `windowed`. Rows that are not `final` are
    updates: a later row with the same keys replaces an earlier one.
    """

    keys: tuple[str, ...]
    windowed: bool
    final: bool

    @property
    def identity(self) -> tuple[str, ...]:
        """The columns that tell rows apart."""
        return (*self.keys, WINDOW_START) if self.windowed else self.keys


@dataclass(frozen=True, slots=True)
class Files:
    """Files as declared: the pattern of their paths, and what a line of them is."""

    pattern: str
    format: Format


@dataclass(frozen=True, slots=True)
class Source:
    """The stream a plan reads, as declared; `files` where it is made of files."""

    name: str
    schema: Schema
    files: Files | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """A stream so far. `schema` is what the last operation gives, `schemas[i]` what operation i gives.

    A partition without rows for `idle_after_ms` no longer holds back any watermark of the plan.
    """

    source: Source
    schema: Schema
    event_time: EventTime | None
    operations: tuple[Operation, ...] = ()
    schemas: tuple[Schema, ...] = ()
    tables: tuple[Table, ...] = ()
    result: Result | None = None
    idle_after_ms: float = 0.0

    def then(self, operation: Operation, schema: Schema) -> Plan:
        """The plan with one more operation that keeps event time and keys as they are."""
        operations = (*self.operations, operation)
        return replace(self, operations=operations, schemas=(*self.schemas, schema), schema=schema)

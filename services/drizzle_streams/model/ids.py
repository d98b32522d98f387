"""Ids are types: passing a batch where a partition is wanted is a type error.

A `WorkerId` names one life of a process: a worker that was declared lost and
comes back takes a new id, so nothing of its old life can be mistaken for the new.
A `SourceId` is stable: it names the log on a disk, whoever serves it.
"""

from __future__ import annotations

from typing import NewType

JobId = NewType("JobId", str)
StreamId = NewType("StreamId", str)
WorkerId = NewType("WorkerId", str)
SourceId = NewType("SourceId", str)
NodeId = NewType("NodeId", str)
"""Any addressable service: a worker, a source or the coordinator."""

StageId = NewType("StageId", int)
PartitionId = NewType("PartitionId", int)
BatchId = NewType("BatchId", int)
GroupId = NewType("GroupId", int)
KeyGroup = NewType("KeyGroup", int)
CohortId = NewType("CohortId", int)
Generation = NewType("Generation", int)
Offset = NewType("Offset", int)

COORDINATOR = NodeId("coordinator")
NO_BATCH = BatchId(-1)
"""The batch before the first: the version of empty state."""

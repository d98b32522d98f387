"""What a task reads: the pieces that the machine names, found in this worker's stores."""

from __future__ import annotations

from drizzle_streams.core.actions import Fragment, Piece, RunTask
from drizzle_streams.engine.records import InputEntry
from drizzle_streams.errors import DrizzleError, explain
from drizzle_streams.model.ids import NodeId
from drizzle_streams.worker.cutting import wanted_ranges
from drizzle_streams.worker.execution import BlockInput
from drizzle_streams.worker.jobs import JobRun


class LostInputError(DrizzleError):
    """Data that was announced here is not here any more: a fault of ours, not of the user's program."""


def collect(job: JobRun, action: RunTask) -> tuple[list[InputEntry], list[BlockInput]]:
    """Entries for a stage that reads, blocks for one that merges; in the order of the pieces.

    References only: nothing is decoded or cut. Raises `LostInputError`.
    """
    if job.spec.stage(action.key.stage).stream is not None:
        return [entry for piece in action.pieces for entry in _entries(job, piece)], []
    return [], [block for piece in action.pieces for block in _blocks(job, piece)]


def _entries(job: JobRun, piece: Piece) -> list[InputEntry]:
    content = job.bench.fragments.input(piece.fragment)
    if content is None:
        raise _lost(piece.fragment)
    return [entry for partition in piece.partitions for entry in content.get(partition, ())]


def _blocks(job: JobRun, piece: Piece) -> list[BlockInput]:
    fragment, bench = piece.fragment, job.bench
    ranges = wanted_ranges(job.spec, job.spec.stage(fragment.downstream), piece.wanted)
    if fragment.sender == NodeId(bench.role.settings.worker):
        found = bench.blocks.find(fragment.job, fragment.stage, fragment.batch, piece.partitions)
        if found is None:
            raise _lost(fragment)
        return [BlockInput(part.block, part.partitions, ranges) for part in found.parts]
    encoded = bench.fragments.blocks(fragment)
    if encoded is None:
        raise _lost(fragment)
    if piece.wanted == fragment.wanted:
        ranges = None  # its sender has cut it so
    return [BlockInput(data, frozenset(piece.partitions), ranges) for data in encoded]


def _lost(fragment: Fragment) -> LostInputError:
    return LostInputError(
        explain(
            f"input of stage {fragment.downstream}, batch {fragment.batch}",
            wanted=f"what {fragment.sender} announced of stage {fragment.stage}",
            found="that it was let go",
            remedy="This is a fault in Drizzle: please report it with the worker's /debug/story.",
        )
    )

"""Which links of a worker end in a crowd: at somebody who talks with as many others as there are workers.

An acknowledgement that leaves by itself costs a frame at both ends. Of 128 workers that announce blocks to
16, each of these hears 128 and answers none of them but by acknowledgements; half of all frames were those.
So both ends of such a link are told, when they are assigned their share, and the outbox lets
acknowledgements wait longer there, and repeats later.
"""

from __future__ import annotations

from drizzle_streams.core.outbox import ACK_LINKS_FEW
from drizzle_streams.model.ids import COORDINATOR, NodeId, WorkerId
from drizzle_streams.model.job import JobSpec
from drizzle_streams.model.placement import Placement


def is_crowd(members: int) -> bool:
    """Whether who talks with so many is to be spared frames."""
    return members > ACK_LINKS_FEW


def crowds(spec: JobSpec, placement: Placement, worker: WorkerId) -> list[tuple[NodeId, int]]:
    """With how many others the busier end of each link talks, as this job has it."""
    owners = [dict.fromkeys(row) for row in placement.owners]
    members: dict[NodeId, int] = {COORDINATOR: len(placement.workers())}
    edges = [(owners[above], owners[stage.stage]) for stage in spec.stages for above in stage.inputs]
    for mine, others in (*edges, *((below, above) for above, below in edges)):
        if worker not in mine:
            continue
        for node in map(NodeId, others):
            members[node] = max(members.get(node, 0), len(mine), len(others))
    members.pop(NodeId(worker), None)
    return list(members.items())

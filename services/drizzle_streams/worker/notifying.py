"""What rides in a notification that blocks are ready: the shares of its batches, if they are short.

One batch's payload is its share as it is. Several batches ride as a share of shares, one for each in order,
so that what is damaged is found by the same checksums. If one of them is missing or too long, none rides
along and the receiver pulls them all in one go.
"""

from __future__ import annotations

from drizzle_streams.core.actions import Fragment
from drizzle_streams.core.untold import RUN_BATCHES_MAX
from drizzle_streams.errors import CorruptError, explain
from drizzle_streams.model.ids import BatchId, NodeId
from drizzle_streams.protocol.messages import BlocksReady
from drizzle_streams.worker.blocks import BlockStore, share_key
from drizzle_streams.worker.bundles import pack_share, unpack_share

INLINE_BLOCK_BYTES_MAX = 64 * 1024
"""A share up to this rides in its notification; a longer one is pulled."""


def attached(blocks: BlockStore, ready: BlocksReady) -> bytes | None:
    """The payload of a notification, given out once; None if its blocks must be pulled."""
    if ready.last - ready.first >= RUN_BATCHES_MAX:
        return None
    key, (job, stage) = share_key(ready), (ready.job, ready.stage)
    batches = [BatchId(batch) for batch in range(ready.first, ready.last + 1)]
    sizes = [blocks.share_bytes(job, stage, batch, key) for batch in batches]
    if any(size is None or size > INLINE_BLOCK_BYTES_MAX for size in sizes):
        return None
    taken = [blocks.take_share(job, stage, batch, key) for batch in batches]
    shares = [share for share in taken if share is not None]
    return shares[0] if len(shares) == 1 else pack_share(shares)


def detached(ready: BlocksReady, payload: bytes) -> list[tuple[Fragment, tuple[bytes, ...]]]:
    """The encoded blocks of each batch of a notification; raises `CorruptError`."""
    count = ready.last - ready.first + 1
    shares = (payload,) if count == 1 else unpack_share(payload)
    if len(shares) != count:
        raise CorruptError(
            explain(
                "blocks that came with a notification",
                wanted=f"shares of {count} batches",
                found=f"{len(shares)}",
                remedy="They are pulled instead; if it repeats, both workers must run one release.",
            )
        )
    sender = NodeId(ready.worker)
    return [
        (
            Fragment(ready.job, ready.downstream, ready.stage, batch, sender, ready.partitions, ready.wanted),
            unpack_share(share),
        )
        for batch, share in zip(map(BatchId, range(ready.first, ready.last + 1)), shares, strict=True)
    ]

"""A job as bytes: what is posted to the coordinator, kept in its ledger and handed on to the workers.

Layout: magic and format, then a record: the `JobSpec` and the program as opaque bytes (`engine.shipping`).
So the coordinator can read what it plans without a data library and without the user's modules.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from drizzle_streams.errors import BuildError, ProtocolError, explain
from drizzle_streams.model.job import JobSpec
from drizzle_streams.protocol.codec import decode_record, encode_record

JOB_MEDIA_TYPE: Final = "application/vnd.drizzle.job"
"""`Content-Type` of `POST /jobs`."""
JOB_BYTES_MAX: Final = 48 * 1024 * 1024
"""A whole job with its tables; below the codec's bound on one record."""

_MAGIC: Final = b"DRZJOB"
_FORMAT: Final = 1
_HEAD: Final = _MAGIC + _FORMAT.to_bytes(2, "big")


@dataclass(frozen=True, slots=True)
class JobFile:
    """A packed job: what the coordinator reads, and what only workers do."""

    spec: JobSpec
    program: bytes


def pack_job(job: JobFile) -> bytes:
    """The job as bytes; raises `BuildError` when they are too many."""
    data = _HEAD + encode_record(job)
    if len(data) > JOB_BYTES_MAX:
        raise BuildError(
            explain(
                f"job {job.spec.job!r}",
                wanted=f"at most {JOB_BYTES_MAX} bytes with its tables",
                found=f"{len(data)} bytes",
                remedy="Join with smaller tables: only the rows and columns that can match.",
            )
        )
    return data


def unpack_job(data: bytes) -> JobFile:
    """The reverse of `pack_job`; raises `ProtocolError` on anything else. The program is not looked at."""
    if len(data) > JOB_BYTES_MAX or not data.startswith(_MAGIC):
        raise ProtocolError(
            explain(
                "job file",
                wanted=f"bytes that start with {_MAGIC!r}, at most {JOB_BYTES_MAX}",
                found=f"{len(data)} bytes that start with {data[:8]!r}",
                remedy="Post what Job.to_bytes() gives, or use `drizzle submit`.",
            )
        )
    if not data.startswith(_HEAD):
        raise ProtocolError(
            explain(
                "job file: format",
                wanted=str(_FORMAT),
                found=str(int.from_bytes(data[len(_MAGIC) : len(_HEAD)], "big")),
                remedy="Submit with the release of Drizzle that the cluster runs.",
            )
        )
    return decode_record(JobFile, data[len(_HEAD) :])

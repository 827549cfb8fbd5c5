"""Refused requests of the last hour, which API processes (wiring.py) write once a second; timelines.py, refusals.py and
`scrip requests` find them by request id. The fields of Refused are stored as a JSON array, in their order."""

from collections.abc import Sequence
from typing import NamedTuple, cast
from zlib import crc32

import msgspec
from asyncpg import Pool

from service.engine.record.pool import Database, count_changed
from service.engine.record.queries import query

KEEP_S = 3600
"""How long a refusal can be found."""
MAX_BATCHES = 10
"""Of a request id that a client sends again and again, the newest refusals of so many batches are found."""


class Refused(NamedTuple):
    """A refusal; `workspace` is 0 without valid credentials, `subject` the code or id in the path, masked if stored."""

    request_id: str
    workspace: int
    at_ms: int
    route: str
    status: int
    outcome: str
    took_ms: float
    subject: str | None


class RefusedBatch(NamedTuple):
    """Refusals, and how many others were not kept."""

    refusals: Sequence[Refused]
    dropped: int


async def add_refused(pool: Pool, _: int, batch: RefusedBatch) -> None:
    """A Sampler's `write`: store a process's refusals of a second as one row."""
    if batch.refusals or batch.dropped:
        digests = [_digest(one.request_id) for one in batch.refusals]
        text = msgspec.json.encode(batch.refusals).decode()
        await pool.execute(query("add_refused_requests"), digests, text, batch.dropped)


async def find_refused(database: Database, request_id: str, workspace: int | None = None) -> RefusedBatch:
    """Refusals with this request id, newest first, of one workspace or all; how many of an hour are not stored."""
    rows = await database.fetch(query("find_refused_requests"), _digest(request_id), KEEP_S, MAX_BATCHES)
    stored = [one for (text,) in rows for one in msgspec.json.decode(text, type=list[Refused])]
    found = [one for one in stored if one.request_id == request_id and workspace in (None, one.workspace)]
    found.sort(key=lambda one: one.at_ms, reverse=True)
    return RefusedBatch(found, cast("int", await database.fetchval(query("count_dropped_refusals"), KEEP_S)))


async def prune_refused(database: Database, limit: int) -> int:
    """Delete at most so many old rows; return their number."""
    return await count_changed(database, query("prune_refused_requests"), KEEP_S, limit)


def _digest(request_id: str) -> int:
    return crc32(request_id.encode()) - 2**31

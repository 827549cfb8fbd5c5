"""Refused requests of the last hour, which API processes (wiring.py) write once a second; timelines.py, refusals.py and
`scrip requests` find them by request id. The fields of Refused are stored as a JSON array, in their order."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple, cast
from zlib import crc32

import msgspec
from asyncpg import Pool

from service.engine.record.pool import Database, count_changed
from service.engine.record.queries import query

KEEP_S = 3600
"""How long a refusal can be found."""
MAX_BATCHES = 10
"""Of a request id that a workspace sends again and again, the newest refusals of so many batches are found."""


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
    """Refusals, and how many others of each workspace were not kept."""

    refusals: Sequence[Refused]
    dropped: Mapping[int, int]


class FoundRefusals(NamedTuple):
    """Refusals with a request id, and how many of the last hour, of any id, were not kept."""

    refusals: Sequence[Refused]
    dropped: int


async def add_refused(pool: Pool, _: int, batch: RefusedBatch) -> None:
    """A Sampler's `write`: store a process's refusals of a second as one row."""
    if batch.refusals or batch.dropped:
        digests = [_digest(one.request_id, name) for one in batch.refusals for name in (one.workspace, None)]
        text = msgspec.json.encode(batch.refusals).decode()
        await pool.execute(query("add_refused_requests"), digests, text, msgspec.json.encode(batch.dropped).decode())


async def find_refused(database: Database, request_id: str, workspace: int | None = None) -> FoundRefusals:
    """Refusals with this request id, newest first, of one workspace or all: in all, anybody may send any id, so that
    every batch is read. With them, how many of an hour, of the same, are not stored."""
    limit = None if workspace is None else MAX_BATCHES
    rows = await database.fetch(query("find_refused_requests"), _digest(request_id, workspace), KEEP_S, limit)
    stored = [one for (text,) in rows for one in msgspec.json.decode(text, type=list[Refused])]
    found = [one for one in stored if one.request_id == request_id and workspace in (None, one.workspace)]
    found.sort(key=lambda one: one.at_ms, reverse=True)
    name = None if workspace is None else str(workspace)
    dropped = cast("int", await database.fetchval(query("count_dropped_refusals"), KEEP_S, name))
    return FoundRefusals(found, dropped)


async def prune_refused(database: Database, limit: int) -> int:
    """Delete at most so many old rows; return their number."""
    return await count_changed(database, query("prune_refused_requests"), KEEP_S, limit)


def _digest(request_id: str, workspace: int | None) -> int:
    """For a search of one workspace or of all: other workspaces' refusals with this id are not in the former."""
    return crc32(f"{'' if workspace is None else workspace} {request_id}".encode()) - 2**31

"""What a partition's Redis and its record hold, read and left as it is."""

import asyncio
import contextlib
from typing import Any

import asyncpg
import msgspec

from service.formats import key_names
from service.formats.event_id import NO_EVENT, EventId, parse_event_id
from service.formats.events import entry_digest
from service.hot.redis_server import Server
from service.hot.scripts import PROJECTION, SERVING, Scripts, follows
from service.record.facts.quarantine import Quarantine, read_quarantine
from service.record.partitions.failing_tasks import Failing, read_failing
from service.record.partitions.openings import RebuildOrder, Recovery, read_recoveries, rebuild_order
from service.record.partitions.partition_rows import Partition

_NEWEST = 3
MAX_WRONG = 1000


class InRedis(msgspec.Struct, frozen=True, kw_only=True):
    """One partition in Redis."""

    gate: str
    mark: str
    config_version: int
    newest_version: int
    """Of any configuration that is there; `config_version` is the last of which all is."""
    entries: int
    first: str
    """The id of the outbox's first entry; '' for an empty one."""
    last: EventId
    """Epoch and number of the last; (0, 0) for none."""
    anchor: bytes | None
    """The digest of the entry that was recorded last; None where it is not in the outbox."""
    has_scripts: bool
    same_history: bool
    """Whether its data is of the history that was verified."""
    types: "Types"


class Types(msgspec.Struct, frozen=True, kw_only=True):
    """Whether keys hold what their kinds do."""

    looked: int
    """At so many of the workspaces' keys; all of the partition's own are looked at besides."""
    own: list[str]
    """Kinds of the partition's own keys that are of another type."""
    wrong: list[str]
    """As many of the workspaces' keys that are as were come to: how each is of another type."""


class InRecord(msgspec.Struct, frozen=True, kw_only=True):
    """What Postgres remembers of one partition's troubles."""

    quarantine: Quarantine
    recovery: Recovery | None
    ordered: RebuildOrder | None
    failing: list[Failing]
    """Tasks of the worker that fail and are begun anew."""


async def look_in_redis(server: Server, row: Partition, types_s: float) -> InRedis:
    """Read a partition in Redis; a key of another type than it should be says nothing. Types of keys are asked for so
    many seconds. Raises Broken, hiredis.ReplyError."""
    types = await _look_at_types(server, types_s)
    at, has_outbox = str(row.cursor), "outbox" not in types.own
    first: list[Any] = await server.command("XRANGE", server.outbox, "-", "+", "COUNT", 1) if has_outbox else []
    last: list[Any] = await server.command("XREVRANGE", server.outbox, "+", "-", "COUNT", 1) if has_outbox else []
    anchor: list[Any] = await server.command("XRANGE", server.outbox, at, at) if has_outbox else []
    seen, newest = await server.command("MGET", key_names.config(row.id), key_names.newest(row.id))
    scripts = Scripts(row.id, row.epoch, row.nonce, [*SERVING, *PROJECTION])
    return InRedis(
        gate="" if "gate" in types.own else await server.read_gate(),
        mark="" if "mend" in types.own else await server.read_mark(),
        config_version=int(seen or 0),
        newest_version=max(int(seen or 0), int(newest or 0)),
        entries=await server.command("XLEN", server.outbox) if has_outbox else 0,
        first=first[0][0] if first else "",
        last=parse_event_id(last[0][0]) if last else NO_EVENT,
        anchor=_digest(*anchor[0]) if anchor else None,
        has_scripts=await server.has(scripts),
        same_history=follows(row.nonce, *await server.history()),
        types=types,
    )


async def _look_at_types(server: Server, types_s: float) -> Types:
    """As many keys as a moment allows, from wherever the server's table of keys begins."""
    own, looked, wrong = await server.wrong_types(), 0, list[str]()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(types_s):
            async for page in server.walk_keys(key_names.TYPES):
                for key, found in zip(page, await server.types(page), strict=True):
                    if found not in (key.type, "none") and len(wrong) < MAX_WRONG:
                        wrong.append(f"a {found} where {key.kind}: is a {key.type}")
                looked += len(page)
    return Types(looked=looked, own=[key.kind for key in own], wrong=wrong)


async def look_in_record(connection: asyncpg.Connection, partition: int) -> InRecord:
    """Read what Postgres remembers. Raises asyncpg's errors."""
    recoveries = await read_recoveries(connection, partition, 1)
    return InRecord(
        quarantine=await read_quarantine(connection, partition, _NEWEST),
        recovery=recoveries[0] if recoveries else None,
        ordered=await rebuild_order(connection, partition),
        failing=await read_failing(connection, partition),
    )


def _digest(entry_id: str, fields: list[str]) -> bytes:
    return entry_digest(entry_id.encode(), *(value.encode() for value in fields[1::2]))

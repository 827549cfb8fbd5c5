"""Reads one partition's state in Redis and Postgres, changing nothing, for checks.py; verdicts.py judges it."""

import asyncio
import contextlib
from typing import Any

import asyncpg
import msgspec

from service.engine.formats import key_names
from service.engine.formats.event_id import NO_EVENT, EventId, parse_event_id
from service.engine.formats.events import entry_digest
from service.engine.formats.stored_settings import parse_versions
from service.engine.hot.fencing import parse_nonce
from service.engine.hot.redis_server import Server
from service.engine.hot.scripts import PROJECTION, SERVING, Scripts
from service.engine.record.facts.quarantined_events import Quarantine, read_quarantine
from service.engine.record.partitions.failing_tasks import FailingTask, read_failing
from service.engine.record.partitions.openings import RebuildOrder, Recovery, read_recovery, rebuild_order
from service.engine.record.partitions.partition_rows import Partition
from service.server.in_postgres.comparisons import workspaces_of

_NEWEST_QUARANTINED = 3
MAX_WRONG_KEYS = 1000
NAMES_AT_ONCE = 1000


class RedisState(msgspec.Struct, frozen=True, kw_only=True):
    gate: str
    mending: str
    """The text of the key `mend`, '' if absent."""
    config_version: int
    """All configuration changes up to this version are in Redis."""
    newest_version: int
    """The highest version of any configuration in Redis."""
    entries: int
    """The number of entries in the outbox."""
    first: str
    """The id of the outbox's first entry; '' if it is empty."""
    last: EventId
    """Of the last entry; (0, 0) if the outbox is empty."""
    anchor: bytes | None
    """The digest of the entry at the cursor; None if the outbox lacks it."""
    has_scripts: bool
    """Whether all scripts of the epoch are loaded."""
    has_same_history: bool
    """Whether the server has the replication history that a worker verified."""
    types: "KeyTypes"
    unset: int
    """The number of the partition's workspaces whose settings are missing."""


class KeyTypes(msgspec.Struct, frozen=True, kw_only=True):
    """The keys of a partition whose Redis type is wrong."""

    checked: int
    """The number of workspace keys that were checked; the partition's own keys are all checked."""
    own: list[str]
    """The kinds of the partition's own keys with a wrong type."""
    wrong: list[str]
    """A description of each checked workspace key with a wrong type, at most MAX_WRONG_KEYS."""


class RecordState(msgspec.Struct, frozen=True, kw_only=True):
    """What Postgres stores about faults and recoveries of one partition."""

    quarantine: Quarantine
    recovery: Recovery | None
    ordered: RebuildOrder | None
    failing: list[FailingTask]
    """Tasks of the worker that keep failing."""


async def read_redis_state(
    server: Server, row: Partition, types_timeout_s: float, record: asyncpg.Connection
) -> RedisState:
    """Read the state of a partition from Redis. Checks types of keys for at most `types_timeout_s`.

    A partition key of a wrong type is read as absent. Raises Broken, hiredis.ReplyError, asyncpg's errors.
    """
    types = await _check_types(server, types_timeout_s)
    at, has_outbox = str(row.cursor), "outbox" not in types.own
    first: list[Any] = await server.command("XRANGE", server.outbox, "-", "+", "COUNT", 1) if has_outbox else []
    last: list[Any] = await server.command("XREVRANGE", server.outbox, "+", "-", "COUNT", 1) if has_outbox else []
    anchor: list[Any] = await server.command("XRANGE", server.outbox, at, at) if has_outbox else []
    versions = parse_versions(*await server.command("MGET", key_names.config(row.id), key_names.newest(row.id)))
    scripts = Scripts(row.id, row.epoch, row.nonce, [*SERVING, *PROJECTION])
    return RedisState(
        gate="" if "gate" in types.own else await server.read_gate(),
        mending="" if "mend" in types.own else await server.read_mark(),
        config_version=versions.last,
        newest_version=versions.newest,
        entries=await server.command("XLEN", server.outbox) if has_outbox else 0,
        first=first[0][0] if first else "",
        last=parse_event_id(last[0][0]) if last else NO_EVENT,
        anchor=_digest_entry(*anchor[0]) if anchor else None,
        has_scripts=await server.has(scripts),
        has_same_history=parse_nonce(row.nonce).fits(await server.replication()),
        types=types,
        unset=await _count_unset(server, await workspaces_of(record, row.id)),
    )


async def _count_unset(server: Server, workspaces: list[int]) -> int:
    """The number of these workspaces that have no settings in Redis."""
    names, unset = [key_names.settings(key_names.prefix(server.partition, workspace)) for workspace in workspaces], 0
    for start in range(0, len(names), NAMES_AT_ONCE):
        some = names[start : start + NAMES_AT_ONCE]
        unset += len(some) - await server.command("EXISTS", *some)
    return unset


async def _check_types(server: Server, timeout_s: float) -> KeyTypes:
    """Check the types of the partition's own keys, and of as many workspace keys as the timeout allows."""
    own, checked, wrong = await server.wrong_types(), 0, list[str]()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(timeout_s):
            async for page in server.walk_keys(key_names.TYPES):
                for key, actual in zip(page, await server.types(page), strict=True):
                    if actual not in (key.type, "none") and len(wrong) < MAX_WRONG_KEYS:
                        wrong.append(f"a {actual} where {key.kind}: is a {key.type}")
                checked += len(page)
    return KeyTypes(checked=checked, own=[key.kind for key in own], wrong=wrong)


async def read_record_state(connection: asyncpg.Connection, partition: int) -> RecordState:
    """Read quarantine, last recovery, ordered rebuild and failing tasks from Postgres. Raises asyncpg's errors."""
    return RecordState(
        quarantine=await read_quarantine(connection, partition, _NEWEST_QUARANTINED),
        recovery=await read_recovery(connection, partition),
        ordered=await rebuild_order(connection, partition),
        failing=await read_failing(connection, partition),
    )


def _digest_entry(entry_id: str, fields: list[str]) -> bytes:
    return entry_digest(entry_id.encode(), *(value.encode() for value in fields[1::2]))

"""Whether Postgres is older than Redis: restored, or promoted too early (decision 0074). partition_opening.py,
partition_worker.py, projection_catchup.py and `scrip recover` (recover.py) call this. Redis is read before Postgres:
otherwise what is written in between would look lost. Changes nothing."""

from typing import NamedTuple

import asyncpg
import hiredis

from service.common.plurals import count_noun
from service.engine.formats import key_names
from service.engine.formats.event_id import EventId, parse_event_id
from service.engine.formats.events import Event, entry_digest, parse_entry, split_entry
from service.engine.formats.stored_settings import parse_versions
from service.engine.hot.decider import is_wrong_type
from service.engine.hot.redis_server import Server
from service.engine.record.facts.fact_reader import is_recorded
from service.engine.record.partitions.openings import was_recovered
from service.engine.record.partitions.partition_rows import Partition, read_partition
from service.engine.worker.opening.unrecorded_events import FACT_KINDS, OPENING_KINDS

MAX_COMPARED = 100
"""Entries that are compared with the record, from the outbox's first on."""

_Entry = tuple[EventId, list[bytes]]


class Surplus(NamedTuple):
    """What Redis has and Postgres lacks; 0 for nothing, or if it is not known."""

    events: int = 0
    """At least so many."""
    seconds: float = 0
    """From the last recording to Redis's last event."""
    versions: int = 0
    """Changes of configuration."""
    epoch: int = 0
    """Redis's epoch, if Postgres never drew it."""

    def __str__(self) -> str:
        lacks = [
            f"{count_noun(self.events, 'event')} or more ({self.seconds:.0f} s)" if self.events else "",
            count_noun(self.versions, "configuration change") if self.versions else "",
            f"epoch {self.epoch}" if self.epoch else "",
        ]
        return f"Postgres is older than Redis: it lacks {', '.join(filter(None, lacks))}"


class PostgresOlder(Exception):
    """Postgres lacks what Redis has, so that Redis must not be rebuilt from it."""


async def find_surplus(server: Server, pool: asyncpg.Pool) -> Surplus | None:
    """What Redis has and Postgres lacks, apart from unrecorded events of which none is missing. Changes nothing."""
    partition = server.partition
    epoch = await server.newest_epoch()
    names = (key_names.config(partition), key_names.newest(partition))
    versions = await server.command("MGET", *names)
    row = await read_partition(pool, partition)  # later than Redis, so that later writes are not missing
    surplus = Surplus(
        versions=max(0, parse_versions(*versions).newest - row.config_version),
    )
    try:
        surplus = await _OutboxEnd(server, pool, row).add_events(surplus, epoch)
    except hiredis.ReplyError as error:
        if not is_wrong_type(error):  # such an outbox has no events
            raise
    return surplus if any(surplus) else None


class _OutboxEnd:
    """Whether every event that Postgres lacks is in the outbox.

    1. That is so if the outbox has an entry that is recorded: the anchor, or any before it. Unrecorded events follow
       it, and the outbox is never trimmed beyond the recorded ones.
    2. But it is not if Redis was restored since, by a recovery that Postgres does not know: then Redis has facts that
       the outbox never had.
    """

    def __init__(self, server: Server, pool: asyncpg.Pool, row: Partition) -> None:
        self._server, self._pool, self._row = server, pool, row

    async def add_events(self, surplus: Surplus, epoch: int) -> Surplus:
        """Return the surplus with the events that neither Postgres nor the outbox has. `epoch` is Redis's newest."""
        has_anchor = await self._has_anchor()
        first = [] if has_anchor else await self._entries("-", MAX_COMPARED)
        has_facts = any(split_entry(fields)[0][:1] in FACT_KINDS for _, fields in first)
        # All before the anchor is of this Postgres.
        is_unknown = await self._has_unknown_recovery(after=self._row.cursor.epoch if has_anchor else -1)
        if not is_unknown and (has_anchor or (has_facts and await self._has_recorded(first))):
            return surplus
        # Something is lost, or nothing shows that nothing is: count what follows the cursor, at least 1.
        last = await self._last_event()
        if is_unknown or has_facts or (last and last.id > self._row.cursor):
            return surplus._replace(events=self._count(last), seconds=self._seconds(last))
        # The outbox has no fact, and nothing after the cursor: only an epoch that Postgres never drew shows it.
        return surplus._replace(epoch=epoch) if epoch > self._row.epoch else surplus

    async def _entries(self, start: str, count: int) -> list[_Entry]:
        page = await self._server.command("XRANGE", self._server.outbox, start, "+", "COUNT", count)
        return [(parse_event_id(name), [text.encode() for text in flat]) for name, flat in page]

    async def _has_anchor(self) -> bool:
        at = self._row.cursor
        entries = await self._entries(str(at), 1)
        return bool(entries) and entries[0][0] == at and _digest(*entries[0]) == self._row.cursor_digest

    async def _has_recorded(self, entries: list[_Entry]) -> bool:
        """Whether any of these entries is recorded."""
        for at, fields in entries:
            d, r, _ = split_entry(fields)
            if await is_recorded(self._pool, self._row.id, parse_entry(at, d, r)):
                return True
        return False

    async def _has_unknown_recovery(self, after: int) -> bool:
        """Whether the last recovery, of an epoch after this one, is not of this Postgres. If it is, Redis then
        had the state of this Postgres. A recovery's entry is the second of its epoch."""
        end = "+"
        while page := await self._server.command("XREVRANGE", self._server.outbox, end, "-", "COUNT", 1):
            epoch = parse_event_id(page[0][0]).epoch
            if epoch <= after:
                return False
            for at, fields in await self._entries(f"{epoch}-1", 1):
                kind, _, nonce = split_entry(fields)[0].partition(b" ")
                if at == (epoch, 1) and kind == b"M":
                    return not await was_recovered(self._pool, self._row.id, epoch, nonce.decode())
            end = f"({epoch}-0"
        return False

    async def _last_event(self) -> Event | None:
        """The last event that is neither an epoch's first nor a recovery's end."""
        async for at, (d, r, _) in self._server.entries(newest_first=True):
            if d[:1] not in OPENING_KINDS:
                return parse_entry(at, d, r) or Event(epoch=at.epoch, seq=at.seq)
        return None

    def _count(self, last: Event | None) -> int:
        if last is None:
            return 1
        cursor = self._row.cursor
        return max(1, last.seq - (cursor.seq if cursor.epoch == last.epoch else 0))

    def _seconds(self, last: Event | None) -> float:
        at_ms, recorded = getattr(last, "at_ms", None), self._row.recorded_at
        return max(0.0, at_ms / 1000 - recorded.timestamp()) if at_ms and recorded else 0.0


def _digest(at: EventId, fields: list[bytes]) -> bytes:
    return entry_digest(bytes(at), *fields[1::2])

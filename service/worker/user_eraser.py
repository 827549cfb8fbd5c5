"""Deleting users: a pseudonym takes a user's place in Redis, then in Postgres (docs/decisions/0010)."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence

import asyncpg
import structlog

from service.domain.configuration import UserRow
from service.domain.times import to_ms
from service.formats.event_id import START, EventId, parse_event_id
from service.formats.idempotency_entry import without_users
from service.hot.projection import RedisProjector
from service.hot.pseudonyms import Held, KeyChange, Spent, UserEraser, kept_entries
from service.hot.redis_server import Server
from service.hot.scripts import ERASING, Scripts
from service.record.facts import user_deletion
from service.record.facts.user_deletion import Erasure
from service.record.partitions.partition_rows import read_partition
from service.record.pool import ERRORS, is_away
from service.worker.projection_catchup import projector_of, runner_of

LOOK_S = 0.1
USERS_AT_ONCE = 100
PATIENCE_S = 10.0
"""How long to wait for the record, or for configuration on its way, before the whole is tried again."""
POLL_S = 0.02

log = structlog.get_logger()


class NotYet(Exception):
    """What was decided or changed before is not where it has to be; to be tried again."""


class Eraser:
    """One for each partition that a worker keeps.

    1. Take users that are to be erased, at most 100; a row in Postgres names each until step 7.
    2. Put a cap without limit, of the version with which the user's row was deleted, over what an older change may
       still write; and wait until Redis has seen every change up to that one.
    3. In Redis, give the pseudonym the user's coupons, gifts and redemptions, as Postgres lists them: each with its
       counts in one script, so that they are right at every moment.
    4. From here on Redis decides nothing more under the old id about these. Wait until what it decided before is
       recorded; then move the counts of redemptions that were rolled back meanwhile without giving their use back.
    5. Replace the user in what idempotency keys answer and their requests don't name: what was recorded by step 4 in
       Redis and then in Postgres, what Redis alone has in Redis. What was decided later is a new user's in both.
    6. Replace the user in the facts. Before this Postgres still names the user, so a rebuilt Redis does, too, and all
       of it is done again. Then say in Redis that Postgres has the pseudonym: scripts no longer read in the outbox.
    7. Take the cap away, leave an event of nobody's at the outbox's end, and forget the id in the row of step 1.

    Every step finds done what is done: killed anywhere, the next worker begins anew and ends the same.
    """

    def __init__(self, pool: asyncpg.Pool, server: Server, scripts: Scripts) -> None:
        self._pool, self._server = pool, server
        self._scripts = Scripts(server.partition, scripts.epoch, scripts.nonce, ERASING)
        self._run = runner_of(server, self._scripts)
        self._projector: RedisProjector = projector_of(server, scripts)
        self._keys_done: dict[str, EventId] = {}
        """By pseudonym, up to which event what keys answer is done: where an erasure is asked for again meanwhile, and
        again, each pass is of what is new."""

    async def load(self) -> None:
        """Make the scripts known to the server."""
        await self._server.load(self._scripts)

    async def run(self) -> None:
        """Work until cancelled, or until Redis is no longer ours; while Postgres is away, wait."""
        await self.load()
        while True:
            try:
                if users := await user_deletion.pending_erasures(self._pool, self._server.partition, USERS_AT_ONCE):
                    await self.erase(users)
                    continue
            except NotYet as not_yet:
                log.warning("erasing_waits", reason=str(not_yet))
            except ERRORS as error:
                if not is_away(error):
                    raise
                log.warning("postgres_away", error=type(error).__name__)
            await asyncio.sleep(LOOK_S)

    async def erase(self, users: Sequence[Erasure]) -> None:
        """Steps 2 to 7. Raises NotYet."""
        for user in users:
            await self._cap(user)
        await self._seen(max(user.version for user in users))
        for user in users:
            await self._replace_in_redis(user)
        last = await self._recorded()
        for user in users:
            await self._replace_in_counts(user)
        for workspace in {user.workspace for user in users}:
            await self._replace_in_keys(workspace, [user for user in users if user.workspace == workspace], last)
        for user in users:
            await user_deletion.erase_facts(self._pool, user, last)
        for user in users:
            eraser = self._eraser(user)
            async for page in user_deletion.redemptions_of(self._pool, user, user.pseudonym):
                await eraser.recorded(user.last, (EventId(row["epoch"], row["seq"]) for row in page))
            await eraser.finish(user.version)
            if await user_deletion.finish_erasure(self._pool, user, await self._last()):
                self._keys_done.pop(user.pseudonym, None)
                log.info("user_erased", workspace=user.workspace, pseudonym=user.pseudonym)

    def _eraser(self, user: Erasure) -> UserEraser:
        return UserEraser(self._run, user.partition, user.workspace, user.user_id, user.pseudonym)

    async def _cap(self, user: Erasure) -> None:
        row = UserRow(
            workspace=user.workspace,
            partition=user.partition,
            version=user.version,
            user_id=user.user_id,
            max_coupons=None,
            metadata={},
            created_ms=0,
        )
        await self._projector.user(row)
        await self._projector.seen(user.partition, user.version)

    async def _seen(self, version: int) -> None:
        async def seen() -> bool:
            return await self._projector.last_seen(self._server.partition) >= version

        await _until(seen, "a change before it is not in Redis")

    async def _replace_in_redis(self, user: Erasure) -> None:
        eraser = self._eraser(user)
        async for page in user_deletion.assignments_of(self._pool, user):
            await eraser.coupons(Held(row["code"], to_ms(row["assigned_at"]), row["order_id"]) for row in page)
        async for page in user_deletion.codes_of(self._pool, user):
            await eraser.coupons(Held(row["code"], to_ms(row["created_at"])) for row in page)
        await self._replace_in_counts(user)

    async def _replace_in_counts(self, user: Erasure) -> None:
        eraser = self._eraser(user)
        async for page in user_deletion.redemptions_of(self._pool, user, user.user_id):
            await eraser.redemptions(
                Spent(EventId(row["epoch"], row["seq"]), row["book"], row["code"], row["restore"] is False)
                for row in page
                if not row["restore"]
            )

    async def _recorded(self) -> EventId:
        """The outbox's last event, once it is recorded."""
        last = await self._last()

        async def recorded() -> bool:
            return (await read_partition(self._pool, self._server.partition)).cursor >= last

        await _until(recorded, "what was decided before is not recorded")
        return last

    async def _last(self) -> EventId:
        last = await self._server.tail()
        if not last:
            raise NotYet("there is no outbox")
        return parse_event_id(last)

    async def _replace_in_keys(self, workspace: int, users: Sequence[Erasure], last: EventId) -> None:
        """Of what is recorded up to `last`, in both stores the same, Redis first. Of what is in Redis alone, in Redis:
        what has an event after `last` is a new user's, and stays in both."""
        pseudonyms = {user.user_id: user.pseudonym for user in users}
        eraser = self._eraser(users[0])
        after = min(self._keys_done.get(user.pseudonym, START) for user in users)
        async for page in user_deletion.entries_with(self._pool, workspace, list(pseudonyms), after, last):
            if changes := await asyncio.to_thread(_changes, page, pseudonyms):  # unpacking takes a millisecond each
                await eraser.entries(changes)
                await user_deletion.change_entries(self._pool, workspace, changes)
        self._keys_done |= {user.pseudonym: last for user in users}

        async def unrecorded(some: Sequence[str]) -> set[str]:
            return set(some) - await user_deletion.keys_known(self._pool, workspace, some)

        async for page in kept_entries(self._server, self._run, workspace, unrecorded):
            if changes := await asyncio.to_thread(_changes, page, pseudonyms):
                await self._recorded()
                later = await user_deletion.keys_after(self._pool, workspace, [change.key for change in changes], last)
                await eraser.entries(change for change in changes if change.key not in later)


def _changes(page: Sequence[tuple[str, str]], pseudonyms: dict[str, str]) -> list[KeyChange]:
    changes = (KeyChange(key, entry, without_users(entry, pseudonyms)) for key, entry in page)
    return [change for change in changes if change.new != change.old]


async def _until(reached: Callable[[], Awaitable[bool]], otherwise: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not await reached():
        if time.monotonic() > deadline:
            raise NotYet(otherwise)
        await asyncio.sleep(POLL_S)

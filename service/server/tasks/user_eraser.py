"""Delete users, as a task of partition_worker.py: replace the user by a pseudonym in Redis, then in Postgres
(docs/internals/decisions/0010). users.py orders it. A crash may come after any step, so their order must stay."""

import asyncio
import sys
from collections.abc import Awaitable, Callable, Sequence

import asyncpg
import structlog

from service.common.fair_queue import FairGate
from service.engine.domain.configuration import UserRow
from service.engine.domain.times import to_ms
from service.engine.formats.event_id import START, EventId, parse_event_id
from service.engine.formats.idempotency_entry import without_users
from service.engine.hot.projection import RedisProjector
from service.engine.hot.redis_server import Server
from service.engine.hot.scripts import ERASING, Scripts
from service.engine.record.pool import wait_out_outage
from service.engine.worker.lease_keeper import Lease
from service.engine.worker.projection_catchup import projector_of, runner_of
from service.engine.worker.set_aside import SetAside, Thing
from service.engine.worker.waiting import NotYet, has_recorded, wait_until
from service.server.in_postgres import user_deletion
from service.server.in_postgres.user_deletion import Erasure
from service.server.in_redis.pseudonyms import KeyChange, UserCoupon, UserEraser, UserRedemption, page_entries

WORKSPACES_AT_ONCE, USERS_AT_ONCE = 4, 100
"""Users of one workspace."""
WAIT_S = 10.0
"""How long to wait for the record or for configuration before the whole deletion is retried."""

log = structlog.get_logger()


class Eraser:
    """One for each open partition. Four workspaces at once, and others in turn:

    1. Take users to delete of the next workspace, at most 100. Until step 7 a row in Postgres names each.
    2. Write a cap without limit, with the version that deleted the user's row, so that no older change writes one. Wait
       until Redis has every change up to that version.
    3. In Redis, give the user's coupons, gifts and redemptions, as Postgres lists them, to the pseudonym. One script
       moves each with its counts, so that the counts are always right.
    4. From here on Redis decides nothing more about these under the old id. Wait until all earlier events are recorded.
       Then move the counts of redemptions that were rolled back in that time without restoring their use.
    5. Replace the user in the answers of idempotency keys whose requests don't name the user. Replace answers recorded
       by step 4 in Redis and then in Postgres, and those that only Redis has in Redis. Later ones are a new user's in
       both.
    6. Replace the user in the facts. Until then Postgres names the user, so a rebuilt Redis does too, and the deletion
       starts again. Then note in Redis that Postgres has the pseudonym, so that scripts stop reading the outbox.
    7. Remove the cap, append an event without a user to the outbox, and remove the id from the row of step 1.

    Each step skips what is done. After a crash, the next worker starts from step 1 with the same result. A user at whom
    a step fails is set aside, at step 5 all of the workspace.
    """

    def __init__(self, pool: asyncpg.Pool, server: Server, scripts: Scripts, erasing: FairGate | None = None) -> None:
        """`erasing` lets one of a workspace run, which is a deletion, or needs that there is none."""
        self._erasing = erasing or make_erasing_gate()
        self._choosing, self._last_turn, self._busy = asyncio.Lock(), 0, set[int]()
        self._pool, self._server = pool, server
        self._aside = SetAside(pool, server.partition, "erasing")
        self._scripts = Scripts(server.partition, scripts.epoch, scripts.nonce, ERASING)
        self._run = runner_of(server, self._scripts)
        self._projector: RedisProjector = projector_of(server, scripts)
        self._keys_done: dict[str, EventId] = {}
        """By pseudonym, the event up to which answers are done: a repeated deletion covers only newer ones."""

    async def load(self) -> None:
        await self._server.load(self._scripts)

    async def run(self, lease: Lease) -> None:
        await self.load()
        async with asyncio.TaskGroup() as loops:
            for _ in range(WORKSPACES_AT_ONCE):
                loops.create_task(self._run_one_loop(lease))

    async def _run_one_loop(self, lease: Lease) -> None:
        while True:
            try:
                with wait_out_outage(log):
                    if await self.erase_next():
                        continue
            except NotYet as not_yet:
                log.warning("erasing_waits", reason=str(not_yet))
            await lease.wait_until_due("erasing")

    async def erase_next(self) -> bool:
        """Delete users of the next workspace of which none are being deleted; return whether there was one. Raises
        NotYet."""
        async with self._choosing:
            partition, turn = self._server.partition, (self._last_turn, list(self._busy))
            users = await user_deletion.pending_erasures(self._pool, partition, USERS_AT_ONCE, *turn)
            if not users:
                return False
            self._last_turn = workspace = users[0].workspace
            self._busy.add(workspace)
        try:
            async with self._erasing.one(workspace):
                await self.erase(users)
        finally:
            self._busy.discard(workspace)
        return True

    async def erase(self, users: Sequence[Erasure]) -> None:
        """Steps 2 to 7 for users of one workspace, each for those who passed all earlier ones. Raises NotYet."""
        users = await self._each(users, self._write_cap)
        await self._wait_for_projection(max((user.version for user in users), default=0))
        users = await self._each(users, self._replace_in_redis)
        last = await self._wait_for_record()
        users = await self._each(users, self._replace_in_counts)
        left, users = users, []
        async with self._aside.contain(*map(_name, left), is_last=False):
            if left:
                await self._replace_in_keys(left[0].workspace, left, last)
            users = left
        users = await self._each(users, lambda user: user_deletion.erase_facts(self._pool, user, last))
        await self._aside.each(users, _name, self._finish)

    async def _each(self, users: Sequence[Erasure], do: Callable[[Erasure], Awaitable[None]]) -> list[Erasure]:
        return await self._aside.each(users, _name, do, is_last=False)

    async def _finish(self, user: Erasure) -> None:
        eraser = self._eraser(user)
        async for page in user_deletion.redemptions_of(self._pool, user, user.pseudonym):
            await eraser.recall_redemptions(user.last, (EventId(row["epoch"], row["seq"]) for row in page))
        await eraser.finish(user.version)
        if await user_deletion.finish_erasure(self._pool, user, await self._last_event()):
            self._keys_done.pop(user.pseudonym, None)
            log.info("user_erased", workspace=user.workspace, pseudonym=user.pseudonym)

    def _eraser(self, user: Erasure) -> UserEraser:
        return UserEraser(self._run, user.partition, user.workspace, user.user_id, user.pseudonym)

    async def _write_cap(self, user: Erasure) -> None:
        about = {"workspace": user.workspace, "partition": user.partition, "version": user.version}
        await self._projector.user(UserRow(**about, user_id=user.user_id, max_coupons=None, metadata={}, created_ms=0))
        await self._projector.confirm_version(user.partition, user.version)

    async def _wait_for_projection(self, version: int) -> None:
        async def is_projected() -> bool:
            return await self._projector.read_last_version(self._server.partition) >= version

        await wait_until(is_projected, WAIT_S, NotYet("an earlier change is not in Redis"))

    async def _replace_in_redis(self, user: Erasure) -> None:
        eraser = self._eraser(user)
        async for page in user_deletion.assignments_of(self._pool, user):
            await eraser.move_coupons(
                UserCoupon(row["code"], to_ms(row["assigned_at"]), row["order_id"]) for row in page
            )
        async for page in user_deletion.codes_of(self._pool, user):
            await eraser.move_coupons(UserCoupon(row["code"], to_ms(row["created_at"])) for row in page)
        await self._replace_in_counts(user)

    async def _replace_in_counts(self, user: Erasure) -> None:
        eraser = self._eraser(user)
        async for page in user_deletion.redemptions_of(self._pool, user, user.user_id):
            await eraser.move_redemptions(
                UserRedemption(
                    EventId(row["epoch"], row["seq"]),
                    row["book"],
                    row["code"],
                    row["restore"] is False,
                    row["discount_e4"],
                    row["counted_ms"],
                )
                for row in page
                if not row["restore"]
            )

    async def _wait_for_record(self) -> EventId:
        """Wait until the outbox is recorded, and return its last event."""
        last, late = await self._last_event(), NotYet("earlier events are not recorded")
        await wait_until(lambda: has_recorded(self._pool, self._server.partition, last), WAIT_S, late)
        return last

    async def _last_event(self) -> EventId:
        last = await self._server.tail()
        if not last:
            raise NotYet("there is no outbox")
        return parse_event_id(last)

    async def _replace_in_keys(self, workspace: int, users: Sequence[Erasure], last: EventId) -> None:
        """Replace recorded answers up to `last` in both stores, Redis first. Of those that only Redis has, skip
        answers of events after `last`: they are a new user's."""
        pseudonyms = {user.user_id: user.pseudonym for user in users}
        eraser = self._eraser(users[0])
        after = min(self._keys_done.get(user.pseudonym, START) for user in users)
        async for page in user_deletion.entries_with(self._pool, workspace, list(pseudonyms), after, last):
            # In a thread: decompressing takes a millisecond each.
            if changes := await asyncio.to_thread(_find_changes, page, pseudonyms):
                await eraser.replace_entries(changes)
                await user_deletion.change_entries(self._pool, workspace, changes)
        self._keys_done |= {user.pseudonym: last for user in users}

        async def unrecorded(keys: Sequence[str]) -> set[str]:
            return set(keys) - await user_deletion.keys_after(self._pool, workspace, keys, START)

        async for page in page_entries(self._server, self._run, workspace, unrecorded):
            if changes := await asyncio.to_thread(_find_changes, page, pseudonyms):
                await self._wait_for_record()
                later = await user_deletion.keys_after(self._pool, workspace, [change.key for change in changes], last)
                await eraser.replace_entries(change for change in changes if change.key not in later)


def make_erasing_gate() -> FairGate:
    """Of each workspace one deletion, or one that needs that there is none."""
    return FairGate(sys.maxsize, 1)


def _name(user: Erasure) -> Thing:
    return Thing(f"user {user.pseudonym}", user.workspace)


def _find_changes(page: Sequence[tuple[str, str]], pseudonyms: dict[str, str]) -> list[KeyChange]:
    changes = (KeyChange(key, entry, without_users(entry, pseudonyms)) for key, entry in page)
    return [change for change in changes if change.new != change.old]

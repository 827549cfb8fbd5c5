"""Replace deleted users in Redis for user_eraser.py (lua/erase_user.lua); remove ended locks for lock_sweeper.py."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from typing import Any, NamedTuple

from service.common.byte_runs import SMALL_BYTES, split_by_bytes
from service.engine.domain.field_types import encode_field
from service.engine.formats import key_names
from service.engine.formats.event_id import EventId
from service.engine.formats.idempotency_entry import may_name_a_user
from service.engine.hot.projection import Run
from service.engine.hot.redis_server import Server

THINGS_A_RUN = 10
KEYS_A_RUN = 200
"""These bound a run as the heads of lua/erase_user.lua and read_prefixes.lua say."""


_WORDS, _NOTHING = 6, "-"
"""The words of each thing in the arguments of lua/erase_user.lua, and a word that it does not need."""


class UserCoupon(NamedTuple):
    """A user's present or past coupon; `order_id` if it was that order's gift."""

    code: str
    assigned_ms: int
    order_id: str | None = None


class UserRedemption(NamedTuple):
    """A user's redemption; `kept` if it was rolled back without restore, so that its use stays spent."""

    event: EventId
    book: int
    code: str
    kept: bool
    discount_e4: int
    counted_ms: int
    """The time whose budgets it counts against."""


class KeyChange(NamedTuple):
    """The change of an Idempotency-Key's entry."""

    key: str
    old: str
    new: str


class UserEraser:
    """Erases one user from a workspace. All methods are idempotent."""

    def __init__(self, run: Run, partition: int, workspace: int, user_id: str, pseudonym: str) -> None:
        self._run, self._partition = run, partition
        w = key_names.prefix(partition, workspace)
        self._names = (key_names.gate(partition), key_names.settings(w), key_names.outbox(partition))
        user = encode_field(user_id)
        self._users = (user, key_names.bucket(user), pseudonym, key_names.bucket(pseudonym))

    async def move_coupons(self, held: Iterable[UserCoupon]) -> None:
        """Give these coupons to the pseudonym if they are still assigned to the user since then."""
        of_orders = ((one, encode_field(one.order_id)) for one in held)
        await self._each(
            ("c", one.code, key_names.bucket(one.code), one.assigned_ms, order, key_names.bucket(order))
            for one, order in of_orders
        )

    async def move_redemptions(self, spent: Iterable[UserRedemption]) -> None:
        """Move these redemptions and their counts to the pseudonym."""
        await self._each(
            ("r", str(one.event), one.code, key_names.bucket(one.code), one.book, _counts(one)) for one in spent
        )

    async def recall_redemptions(self, last: EventId, spent: Iterable[EventId]) -> None:
        """Make scripts read these redemptions from Postgres, which has the pseudonym in all events up to `last`."""
        await self._each([("m", str(last))])
        await self._each(("d", str(event)) for event in spent)

    async def replace_entries(self, changes: Iterable[KeyChange]) -> None:
        """Replace entries that have not changed since they were read."""
        await self._each(("i", *change) for change in changes)

    async def finish(self, version: int) -> None:
        """Remove the user's cap of this version, and the user from the outbox's last entry, which trimming keeps."""
        await self._each([("u", version)])

    async def _each(self, things: Iterable[tuple[Any, ...]]) -> None:
        args: list[Any] = []
        for thing in things:
            args += (*thing, *[_NOTHING] * (_WORDS - len(thing)))
            if len(args) == THINGS_A_RUN * _WORDS:
                await self._send(args)
                args = []
        if args:
            await self._send(args)

    async def _send(self, args: list[Any]) -> None:
        await self._run(self._partition, "erase_user", self._names, (*self._users, *args))


def _counts(one: UserRedemption) -> str:
    """How lua/erase_user.lua moves a redemption's counts."""
    return f"{int(one.kept)}/{one.discount_e4}/{one.counted_ms}"


async def page_entries(
    server: Server, run: Run, workspace: int, unrecorded: Callable[[Sequence[str]], Awaitable[set[str]]]
) -> AsyncIterator[list[tuple[str, str]]]:
    """A workspace's Idempotency-Keys with entries that may name a user, in pages of at most RUN_BYTES.

    Large entries only if Postgres does not have them (`unrecorded`); recorded ones are changed from there.
    """
    async for page in server.walk_keys_of(workspace, "i"):
        for start in range(0, len(page), KEYS_A_RUN):
            some = page[start : start + KEYS_A_RUN]
            reply = await run(
                server.partition, "read_prefixes", (server.gate,), (SMALL_BYTES, *(key.name for key in some))
            )
            prefixes = zip(some, reply[1::2], reply[2::2], strict=True)
            naming = [(key, length, prefix) for key, length, prefix in prefixes if may_name_a_user(prefix)]
            yield [(key.parts[0], prefix) for key, length, prefix in naming if length <= SMALL_BYTES]
            large = [(key, length) for key, length, _ in naming if length > SMALL_BYTES]
            if large:
                alone = await unrecorded([key.parts[0] for key, _ in large])
                large = [(key, length) for key, length in large if key.parts[0] in alone]
            for part in split_by_bytes(large, lambda one: one[1], KEYS_A_RUN):
                entries = await server.command("MGET", *(key.name for key, _ in part))
                yield [(key.parts[0], entry) for (key, _), entry in zip(part, entries, strict=True) if entry]

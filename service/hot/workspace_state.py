"""What else is asked of a workspace in Redis: counts, and idempotency keys of requests off the hot path."""

import base64
import zlib
from typing import Any

import msgspec

from service.access.caller import Caller
from service.domain.errors import Refusal
from service.domain.field_types import encode_field
from service.domain.money import CURRENCY_DIGITS, from_e4
from service.formats import key_names
from service.formats.batch_answers import is_kept_batch
from service.hot.decider import Decider

CLAIM_MS = 60_000
"""How long a key is kept for a request that died."""
KEPT_BYTES = 64 << 20
"""Of answers off the hot path that a workspace keeps, unless the operator says otherwise."""
PACKED_BYTES = 4 << 10
"""A longer answer is kept packed, as 'z' and base64 of zlib's. None begins so: they are JSON, or a digest's digits; a
batch's is kept as service/formats/batch_answers.py writes it."""


class BookCounts(msgspec.Struct):
    """A book's coupons by status, ignoring windows; and what stands."""

    codes: int
    available: int
    assigned: int
    locked: int
    redeemed: int
    exhausted: int
    inactive: int
    redemptions: int
    rolled_back: int
    discount_total: str
    users: int
    touched: bool
    """Whether a code of it was ever locked or redeemed."""


def counts_of(reply: list[Any]) -> BookCounts:
    """What book_stats replied."""
    (
        codes,
        assigned,
        free_locked,
        held_locked,
        redeemed,
        exhausted,
        inactive,
        stand,
        back,
        discount,
        users,
        touched,
    ) = (int(count) for count in reply[1:13])
    return BookCounts(
        codes=codes,
        available=codes - assigned - redeemed - exhausted - inactive - free_locked,
        assigned=assigned - held_locked,
        locked=free_locked + held_locked,
        redeemed=redeemed,
        exhausted=exhausted,
        inactive=inactive,
        redemptions=stand,
        rolled_back=back,
        discount_total=from_e4(discount, CURRENCY_DIGITS[reply[13]]),
        users=users,
        touched=bool(touched),
    )


class Workspace:
    """Each call raises Refusal as Decider.run does; what only reads is `unavailable` instead of `outcome_unknown`."""

    def __init__(self, decider: Decider, most_kept_bytes: int = KEPT_BYTES) -> None:
        self._decider, self._most_kept_bytes = decider, most_kept_bytes

    async def book_counts(self, caller: Caller, book_id: str) -> BookCounts:
        """A book's counts; Refusal `book_not_found`."""
        names = (caller.gate, key_names.settings(caller.prefix), key_names.books(caller.prefix))
        return counts_of(await self._read(caller, "book_stats", names, (book_id,)))

    async def user_coupons(self, caller: Caller, user_id: str) -> int:
        """How many coupons the user holds."""
        names = (caller.gate, key_names.settings(caller.prefix))
        return (await self._read(caller, "user_coupons", names, (encode_field(user_id),)))[1]

    async def claim(self, caller: Caller, key: str, fingerprint: str) -> tuple[int, bytes, str] | None:
        """Take an idempotency key while a request runs; or (status, body, location) that it was answered before.

        Refusal `request_in_progress`, `idempotency_key_reused`, or `key_quota` where the workspace's answers take all
        the bytes that they may.
        """
        reply = await self._claim(caller, key, fingerprint, renew=False)
        if len(reply) == 1:
            return None
        status, location, body = reply[1].split(" ", 2)
        return int(status), unpacked_answer(body), "" if location == "-" else location

    async def renew(self, caller: Caller, key: str, fingerprint: str) -> None:
        """Keep a claim for another minute."""
        await self._claim(caller, key, fingerprint, renew=True)

    async def settle(self, caller: Caller, key: str, fingerprint: str, status: int, body: bytes, location: str) -> None:
        """Keep what the request that claimed the key was answered."""
        payload = f"{status} {location or '-'} {packed_answer(body)}"
        await self._answered(caller, key, fingerprint, payload)

    async def release(self, caller: Caller, key: str, fingerprint: str) -> None:
        """Let the key go: the request was refused."""
        await self._answered(caller, key, fingerprint, "")

    async def _claim(self, caller: Caller, key: str, fingerprint: str, *, renew: bool) -> list[Any]:
        w = caller.prefix
        names = (caller.gate, key_names.settings(w), key_names.answer(w, key), key_names.kept_bytes(w))
        args = (fingerprint, CLAIM_MS, int(renew), self._most_kept_bytes)
        return await self._decider.run(caller.partition, "claim", names, args)

    async def _answered(self, caller: Caller, key: str, fingerprint: str, payload: str) -> None:
        names = (
            caller.gate,
            key_names.settings(caller.prefix),
            key_names.answer(caller.prefix, key),
            caller.outbox,
            key_names.kept_bytes(caller.prefix),
        )
        request = msgspec.json.encode({"key": key, "op": "request"})
        await self._decider.run(caller.partition, "answered", names, (fingerprint, payload, request))

    async def _read(self, caller: Caller, script: str, names: tuple[str, ...], args: tuple[Any, ...]) -> list[Any]:
        try:
            return await self._decider.run(caller.partition, script, names, args)
        except Refusal as refusal:
            if refusal.code == "outcome_unknown":
                raise Refusal.temporary("unavailable") from None
            raise


def packed_answer(body: bytes) -> str:
    """An answer as it is kept."""
    text = body.decode()
    if len(body) <= PACKED_BYTES or is_kept_batch(text):
        return text
    return "z" + base64.b64encode(zlib.compress(body, 1)).decode()


def unpacked_answer(kept: str) -> bytes:
    """The inverse."""
    return zlib.decompress(base64.b64decode(kept[1:])) if kept.startswith("z") else kept.encode()

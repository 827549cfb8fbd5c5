"""Read a workspace's counts and locks for the API and restocker.py, and claim and answer its Idempotency-Keys of
requests off the hot path, for idempotency.py."""

from itertools import starmap
from typing import Any, NamedTuple

import msgspec

from service.engine.domain.budgets import render_budget_now
from service.engine.domain.errors import Refusal
from service.engine.domain.field_types import decode_field, decode_id, encode_field
from service.engine.domain.money import CURRENCY_DIGITS, from_e4
from service.engine.formats import key_names
from service.engine.formats.card_account import SUMS
from service.engine.formats.discount_sum import join_sum
from service.engine.formats.idempotency_entry import answer_payload, parse_answer
from service.engine.hot.decider import Decider
from service.engine.operations.caller import Caller
from service.engine.operations.coupon_view import Balance
from service.engine.operations.lock import Lock, parse_lock
from service.server.requests.book_requests import BookStats

CLAIM_MS = 60_000
"""The life of a claim that is not renewed."""
KEPT_BYTES = 64 << 20
"""The bound of a workspace's stored answers off the hot path."""


class BookCounts(BookStats):
    """A book's counts, and what only the service needs."""

    touched: bool
    """Whether any of its codes was ever locked or redeemed."""
    taken: int
    """Redemptions that count against its `maxRedemptions`."""
    now_ms: int
    """When they were counted, by the workspace's clock."""


class LiveLock(NamedTuple):
    """A live lock of a coupon; times in ms since 1970."""

    user_id: str
    order_id: str | None
    since_ms: int
    until_ms: int


class LiveLocks(NamedTuple):
    """How many live locks a coupon has, and at most 20 of them, the first to end first."""

    total: int
    first: list[LiveLock]


def counts_of(reply: list[Any]) -> BookCounts:
    """The counts in a reply of book_stats."""
    (
        codes, assigned, free_locked, held_locked, redeemed, exhausted, inactive, redemptions, rolled_back, discount,
        discount_high, users, touched, taken, now_ms,
    ) = map(int, reply[1:16])  # fmt: skip
    digits = CURRENCY_DIGITS[reply[16]]
    sums, *budgets = reply[17:]
    return BookCounts(
        codes=codes,
        available=codes - assigned - redeemed - exhausted - inactive - free_locked,
        assigned=assigned - held_locked,
        locked=free_locked + held_locked,
        redeemed=redeemed,
        exhausted=exhausted,
        inactive=inactive,
        redemptions=redemptions,
        rolled_back=rolled_back,
        discount_total=from_e4(join_sum(discount, discount_high), digits),
        users=users,
        budgets=[render_budget_now(line, digits) for line in budgets],
        balance=None if sums == "-" else _balance_of([int(part) for part in sums.split()], digits),
        touched=bool(touched),
        taken=taken,
        now_ms=now_ms,
    )


def _balance_of(parts: list[int], digits: int) -> Balance:
    """The sums of a book's cards, from their counters in the order of SUMS. What locks hold that have expired is held
    until a worker has swept them."""
    sums_e4 = dict(zip(SUMS, starmap(join_sum, zip(parts[::2], parts[1::2], strict=True)), strict=True))
    funds_e4 = sums_e4["issued"] + sums_e4["credited"] - sums_e4["spent"] - sums_e4["closed"]
    held_e4 = sums_e4["held"] = min(sums_e4["held"], funds_e4)
    sums_e4["available"] = funds_e4 - held_e4
    return Balance(**{name: from_e4(amount_e4, digits) for name, amount_e4 in sums_e4.items()})


class Workspace:
    """All methods raise Refusal as Decider.run; reads raise `unavailable` instead of `outcome_unknown`."""

    def __init__(self, decider: Decider, most_kept_bytes: int = KEPT_BYTES) -> None:
        self._decider, self._most_kept_bytes = decider, most_kept_bytes

    async def book_counts(self, caller: Caller, book_id: str) -> BookCounts:
        """Count a book's coupons. Refusal `book_not_found`."""
        names = (caller.gate, key_names.settings(caller.prefix), key_names.books(caller.prefix))
        return counts_of(await self._read(caller, "book_stats", names, (book_id,)))

    async def user_coupons(self, caller: Caller, user_id: str) -> int:
        """Count the user's coupons; those of very many books not at one moment."""
        names, user = (caller.gate, key_names.settings(caller.prefix)), encode_field(user_id)
        held, cursor = 0, "0"
        while True:
            _, some, cursor = await self._read(caller, "user_coupons", names, (user, cursor))
            held += some
            if cursor == "0":
                return held

    async def coupon_locks(self, caller: Caller, code: str) -> LiveLocks:
        """The live locks of a code in canonical form; none of an unknown one."""
        w, bucket = caller.prefix, key_names.bucket_text(code)
        names = (caller.gate, key_names.settings(w), key_names.directory(w, bucket), key_names.coupon(w, code))
        _, total, *fields = await self._read(caller, "coupon_locks", names, (code, bucket))
        rows = zip(*(iter(fields),) * 4, strict=True)
        locks = [
            LiveLock(decode_id(user), decode_field(order), int(since), int(until)) for user, order, since, until in rows
        ]
        return LiveLocks(total, locks)

    async def order_locks(self, caller: Caller, order_id: str) -> list[Lock]:
        """The live locks of an order; none of an unknown one."""
        w, order = caller.prefix, encode_field(order_id)
        entries, marks = key_names.orders(w, key_names.bucket_text(order)), key_names.marks_of_order(w, order)
        names = (caller.gate, key_names.settings(w), entries, marks)
        _, *locks = await self._read(caller, "order_locks", names, (order,))
        return [parse_lock(text) for text in locks]

    async def claim_key(self, caller: Caller, key: str, fingerprint: str) -> tuple[int, bytes, str] | None:
        """Claim an Idempotency-Key for a request, or return its stored (status, body, location).

        Refusal `request_in_progress`, `idempotency_key_reused`, or `key_quota` if stored answers use all their bytes.
        """
        reply = await self._run_claim_key(caller, key, fingerprint, renew=False)
        return parse_answer(reply[1]) if len(reply) > 1 else None

    async def renew_claim(self, caller: Caller, key: str, fingerprint: str) -> None:
        """Extend a claim by CLAIM_MS."""
        await self._run_claim_key(caller, key, fingerprint, renew=True)

    async def store_answer(
        self, caller: Caller, key: str, fingerprint: str, status: int, body: bytes, location: str
    ) -> None:
        """Store the answer of the request that claimed the key."""
        await self._run_store_answer(caller, key, fingerprint, answer_payload(status, body, location))

    async def release_key(self, caller: Caller, key: str, fingerprint: str) -> None:
        """Release the key of a refused request."""
        await self._run_store_answer(caller, key, fingerprint, "")

    async def _run_claim_key(self, caller: Caller, key: str, fingerprint: str, *, renew: bool) -> list[Any]:
        w = caller.prefix
        names = (caller.gate, key_names.settings(w), key_names.answer(w, key), key_names.kept_bytes(w))
        args = (fingerprint, CLAIM_MS, int(renew), self._most_kept_bytes)
        return await self._decider.run(caller.partition, "claim_key", names, args)

    async def _run_store_answer(self, caller: Caller, key: str, fingerprint: str, payload: str) -> None:
        w = caller.prefix
        answer, kept_bytes = key_names.answer(w, key), key_names.kept_bytes(w)
        names = (caller.gate, key_names.settings(w), answer, caller.outbox, kept_bytes)
        request = msgspec.json.encode({"key": key, "op": "request"})
        await self._decider.run(caller.partition, "store_answer", names, (fingerprint, payload, request))

    async def _read(self, caller: Caller, script: str, names: tuple[str, ...], args: tuple[Any, ...]) -> list[Any]:
        try:
            return await self._decider.run(caller.partition, script, names, args)
        except Refusal as refusal:
            if refusal.code == "outcome_unknown":
                raise Refusal.temporary("unavailable") from None
            raise

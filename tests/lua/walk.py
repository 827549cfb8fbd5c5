"""A random walk over a shop: each step asks the shop and the model, and compares."""

import random
from decimal import Decimal
from typing import Any

from service.domain.outcomes import BY_CODE
from service.domain.projection import TierRow
from service.domain.times import from_ms
from tests.lua.model import Code, Lock, Model, Redemption
from tests.shop import Shop

USERS = ["ann", "bob", "cat", "dan"]
ORDERS = ["A-1", "A-2", "A-3", "A-4", "A-5"]
_STEPS = {
    "lock": 22, "redeem": 22, "extend": 5, "unlock": 5, "validate": 8, "assign": 6, "assign_any": 6, "rollback": 12,
    "rollback_order": 4, "unassign": 5, "coupon": 3, "counts": 2, "wait": 8, "switch": 2, "change_book": 2,
    "change_workspace": 1, "cap": 1, "add": 1,
}  # fmt: skip


class Walk:
    """Random steps from a seed."""

    def __init__(self, shop: Shop, seed: int, change_limits: bool) -> None:
        self.shop, self.random, self.change_limits = shop, random.Random(seed), change_limits
        assert shop.still_ms is not None
        self.model = Model(shop.still_ms)
        self.tokens: list[tuple[str, str]] = []
        self.keys = 0
        self.tally: dict[Any, int] = {}

    async def begin(self) -> None:
        """Seven books, each with rules of its own."""
        ten = {"type": "percentage", "value_e4": 333_300, "max_amount_e4": 200_000, "min_order_value_e4": 100_000}
        await self.book({})
        await self.book({"max_redemptions_per_code": 3, "max_redemptions_per_user": 2, "max_redemptions": 8})
        await self.book({"max_redemptions_per_code": None, "max_redemptions_per_user": 3, "max_redemptions": 6})
        await self.book({"require_lock": True, "require_assignment": True, "max_codes_per_user": 2, "discount": ten})
        five = {"type": "fixed", "value_e4": 50_000}
        await self.book({"max_redemptions_per_code": 2, "max_lock_seconds": 60, "lock_seconds": 30, "discount": five})
        tiers = (
            TierRow(from_e4=200_500, type="percentage", value_e4=50_000),
            TierRow(from_e4=499_500, type="fixed", value_e4=77_700),
            TierRow(from_e4=500_000, type="percentage", value_e4=333_300),
        )
        tiered = {"type": "tiered", "tiers": tiers, "max_amount_e4": 300_000}
        await self.book({"max_redemptions_per_code": None, "max_redemptions": 9, "discount": tiered})
        free = {"type": "buyXGetY", "buy": 2, "get": 1, "min_order_value_e4": 100_000}
        await self.book({"max_redemptions_per_code": None, "max_redemptions_per_user": 4, "discount": free})
        for _ in range(5):
            await self.add()

    async def step(self) -> None:
        """One step."""
        names, weights = list(_STEPS), list(_STEPS.values())
        name = self.random.choices(names, weights)[0]
        await getattr(self, name)()

    async def book(self, rules: dict[str, Any]) -> None:
        """A new book with two codes."""
        number = len(self.shop.books) + 1
        codes = [f"BOOK-{number}-{n}" for n in range(2)]
        self.model.books[number] = await self.shop.book(*codes, **rules)
        for code in codes:
            self.model.codes[code] = Code(code, number)

    # Requests

    async def ask(self, method: Any, *args: Any, expected: list[str], **body: Any) -> Any:
        """The answer, which must be the first of the refusals expected; else None. Sometimes under a key, and again."""
        body = {name: value for name, value in body.items() if value is not None}
        if self.random.random() < 0.1:
            self.keys += 1
            body["key"] = f"key-{self.keys}"
        answer = await method(*args, **body)
        found = (method.__name__, answer[1] if isinstance(answer[1], str) else answer[0])
        self.tally[found] = self.tally.get(found, 0) + 1
        if expected:
            assert answer == (BY_CODE[expected[0]].status, expected[0]), (method.__name__, args, body, answer, expected)
            return None
        assert answer[0] in (200, 201, 204), (method.__name__, args, body, answer)
        if "key" in body:
            again = await method(*args, **body)
            assert again == (answer[0], {**(answer[1] or {}), "replayed": True}), (method.__name__, args, body)
            assert await method(*args, **{**body, "fingerprint": "g"}) == (422, "idempotency_key_reused")
        return answer

    async def lock(self) -> None:
        code, user, order = self.code(), self.user(), self.order()
        seconds = self.random.choice([None, None, 1, 5, 60, 4000])
        refusals = self.model.refusals("lock", code, user, order)
        own = not refusals and self.model.own_lock(self.model.codes[code], user, order, None)
        answer = await self.ask(self.shop.lock, code, user, expected=refusals, orderId=order, lockSeconds=seconds)
        if answer:
            token = answer[1]["lockToken"]
            lock = self.model.locked(code, token, user, order, seconds)
            assert (answer[0], token) == ((200, own.token) if own else (201, token))
            self.same_lock(answer[1], code, lock)
            self.tokens = [*self.tokens[-30:], (code, token)]

    async def extend(self) -> None:
        code, token = self.token()
        seconds = self.random.choice([None, 1, 60, 4000])
        c = self.model.codes[code]
        lock = next((lock for lock in self.model.live(c) if lock.token == token), None)
        expected = ["coupon_inactive"] * c.off + ["book_inactive"] * (self.model.books[c.book].status != "active")
        if lock is None:
            expected.append("lock_lost")
        elif self.model.deadline(c, 10**9, lock.started) <= lock.deadline:
            expected.append("lock_ceiling")
        answer = await self.ask(self.shop.extend, code, token, expected=expected, lockSeconds=seconds)
        if answer and lock:
            lock.deadline = max(lock.deadline, self.model.deadline(c, seconds, lock.started))
            self.same_lock(answer[1], code, lock)

    async def unlock(self) -> None:
        code, token = self.token()
        await self.ask(self.shop.unlock, code, token, expected=[])
        c = self.model.codes[code]
        c.locks = [lock for lock in c.locks if lock.token != token]

    async def redeem(self) -> None:
        asked = self.use()
        code, user, order = asked["code"], asked["user"], asked["order"]
        c = self.model.codes.get(code)
        repeated = (
            [r for r in c.redemptions if order and (r.user, r.order, r.rolled_at) == (user, order, None)] if c else []
        )
        refusals = [] if repeated else self.model.refusals("redeem", **asked)
        body = {
            "orderId": order,
            "lockToken": asked["token"],
            "orderValue": asked["value"],
            "currency": asked["currency"],
            "items": asked["items"],
        }
        answer = await self.ask(self.shop.redeem, code, user, expected=refusals, **body)
        if not answer:
            return
        body = answer[1]
        if repeated:
            assert (answer[0], body["redemptionId"]) == (200, repeated[0].id)
            return
        assert c is not None
        discount = self.model.discount(c.book, asked["value"], asked["items"] or ())
        assert (answer[0], body["discountAmount"]) == (201, f"{discount:.2f}")
        assert body["finalAmount"] == (None if asked["value"] is None else f"{asked['value'] - discount:.2f}")
        assert body["redeemedAt"] == from_ms(self.model.now)
        redemption = Redemption(body["redemptionId"], code, c.book, user, order, self.model.now, discount)
        self.model.redeemed(redemption, asked["token"])

    async def validate(self) -> None:
        asked = self.use()
        if self.random.random() < 0.3:
            asked["user"] = None
        body = {"userId": asked["user"], "orderId": asked["order"], "lockToken": asked["token"]}
        body |= {"orderValue": asked["value"], "currency": asked["currency"], "items": asked["items"]}
        reasons = self.model.refusals("validate", **asked)
        c = self.model.codes.get(asked["code"])
        body = {name: value for name, value in body.items() if value is not None}
        answer = await self.shop.validate(asked["code"], **body)
        if c is None:
            assert answer == (404, "coupon_not_found")
            return
        found = answer[1]
        assert (found["valid"], found["reasons"]) == (not reasons, reasons), (asked, found)
        discount = f"{self.model.discount(c.book, asked['value'], asked['items'] or ()):.2f}"
        assert found["discountAmount"] == (None if reasons else discount)
        self.same_coupon(found["coupon"], c)

    async def assign(self) -> None:
        code, user = self.code(), self.user()
        refusals = self.model.assign_refusals(code, 0, user)
        repeated = refusals[:1] == ["repeated"]
        answer = await self.ask(self.shop.assign, code, user, expected=[] if repeated else refusals)
        if answer:
            assert answer[0] == (200 if repeated else 201)
            self.model.codes[code].owner = user
            self.same_coupon(answer[1], self.model.codes[code])

    async def assign_any(self) -> None:
        book, user = self.random.choice(list(self.model.books.values())), self.user()
        free = self.model.free(book.book)
        refusals = self.model.assign_refusals(None, book.book, user) + ["out_of_stock"] * (not free)
        answer = await self.ask(self.shop.assign_any, book, user, expected=refusals)
        if answer:
            assert answer[1]["code"] in free
            self.model.codes[answer[1]["code"]].owner = user

    async def unassign(self) -> None:
        code = self.code()
        answer = await self.ask(self.shop.unassign, code, expected=self.model.unassign_refusals(code))
        if answer:
            self.model.codes[code].owner = None
            self.same_coupon(answer[1], self.model.codes[code])

    async def rollback(self) -> None:
        every = self.model.redemptions()
        if not every:
            return
        r = self.random.choice(every[-12:])
        restore = self.random.choice([None, True, True, False])
        expected = [] if r.rolled_at is None else ["already_rolled_back"]
        answer = await self.ask(self.shop.rollback, r.id, expected=expected, restore=restore)
        if answer:
            r.rolled_at, r.restored = self.model.now, restore is not False
            assert answer[1]["rolledBackAt"] == from_ms(self.model.now)

    async def rollback_order(self) -> None:
        order = self.random.choice([*ORDERS, "A-never"])
        mine = self.model.redemptions(order=order)
        stand = [r for r in mine if r.rolled_at is None]
        expected = ["order_not_found"] * (not mine) + ["already_rolled_back"] * (not stand)
        restore = self.random.choice([None, True, False])
        answer = await self.ask(self.shop.rollback_order, order, expected=expected, restore=restore)
        if answer:
            assert {item["redemptionId"] for item in answer[1]["items"]} == {r.id for r in stand}
            for r in stand:
                r.rolled_at, r.restored = self.model.now, restore is not False

    # Reads

    async def coupon(self) -> None:
        c = self.model.codes[self.random.choice(list(self.model.codes))]
        _, body = await self.shop.coupon(c.code)
        self.same_coupon(body, c)
        live = sorted(self.model.live(c), key=lambda lock: lock.deadline)
        if live:
            assert body["lock"]["expiresAt"] == from_ms(live[0].deadline)
        else:
            assert body["lock"] is None

    async def counts(self) -> None:
        """A book's statistics, and what a user holds."""
        book = self.random.choice(list(self.model.books.values()))
        stats = await self.shop.stats(book)
        codes = [c for c in self.model.codes.values() if c.book == book.book]
        locked = [c for c in codes if self.model.left(c) and not c.off and (limit := self.model.limit(c)) is not None
                  and c.uses + len(self.model.live(c)) >= limit]  # fmt: skip
        assert stats["locked_assigned"] == sum(c.owner is not None for c in locked)
        assert stats["locked_unassigned"] == sum(c.owner is None for c in locked)
        user = self.user()
        names = (self.shop.caller.gate, f"{self.shop.caller.prefix}w")
        assert await self.shop.decider.run(0, "user_coupons", names, (user,)) == [0, self.model.held(user)]

    # What changes around them

    async def wait(self) -> None:
        await self.shop.wait(self.random.choice([1, 1, 999, 1000, 5000, 31_000, 61_000, 3_600_000]))
        self.model.now = self.shop.still_ms or 0

    async def switch(self) -> None:
        """Switch a code off or on, or date it."""
        c = self.model.codes[self.random.choice(list(self.model.codes))]
        c.off = self.random.random() < 0.3
        c.expires = self.random.choice(
            [None, None, self.model.now, self.model.now + 100_000, self.model.now + 10_000_000]
        )
        row = self.shop.code_row(self.model.books[c.book], c.code, self.shop.next_version(), **self.says(c))
        await self.shop.projector.coupon(row)

    def says(self, c: Code) -> dict[str, Any]:
        """What a code's row has of its own."""
        return {"active": not c.off, "expires_ms": c.expires, "max_redemptions": c.own_max, "owner_id": c.given_to}

    async def add(self) -> None:
        """A new code: idle, or with an owner, a limit and an end of its own."""
        row = self.random.choice(list(self.model.books.values()))
        c = Code(f"CODE-{len(self.model.codes):04}", row.book)
        match self.random.randrange(4):
            case 0:
                c.owner = c.given_to = self.user()
                c.own_max = 4
            case 1:
                c.own_max = self.random.choice([1, 2])
            case 2:
                c.expires = self.model.now + self.random.choice([5_000, 5_000_000])
        await self.shop.add(row, c.code, **self.says(c))
        self.model.codes[c.code] = c

    async def change_book(self) -> None:
        row = self.random.choice(list(self.model.books.values()))
        now, pick = self.model.now, self.random.choice
        rules: dict[str, Any] = {
            "status": pick(["active", "active", "active", "inactive", "archived"]),
            "valid_from_ms": pick([None, None, now, now + 5000]),
            "valid_until_ms": pick([None, None, now + 5001, now + 100_000]),
            "max_codes_per_user": pick([None, 2, 3]),
        }
        if self.change_limits:
            rules |= {"max_redemptions": pick([None, 4, 9]), "max_redemptions_per_user": pick([None, 1, 3])}
        self.model.books[row.book] = await self.shop.change(row, **rules)

    async def change_workspace(self) -> None:
        self.model.per_order = self.random.choice([1, 1, 2, 3])
        self.model.max_coupons = self.random.choice([None, 3, 5])
        await self.shop.put_workspace(coupons_per_order=self.model.per_order, max_coupons=self.model.max_coupons)

    async def cap(self) -> None:
        user = self.user()
        self.model.caps[user] = self.random.choice([None, 1, 3, 8])
        await self.shop.user(user, self.model.caps[user])

    # Choices

    def code(self) -> str:
        return "NEVER-WAS" if self.random.random() < 0.01 else self.random.choice(list(self.model.codes))

    def user(self) -> str:
        return self.random.choice(USERS)

    def order(self) -> str | None:
        return self.random.choice([None, *ORDERS])

    def token(self) -> tuple[str, str]:
        """A code, and a token that it has or had."""
        return self.random.choice(self.tokens or [(next(iter(self.model.codes)), "no-such-token")])

    def use(self) -> dict[str, Any]:
        """A use of a coupon; half of them by somebody who holds a lock."""
        asked: dict[str, Any] = {"code": self.code(), "user": self.user(), "order": self.order(), "token": None}
        if self.random.random() < 0.5:
            code, token = self.token()
            lock = next((lock for lock in self.model.codes[code].locks if lock.token == token), None)
            asked |= {"code": code, "token": self.random.choice([token, token, None])}
            if lock and self.random.random() < 0.9:
                asked |= {"user": lock.user, "order": self.random.choice([lock.order, lock.order, asked["order"]])}
        asked["value"] = self.random.choice(
            [None, Decimal("9.99"), Decimal("20.05"), Decimal("49.95"), Decimal("99.99")]
        )
        asked["currency"] = self.random.choice([None, None, None, "USD", "EUR"])
        asked["items"] = self.items()
        return asked

    def items(self) -> list[dict[str, Any]] | None:
        """An order's lines, one sku on several of them at times; or none."""
        pick = self.random
        if pick.random() < 0.3:
            return None
        prices = ["0", "1.95", "3.50", "12.00"]
        return [
            {"sku": pick.choice(["tea", "cup"]), "quantity": pick.randint(1, 5), "unitPrice": pick.choice(prices)}
            for _ in range(pick.randint(0, 4))
        ]

    # Comparisons

    def same_lock(self, body: Any, code: str, lock: Lock) -> None:
        expected = (lock.token, code, lock.user, lock.order, from_ms(lock.deadline))
        assert tuple(body[name] for name in ("lockToken", "code", "userId", "orderId", "expiresAt")) == expected

    def same_coupon(self, body: Any, c: Code) -> None:
        limit, end = self.model.limit(c), self.model.end(c)
        expected = (c.code, self.model.status(c), c.owner, c.uses, limit, None if end is None else from_ms(end))
        names = ("code", "status", "userId", "redemptions", "maxRedemptions", "expiresAt")
        assert tuple(body[name] for name in names) == expected
        stands = [r for r in c.redemptions if r.rolled_at is None]
        assert (body["lastRedemption"] is not None) == bool(stands)
        if stands:
            last = next(r for r in stands if r.id == body["lastRedemption"]["redemptionId"])
            assert last.at == max(r.at for r in stands)

"""What the contract says a shop does, said again in plain Python: the oracle of the random walk."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Any

from service.domain.projection import BookRow, DiscountRow, TierRow

UNIT = Decimal("0.01")


@dataclass
class Lock:
    """A lock, live until `deadline`."""

    token: str
    user: str
    order: str | None
    deadline: int
    started: int
    counts: frozenset[str]


@dataclass
class Redemption:
    """A use that was spent."""

    id: str
    code: str
    book: int
    user: str
    order: str | None
    at: int
    discount: Decimal
    rolled_at: int | None = None
    restored: bool = False

    @property
    def taken(self) -> bool:
        """Whether the use is still spent."""
        return not self.restored


@dataclass
class Code:
    """A coupon."""

    code: str
    book: int
    owner: str | None = None
    given_to: str | None = None
    """Whose it was at upload."""
    own_max: int | None = None
    expires: int | None = None
    off: bool = False
    redemptions: list[Redemption] = field(default_factory=list)
    locks: list[Lock] = field(default_factory=list)

    @property
    def uses(self) -> int:
        """How many uses are spent."""
        return sum(redemption.taken for redemption in self.redemptions)


class Model:
    """A workspace. What requests change, `lock`, `redeem` and the others change; `refusals_…` say what is refused."""

    def __init__(self, now: int) -> None:
        self.now = now
        self.books: dict[int, BookRow] = {}
        self.codes: dict[str, Code] = {}
        self.caps: dict[str, int | None] = {}
        self.per_order = 1
        self.max_coupons: int | None = None

    # What is true.

    def live(self, c: Code) -> list[Lock]:
        """The locks that have not expired."""
        return [lock for lock in c.locks if lock.deadline > self.now]

    def limit(self, c: Code) -> int | None:
        """How often the code may be redeemed."""
        return c.own_max or self.books[c.book].max_redemptions_per_code

    def end(self, c: Code) -> int | None:
        """When its window ends."""
        ends = [end for end in (c.expires, self.books[c.book].valid_until_ms) if end is not None]
        return min(ends) if ends else None

    def left(self, c: Code) -> bool:
        """Whether a use is not spent."""
        limit = self.limit(c)
        return limit is None or c.uses < limit

    def redemptions(self, **fields: Any) -> list[Redemption]:
        """Those whose fields say so."""
        every = (r for c in self.codes.values() for r in c.redemptions)
        return [r for r in every if all(getattr(r, name) == value for name, value in fields.items())]

    def counted(self, book: int, kind: str, user: str | None = None) -> list[Lock]:
        """The live locks that count against a limit of the book."""
        codes = [c for c in self.codes.values() if c.book == book]
        return [lock for c in codes for lock in self.live(c) if kind in lock.counts and user in (None, lock.user)]

    def held(self, user: str) -> int:
        """How many coupons the user holds: assigned, not used up, not past their window."""
        mine = [c for c in self.codes.values() if c.owner == user and self.left(c)]
        return sum((end := self.end(c)) is None or end > self.now for c in mine)

    def free(self, book: int) -> set[str]:
        """The codes that a random assign may give."""
        return {
            c.code
            for c in self.codes.values()
            if c.book == book and not c.off and c.owner is None and self.left(c) and not self.live(c)
            if (end := self.end(c)) is None or end > self.now
        }

    def status(self, c: Code) -> str:
        """As a coupon's answer has it."""
        limit, end = self.limit(c), self.end(c)
        if not self.left(c):
            return "redeemed" if limit == 1 else "exhausted"
        if c.off:
            return "inactive"
        if end is not None and self.now >= end:
            return "expired"
        if limit is not None and c.uses + len(self.live(c)) >= limit:
            return "locked"
        return "assigned" if c.owner else "available"

    def places(self, order: str) -> list[Redemption]:
        """What takes the order's places."""
        return [r for r in self.redemptions(order=order) if r.taken]

    # What is refused: every reason, in order.

    def own_lock(self, c: Code, user: str | None, order: str | None, token: str | None) -> Lock | None:
        """The live lock that a request is under."""
        for lock in self.live(c):
            if token is not None:
                if lock.token == token and user in (None, lock.user) and lock.order in (None, order):
                    return lock
            elif user is not None and (lock.user, lock.order) == (user, order):
                return lock
        return None

    def refusals(
        self, kind: str, code: str, user: str | None, order: str | None = None, token: str | None = None,
        value: Decimal | None = None, currency: str | None = None, items: Sequence[Any] | None = None,
    ) -> list[str]:  # fmt: skip
        """Why a lock, redeem or validate would be refused."""
        c = self.codes.get(code)
        if c is None:
            return ["coupon_not_found"]
        b, limit, end, own = self.books[c.book], self.limit(c), self.end(c), self.own_lock(c, user, order, token)
        used_of_book = [r for r in self.redemptions(book=c.book) if r.taken]
        used_by_user = [r for r in used_of_book if r.user == user]
        of_user = len(used_by_user) + (0 if own and "u" in own.counts else len(self.counted(c.book, "u", user)))
        of_book = len(used_of_book) + (0 if own and "b" in own.counts else len(self.counted(c.book, "b")))
        renewed = kind == "lock" and own is not None
        said = [
            ("coupon_inactive", c.off),
            ("book_inactive", b.status != "active"),
            ("not_started", b.valid_from_ms is not None and self.now < b.valid_from_ms),
            ("expired", end is not None and self.now >= end),
            ("coupon_not_assigned", b.require_assignment and c.owner is None),
            ("coupon_assigned_to_other", None not in (c.owner, user) and c.owner != user),
            ("lock_lost", token is not None and own is None),
            (
                "coupon_locked",
                own is None and self.left(c) and limit is not None and c.uses + len(self.live(c)) >= limit,
            ),
            ("lock_required", b.require_lock and kind != "lock" and own is None and token is None),
            ("coupon_redeemed" if limit == 1 else "coupon_exhausted", not self.left(c)),
            (
                "user_redemption_limit",
                b.max_redemptions_per_user is not None
                and user is not None
                and not renewed
                and of_user >= b.max_redemptions_per_user,
            ),
            ("out_of_stock", b.max_redemptions is not None and not renewed and of_book >= b.max_redemptions),
            ("order_already_used", order is not None and len(self.places(order)) >= self.per_order),
        ]
        if kind != "lock":
            least = (b.discount.min_order_value_e4 if b.discount else None) or 0
            if b.discount and b.discount.type == "tiered":
                least = max(least, b.discount.tiers[0].from_e4)
            said += [
                ("order_value_required", b.discount is not None and value is None),
                ("currency_mismatch", currency not in (None, "USD")),
                ("order_value_too_low", currency in (None, "USD") and value is not None and value * 10_000 < least),
            ]
        return [name for name, holds in said if holds]

    def assign_refusals(self, code: str | None, book: int, user: str) -> list[str]:
        """Why an assign would be refused, but for out_of_stock; ['repeated'] where the coupon is the user's already."""
        if code is not None:
            c = self.codes.get(code)
            if c is None:
                return ["coupon_not_found"]
            book = c.book
            end = self.end(c)
        else:
            c, end = None, self.books[book].valid_until_ms
        b = self.books[book]
        said = [
            ("coupon_inactive", c is not None and c.off),
            ("book_inactive", b.status != "active"),
            ("expired", end is not None and self.now >= end),
        ]
        if c is not None:
            said += [
                ("repeated", c.owner == user),
                ("coupon_assigned_to_other", c.owner not in (None, user)),
                ("coupon_locked", any(lock.user != user for lock in self.live(c))),
                ("coupon_redeemed" if self.limit(c) == 1 else "coupon_exhausted", not self.left(c)),
            ]
        had = sum(c.owner == user and c.book == book for c in self.codes.values())
        cap = self.caps.get(user) or self.max_coupons
        said += [
            ("user_code_limit", b.max_codes_per_user is not None and had >= b.max_codes_per_user),
            ("user_coupon_limit", cap is not None and self.held(user) >= cap),
        ]
        return [name for name, holds in said if holds]

    def unassign_refusals(self, code: str) -> list[str]:
        """Why an unassign would be refused."""
        c = self.codes.get(code)
        if c is None:
            return ["coupon_not_found"]
        used_up = self.limit(c) != 1 and not self.left(c)
        said = [
            ("coupon_not_assigned", c.owner is None),
            ("coupon_locked", bool(self.live(c))),
            ("coupon_exhausted" if used_up else "coupon_redeemed", c.uses > 0),
        ]
        return [name for name, holds in said if holds]

    # What happens.

    def deadline(self, c: Code, asked_s: int | None, started: int) -> int:
        """Where a lock's deadline may be at most."""
        b = self.books[c.book]
        asked = self.now + 1000 * (asked_s or b.lock_seconds)
        return min(end for end in (asked, started + b.max_lock_seconds * 1000, self.end(c)) if end is not None)

    def locked(self, code: str, token: str, user: str, order: str | None, asked_s: int | None) -> Lock:
        """A lock was given, or renewed."""
        c = self.codes[code]
        if own := self.own_lock(c, user, order, None):
            own.deadline = max(own.deadline, self.deadline(c, asked_s, own.started))
            return own
        b = self.books[c.book]
        counts = frozenset("u" * (b.max_redemptions_per_user is not None) + "b" * (b.max_redemptions is not None))
        lock = Lock(token, user, order, self.deadline(c, asked_s, self.now), self.now, counts)
        c.locks = [*self.live(c), lock]
        return lock

    def discount(self, book: int, value: Decimal | None, items: Sequence[Any] = ()) -> Decimal:
        """A discount on an order's value, in USD."""
        row = self.books[book].discount
        if row is None or value is None:
            return Decimal(0)
        plain: DiscountRow | TierRow = row
        for tier in row.tiers:
            if tier.from_e4 <= value * 10_000:
                plain = tier
        of = Decimal(plain.value_e4) / 10_000
        match plain.type:
            case "percentage":
                amount = (value * of / 100).quantize(UNIT, ROUND_HALF_EVEN)
            case "buyXGetY":
                amount = Decimal(0)
                for sku in {item["sku"] for item in items}:
                    lines = [item for item in items if item["sku"] == sku]
                    units = sorted(Decimal(item["unitPrice"]) for item in lines for _ in range(item["quantity"]))
                    amount += sum(units[: len(units) // (row.buy + row.get) * row.get])
            case _:
                amount = of
        if row.max_amount_e4 is not None:
            amount = min(amount, Decimal(row.max_amount_e4) / 10_000)
        return min(amount, value)

    def redeemed(self, redemption: Redemption, token: str | None) -> None:
        """A use was spent, and the lock that it was under ended."""
        c = self.codes[redemption.code]
        own = self.own_lock(c, redemption.user, redemption.order, token)
        c.locks = [lock for lock in c.locks if lock is not own]
        c.redemptions.append(redemption)

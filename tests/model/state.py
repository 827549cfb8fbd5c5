"""What a shop holds, in plain Python, and what the contract says follows from it. Times are milliseconds."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from decimal import ROUND_DOWN, Decimal
from typing import Any

from service.engine.domain.configuration import BookRow
from service.engine.domain.times import from_ms
from tests.model.amounts import DIGITS, format_amount
from tests.model.limits import Limits


@dataclass(frozen=True)
class Price:
    """What a lock holds of an order."""

    value: Decimal
    currency: str
    items: Sequence[dict[str, Any]]
    discount: Decimal

    def body(self) -> dict[str, Any]:
        """As answers have it."""
        digits = DIGITS[self.currency]
        amounts = {"orderValue": self.value, "discountAmount": self.discount, "finalAmount": self.value - self.discount}
        return {name: format_amount(amount, digits) for name, amount in amounts.items()} | {"currency": self.currency}


@dataclass
class Lock:
    """A promise of one use, live until `deadline`."""

    token: str
    user: str
    order: str | None
    deadline: int
    started: int
    counts: frozenset[str]
    """The limits of which it keeps a use: those that its book had when it was given, 'user' and 'book'."""
    key: str | None = None
    """Whose live locks it is one of: the key that took it, where these were limited then."""
    price: Price | None = None


@dataclass
class Redemption:
    """A use that was spent."""

    id: str
    code: str
    book: int
    user: str
    order: str | None
    value: Decimal | None
    currency: str
    discount: Decimal
    at: int
    address: str
    metadata: dict[str, Any]
    rolled_back: int | None = None
    restored: bool = False

    @property
    def stands(self) -> bool:
        """Whether it was not rolled back."""
        return self.rolled_back is None

    @property
    def taken(self) -> bool:
        """Whether its use is still spent: a rollback without `restore` gives none back."""
        return not self.restored

    def body(self) -> dict[str, Any]:
        """As answers have it."""
        digits = DIGITS[self.currency]
        return {
            "redemptionId": self.id,
            "code": self.code,
            "userId": self.user,
            "orderId": self.order,
            "orderValue": None if self.value is None else format_amount(self.value, digits),
            "currency": self.currency,
            "discountAmount": format_amount(self.discount, digits),
            "finalAmount": None if self.value is None else format_amount(self.value - self.discount, digits),
            "balanceAfter": None,
            "redeemedAt": from_ms(self.at),
            "rolledBackAt": time(self.rolled_back),
            "ipAddress": self.address,
            "userAgent": "tests",
            "metadata": self.metadata,
        }


@dataclass
class Coupon:
    """A code, and all that became of it."""

    code: str
    book: int
    own_max: int | None = None
    owner: str | None = None
    assigned_at: int | None = None
    ends: int | None = None
    """Its own end."""
    active: bool = True
    redemptions: list[Redemption] = field(default_factory=list)
    locks: list[Lock] = field(default_factory=list)

    @property
    def uses(self) -> int:
        """How many are spent."""
        return sum(redemption.taken for redemption in self.redemptions)


Given = tuple[str, int | None]
"""An assignment: its code and its time."""


class State:
    """A workspace: what was configured, what traffic made of it, and what is true of both now."""

    def __init__(self, now: int) -> None:
        self.now = now
        self.books: dict[int, BookRow] = {}
        self.touched: set[int] = set()
        """Books of which a code was ever locked or redeemed."""
        self.coupons: dict[str, Coupon] = {}
        self.caps: dict[str, int | None] = {}
        """maxCoupons of the users that have one of their own."""
        self.coupons_per_order = 1
        self.max_coupons: int | None = None
        self.currency = "USD"
        self.gift_book: int | None = None
        self.gifts: dict[str, tuple[str, str, int]] = {}
        """By order: the code that was given, to whom and when."""
        self.rolled_back_gifts: set[Given] = set()
        """Those that a rollback of their order took back."""
        self.limits = Limits()
        self.facts: list[tuple[Any, ...]] = []
        """The facts of all traffic, and the notices of stock, that are to be recorded, in order."""

    # Coupons

    def live(self, c: Coupon) -> list[Lock]:
        """Its locks, without the expired: these are worth nothing, to the millisecond."""
        return [lock for lock in c.locks if self.now < lock.deadline]

    def limit(self, c: Coupon) -> int | None:
        """How often it may be redeemed: its own limit, else the book's; None is no limit."""
        return c.own_max or self.books[c.book].max_redemptions_per_code

    def left(self, c: Coupon) -> bool:
        """Whether a use is not spent, though perhaps locked."""
        limit = self.limit(c)
        return limit is None or c.uses < limit

    def locked(self, c: Coupon) -> bool:
        """Whether nothing is left but by a lock."""
        limit = self.limit(c)
        return limit is not None and self.left(c) and c.uses + len(self.live(c)) >= limit

    def end(self, c: Coupon) -> int | None:
        """When its window ends: the earlier of its own end and the book's."""
        ends = [end for end in (c.ends, self.books[c.book].valid_until_ms) if end is not None]
        return min(ends) if ends else None

    def over(self, c: Coupon) -> bool:
        """Whether its window has ended; windows are half-open."""
        end = self.end(c)
        return end is not None and self.now >= end

    def used_up(self, c: Coupon) -> str:
        """The status of a coupon without a use left."""
        return "redeemed" if self.limit(c) == 1 else "exhausted"

    def status(self, c: Coupon, windows: bool = True) -> str:
        """The first that holds; statistics ignore windows."""
        if not self.left(c):
            return self.used_up(c)
        if not c.active:
            return "inactive"
        if windows and self.over(c):
            return "expired"
        if self.locked(c):
            return "locked"
        return "assigned" if c.owner else "available"

    def standing(self, c: Coupon) -> list[Redemption]:
        """Its redemptions that were not rolled back."""
        return [redemption for redemption in c.redemptions if redemption.stands]

    def coupon_body(self, c: Coupon, actual: dict[str, Any]) -> dict[str, Any]:
        """As answers have it. Where several locks end first, in the same millisecond, the contract leaves open which is
        answered: the one of `actual`. The last redemption is the one decided last, whatever the clock says."""
        live, stand = self.live(c), self.standing(c)
        first = min((lock.deadline for lock in live), default=0)
        locks = [
            {"userId": lock.user, "orderId": lock.order, "expiresAt": from_ms(first)}
            for lock in live
            if lock.deadline == first
        ]
        lasts = [
            {"redemptionId": r.id, "userId": r.user, "orderId": r.order, "redeemedAt": from_ms(r.at)}
            for r in stand[-1:]
        ]
        return {
            "code": c.code,
            "bookId": str(self.books[c.book].book_id),
            "status": self.status(c),
            "userId": c.owner,
            "redemptions": c.uses,
            "maxRedemptions": self.limit(c),
            "lock": _one_of(locks, actual.get("lock")),
            "assignedAt": time(c.assigned_at),
            "expiresAt": time(self.end(c)),
            "lastRedemption": _one_of(lasts, actual.get("lastRedemption")),
            "balance": None,
        }

    # Books, users, orders

    def of_book(self, book: int) -> list[Coupon]:
        return [c for c in self.coupons.values() if c.book == book]

    def redemptions(self) -> Iterable[Redemption]:
        """All that ever were."""
        return (redemption for c in self.coupons.values() for redemption in c.redemptions)

    def spent(self, book: int, user: str | None = None) -> int:
        """Uses of the book that are spent: by all, or by one user."""
        return sum(r.taken for r in self.redemptions() if r.book == book and user in (None, r.user))

    def locks(self, book: int) -> list[Lock]:
        """The book's live ones."""
        return [lock for c in self.of_book(book) for lock in self.live(c)]

    def end_locks(self, book: int) -> None:
        """The merchant ends all of the book's."""
        for c in self.of_book(book):
            c.locks.clear()

    def kept(self, book: int, limit: str, user: str | None = None) -> int:
        """Uses of the book's limit ('book' or 'user') that live locks keep."""
        return sum(limit in lock.counts and user in (None, lock.user) for lock in self.locks(book))

    def places(self, order: str) -> list[Redemption]:
        """What takes the order's places."""
        return [redemption for redemption in self.redemptions() if redemption.order == order and redemption.taken]

    def gift(self, order: str) -> Coupon | None:
        """The order's gift, while it stands: the coupon is that user's since then."""
        code, user, at = self.gifts.get(order, ("", "", 0))
        c = self.coupons.get(code)
        return c if c and (c.owner, c.assigned_at) == (user, at) else None

    def free(self, book: int) -> set[str]:
        """Codes that any user may be given: unassigned, active, in their time, with a use left and no live lock."""
        return {
            c.code
            for c in self.of_book(book)
            if c.active and not c.owner and self.left(c) and not self.live(c) and not self.over(c)
        }

    def had(self, book: int, user: str) -> int:
        """How many codes of the book were assigned to the user; what was taken back counts nowhere."""
        return sum(c.owner == user for c in self.of_book(book))

    def held(self, user: str) -> int:
        """How many coupons the user holds, over all books: assigned, not used up, not past their window."""
        return sum(c.owner == user and self.left(c) and not self.over(c) for c in self.coupons.values())

    def stats(self, book: int) -> dict[str, Any]:
        """A book's statistics: each code once under its status, and what stands."""
        coupons = self.of_book(book)
        counts = Counter(self.status(c, windows=False) for c in coupons)
        stand = [redemption for c in coupons for redemption in self.standing(c)]
        discount = self.books[book].discount
        unit = Decimal(1).scaleb(-DIGITS[discount.currency if discount else self.currency])
        total = sum((redemption.discount for redemption in stand), Decimal(0))
        statuses = ("available", "assigned", "locked", "redeemed", "exhausted", "inactive")
        return {
            "codes": len(coupons),
            **{status: counts[status] for status in statuses},
            "redemptions": len(stand),
            "rolledBack": sum(len(c.redemptions) for c in coupons) - len(stand),
            "discountTotal": str(total.quantize(unit, ROUND_DOWN)),
            "users": len({redemption.user for redemption in stand}),
            "budgets": [],
            "balance": None,
            "touched": book in self.touched,
            "taken": self.spent(book),
            "nowMs": self.now,
        }

    def stock(self, book: int) -> dict[str, int]:
        """What is left of a book, as its notices count it: free codes, and uses of its total; locks don't count."""
        coupons = self.of_book(book)
        left = {"codes": sum(self.left(c) and c.active and not c.owner for c in coupons)}
        total = self.books[book].max_redemptions
        return left if total is None else {**left, "uses": total - self.spent(book)}

    def moments(self) -> list[int]:
        """When something ends or begins by itself, from now on."""
        books = self.books.values()
        times = [lock.deadline for c in self.coupons.values() for lock in c.locks]
        times += [c.ends for c in self.coupons.values() if c.ends is not None]
        times += [at for row in books for at in (row.valid_from_ms, row.valid_until_ms) if at is not None]
        return sorted(at for at in times if at > self.now)


def time(ms: int | None) -> str | None:
    """As answers have it."""
    return None if ms is None else from_ms(ms)


def _one_of(candidates: Sequence[dict[str, Any]], actual: Any) -> dict[str, Any] | None:
    if actual in candidates:
        return actual
    return candidates[0] if candidates else None

"""What a shop holds, in plain Python, and what the contract says follows from it. Times are milliseconds."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from decimal import ROUND_DOWN, Decimal
from typing import Any

from service.engine.domain.budgets import Bound, BudgetRow
from service.engine.domain.configuration import BookRow
from service.engine.domain.times import from_ms
from tests.model.amounts import DIGITS, format_amount, units
from tests.model.limits import Limits
from tests.model.periods import period_of, renews_at


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
    share: int = 0
    """The generation of the book's budgets of which it holds a share; 0 for none."""

    @property
    def amount(self) -> Decimal:
        """What it holds of a card, or of a budget."""
        return self.price.discount if self.price else Decimal(0)


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
    sent: dict[str, Any]
    """By the names of sent_fields.py, in JSON."""
    counted: int | None = None
    """The time in whose periods it counts, where that is its lock's."""
    balance_after: Decimal | None = None
    """What was available of a card."""
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
            "balanceAfter": None if self.balance_after is None else format_amount(self.balance_after, digits),
            "redeemedAt": from_ms(self.at),
            "rolledBackAt": time(self.rolled_back),
            "ipAddress": self.address,
            "userAgent": "tests",
            **self.sent,
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
    issued: Decimal | None = None
    """Of a card, as `credited` and `closed`."""
    credited: Decimal = Decimal(0)
    closed: Decimal = Decimal(0)
    redemptions: list[Redemption] = field(default_factory=list)
    locks: list[Lock] = field(default_factory=list)

    @property
    def uses(self) -> int:
        """How many are spent."""
        return sum(redemption.taken for redemption in self.redemptions)

    @property
    def spent(self) -> Decimal:
        """What redemptions took of a card and no rollback gave back."""
        return sum((redemption.discount for redemption in self.redemptions if redemption.taken), Decimal(0))

    @property
    def funds(self) -> Decimal:
        """What a card has, available or held."""
        return (self.issued or 0) + self.credited - self.spent - self.closed


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
        """By order: the code that was given, its user and the time."""
        self.rolled_back_gifts: set[Given] = set()
        """Those that a rollback of their order took back."""
        self.limits = Limits()
        self.uncounted: dict[int, list[Redemption] | None] = {}
        """Books of which what was redeemed before they had budgets is not counted yet: until then these refuse nothing.
        Once the worker has begun, what stood then."""
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
        """Whether a use, or a part of a card, is not spent, though perhaps locked."""
        if c.issued is not None:
            return c.funds > 0
        limit = self.limit(c)
        return limit is None or c.uses < limit

    def available(self, c: Coupon, but: Lock | None = None) -> Decimal:
        """The amount of a card that no other lock holds."""
        return c.funds - sum(lock.amount for lock in self.live(c) if lock is not but)

    def locked(self, c: Coupon) -> bool:
        """Whether nothing is left but by a lock."""
        if c.issued is not None:
            return c.funds > 0 and not self.available(c)
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
            "balance": None if c.issued is None else self._balance_body([c], c.funds - self.available(c)),
        }

    def _balance_body(self, cards: Sequence[Coupon], held: Decimal) -> dict[str, str]:
        """The sums of cards of one book."""
        sums = {
            "issued": sum((c.issued or Decimal(0) for c in cards), Decimal(0)),
            "credited": sum((c.credited for c in cards), Decimal(0)),
            "spent": sum((c.spent for c in cards), Decimal(0)),
            "held": held,
            "closed": sum((c.closed for c in cards), Decimal(0)),
            "available": sum((c.funds for c in cards), Decimal(0)) - held,
        }
        assert min(sums.values(), default=0) >= 0
        digits = DIGITS[self.books[cards[0].book].discount.currency]  # type: ignore[union-attr]
        return {name: format_amount(amount, digits) for name, amount in sums.items()}

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

    def taken(self, book: int, bound: Bound, user: str | None, at: int, but: Lock | None = None) -> Decimal:
        """What counts against a bound in the period of a time: what is spent, and what live locks hold but this one."""
        row = self.books[book]
        period, zone = period_of(bound.period, row.time_zone, at), row.time_zone
        amounts = [
            r.discount if isinstance(bound, BudgetRow) else Decimal(1)
            for r in self.redemptions()
            if r.book == book and r.taken and (bound.per == "book" or r.user == user)
            and period_of(bound.period, zone, r.at if r.counted is None else r.counted) == period
        ]  # fmt: skip
        return sum(amounts, self.held_by_locks(book, bound, user, at, but))

    def held_by_locks(self, book: int, bound: Bound, user: str | None, at: int, but: Lock | None = None) -> Decimal:
        """What live locks hold of a bound in the period of a time, but this one."""
        row = self.books[book]
        period, zone = period_of(bound.period, row.time_zone, at), row.time_zone
        amounts = [
            lock.amount if isinstance(bound, BudgetRow) else Decimal(1)
            for lock in self.locks(book)
            if lock is not but and lock.share == row.counted_from and (bound.per == "book" or lock.user == user)
            and period_of(bound.period, zone, lock.started) == period
        ]  # fmt: skip
        return sum(amounts, Decimal(0))

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

    def stats(self, book: int, actual: dict[str, Any], *, is_swept: bool = False) -> dict[str, Any]:
        """A book's statistics: each code once under its status, and what stands. Locks of cards that have expired hold
        their parts there until they are swept: until then what `actual` says is held may be right."""
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
            "budgets": actual["budgets"] if book in self.uncounted else self._budgets_now(book),
            "balance": self._balance_of_book(coupons, None if is_swept else actual["balance"]),
            "touched": book in self.touched,
            "taken": self.spent(book),
            "nowMs": self.now,
        }

    def _balance_of_book(self, coupons: Sequence[Coupon], actual: dict[str, str] | None) -> dict[str, str] | None:
        cards = [c for c in coupons if c.issued is not None]
        if not cards:
            return None
        held = sum((c.funds - self.available(c) for c in cards), Decimal(0))
        stored = Decimal(actual["held"]) if actual else held
        return self._balance_body(cards, stored if held <= stored <= sum(c.funds for c in cards) else held)

    def _budgets_now(self, book: int) -> list[dict[str, Any]]:
        """Each budget of the whole book, and what is spent and held of it."""
        row, now = self.books[book], self.now
        digits = DIGITS[row.discount.currency if row.discount else self.currency]
        shown = list[dict[str, Any]]()
        for budget in row.budgets:
            if budget.per == "book":
                most, taken = units(budget.amount_e4), self.taken(book, budget, None, now)
                held = self.held_by_locks(book, budget, None, now)
                amounts = {"amount": most, "spent": taken - held, "held": held, "left": max(most - taken, Decimal(0))}
                body = {
                    name: format_amount(amount.quantize(Decimal(1).scaleb(-digits), ROUND_DOWN), digits)
                    for name, amount in amounts.items()
                }
                about = {"per": "book", "period": budget.period, "renewsAt": time(self.renews_at(book, budget, now))}
                shown.append(body | about)
        return shown

    def renews_at(self, book: int, bound: Bound, at: int) -> int | None:
        return renews_at(bound.period, self.books[book].time_zone, at)

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

    def periods(self) -> list[int]:
        """When a book's next day and month begin."""
        rows = self.books.values()
        times = [renews_at(kind, row.time_zone, self.now) for row in rows for kind in ("day", "month")]
        return sorted({at for at in times if at is not None})


def time(ms: int | None) -> str | None:
    """As answers have it."""
    return None if ms is None else from_ms(ms)


def _one_of(candidates: Sequence[dict[str, Any]], actual: Any) -> dict[str, Any] | None:
    if actual in candidates:
        return actual
    return candidates[0] if candidates else None

"""The contract's refusals in plain Python: each function lists all that apply, in the contract's order."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from service.engine.domain.budgets import BudgetRow
from tests.model.amounts import DIGITS, discount, fits, fits_all, least_value, units, worth_too_much
from tests.model.state import Coupon, Lock, Price, State

STATUS = {
    "coupon_not_found": 404,
    "book_not_found": 404,
    "redemption_not_found": 404,
    "order_not_found": 404,
    "invalid": 422,
    "user_redemption_limit": 422,
    "user_code_limit": 422,
    "user_coupon_limit": 422,
    "order_value_required": 422,
    "order_value_too_low": 422,
    "no_discount": 422,
    "currency_mismatch": 422,
    "lock_ceiling": 422,
    "idempotency_key_reused": 422,
    "rate_limited": 429,
    "too_many_misses": 429,
    "lock_quota": 429,
}
"""Of those that are not 409."""
REFUSALS = {
    *STATUS,
    *"coupon_inactive book_inactive not_started expired coupon_not_assigned coupon_assigned_to_other lock_lost".split(),
    *"coupon_locked lock_required coupon_redeemed coupon_exhausted out_of_stock order_already_used".split(),
    *"already_rolled_back budget_exhausted period_limit".split(),
}
"""All that the model knows."""


class Refused(Exception):
    """A request that changes nothing; for `coupon_locked` and `lock_quota`, in how many ms the first such lock ends.
    is_of_coupon: whether `invalid` says that the coupon is no card, or not of that currency."""

    def __init__(self, code: str, retry_after_ms: int | None = None, *, is_of_coupon: bool = False) -> None:
        self.code, self.retry_after_ms, self.is_of_coupon = code, retry_after_ms, is_of_coupon
        self.status = STATUS.get(code, 409)
        super().__init__(code)


@dataclass
class Use:
    """A use of a coupon that is asked for: by whom, for what, under which lock."""

    c: Coupon
    kind: str
    """lock, redeem or validate."""
    user: str | None
    order: str | None
    token: str | None = None
    value: Decimal | None = None
    currency: str | None = None
    items: Sequence[dict[str, Any]] = ()
    amount: Decimal | None = None
    """The most that it takes of a card."""
    held: Price | None = None
    """The price of its lock, where that is the use's."""
    usual: str = ""
    """The currency of an order that names none: its lock's; '' for the workspace's."""
    is_anothers: bool = False
    """Whether another user has the order's gift."""
    renews: dict[str, int | None] = field(default_factory=dict[str, int | None])
    """When what refuses it by budgets and limits of uses begins again, by the refusal; None for never."""


def first(state: State, c: Coupon, reasons: Iterable[str]) -> None:
    """Refused for the first reason, where there is one."""
    for code in reasons:
        if code == "coupon_locked":
            raise Refused(code, min(lock.deadline for lock in state.live(c)) - state.now)
        raise Refused(code)


def own_lock(state: State, use: Use) -> Lock | None:
    """The live lock that the use is under: its token's, where the user and the order (where the lock names one) are the
    request's; without a token, the same user's for the same order, no order being an order like any other."""
    for lock in state.live(use.c):
        if use.token is not None:
            if lock.token == use.token and use.user in (None, lock.user) and lock.order in (None, use.order):
                return lock
        elif use.user is not None and (lock.user, lock.order) == (use.user, use.order):
            return lock
    return None


def is_priced(state: State, use: Use) -> bool:
    """Whether its amounts are judged: a lock may have none, unless it is to hold a part of a card."""
    if use.kind != "lock" or (use.value, use.currency, use.amount) != (None, None, None):
        return True
    own = own_lock(state, use)
    return use.c.issued is not None and not (own and own.price)


def price(state: State, use: Use, asked: dict[str, Any]) -> None:
    """What the request leaves out is what its lock holds; Refused where its amounts can be no order's."""
    own = own_lock(state, use)
    usual = state.currency
    if own and own.price and is_priced(state, use):
        held = own.price
        usual = use.usual = held.currency
        use.value = held.value if use.value is None else use.value
        use.items = use.items or held.items
        same = (held.value, usual, list(held.items), use.amount and held.discount)
        if (use.value, use.currency or usual, list(use.items), use.amount) == same:
            use.held = held
    if use.held is None and is_priced(state, use):
        expected = wanted_currency(state, use.c, use.usual)
        if use.currency is None and not fits_all(asked | {"items": use.items}, usual):
            raise Refused("invalid")
        if use.currency in (None, expected) and worth_too_much(use.value, use.items, use.currency or usual):
            raise Refused("invalid")
    if use.amount is not None and (
        use.c.issued is None or not fits(use.amount, DIGITS[wanted_currency(state, use.c, use.usual)])
    ):
        raise Refused("invalid", is_of_coupon=True)
    if use.currency is None and use.value is not None:
        use.currency = usual


def wanted_currency(state: State, c: Coupon, usual: str = "") -> str:
    """That of orders with the coupon; `usual` is the lock's, where the book has none."""
    discount_row = state.books[c.book].discount
    return discount_row.currency if discount_row else usual or state.currency


def of_use(state: State, use: Use) -> list[str]:
    """Of lock, redeem and validate (rule 1). A live lock keeps its use, whatever the book says since."""
    c, book = use.c, state.books[use.c.book]
    own = own_lock(state, use)
    conditions = {
        "coupon_inactive": not c.active,
        "book_inactive": own is None and book.status != "active",
        "not_started": own is None and book.valid_from_ms is not None and state.now < book.valid_from_ms,
        "expired": own is None and state.over(c),
        "coupon_not_assigned": own is None and book.require_assignment and c.owner is None,
        "coupon_assigned_to_other": own is None and c.owner is not None and use.user not in (None, c.owner),
        "lock_lost": use.token is not None and own is None,  # a token that is sent is judged first
        "coupon_locked": own is None and state.locked(c),
        "lock_required": book.require_lock and use.kind != "lock" and own is None and use.token is None,
        f"coupon_{state.used_up(c)}": not state.left(c),
        "user_redemption_limit": own is None and _over_user_limit(state, use),
        "out_of_stock": own is None and _over_total(state, use),
        **_of_bounds(state, use, own),
        "order_already_used": use.is_anothers
        or (use.order is not None and len(state.places(use.order)) >= state.coupons_per_order),
        "order_value_required": use.value is None and _needs_value(state, use, own),
    }
    if is_priced(state, use) and use.held is None:
        conditions |= _of_value(state, use)
    return _holding(conditions)


def _needs_value(state: State, use: Use, own: Lock | None) -> bool:
    """Whether the book asks for the order's value: at a lock only where it holds an amount."""
    book = state.books[use.c.book]
    if use.kind == "lock":
        return (use.c.issued is not None or bool(book.budgets)) and not (own and own.price)
    return book.discount is not None


def saving(state: State, use: Use) -> Decimal:
    """What an order with a value gets: by the book's discount, or from a card."""
    assert use.value is not None
    if use.c.issued is not None:
        return min(state.available(use.c, own_lock(state, use)), use.value, use.amount or use.value)
    currency = wanted_currency(state, use.c, use.usual)
    return discount(state.books[use.c.book].discount, use.value, use.items, DIGITS[currency])


def _of_bounds(state: State, use: Use, own: Lock | None) -> dict[str, bool]:
    """Of the book's budgets and limits of uses, at the time of the lock that it is under: which its discount does not
    fit, where that is decided now; and which have no use left. A lock keeps its use."""
    book = state.books[use.c.book]
    if use.c.book in state.uncounted:
        return {}
    wanted, at = _wanted(state, use), own.started if own else state.now
    for bound in book.bounds:
        code, more, most = "period_limit", Decimal(own is None), Decimal(0)
        if isinstance(bound, BudgetRow):
            code, more, most = "budget_exhausted", wanted, units(bound.amount_e4)
        else:
            most = Decimal(bound.uses)
        if not more or (bound.per == "user" and use.user is None):
            continue
        if state.taken(use.c.book, bound, use.user, at, own) + more > most:
            renews = state.renews_at(use.c.book, bound, at)
            latest = use.renews.get(code, renews)
            use.renews[code] = None if renews is None or latest is None else max(renews, latest)
    return dict.fromkeys(use.renews, True)


def _wanted(state: State, use: Use) -> Decimal:
    """What it wants of a budget, where that is decided now: what its lock holds was."""
    row = state.books[use.c.book].discount
    if row is None or use.value is None or use.held or not is_priced(state, use):
        return Decimal(0)
    is_judged = use.currency in (None, row.currency) and use.value >= least_value(row)
    return saving(state, use) if is_judged else Decimal(0)


def full_quota(state: State, use: Use) -> list[int]:
    """When the live locks end that leave no room for another: the user's in the book, else the key's, else the
    share of what is left that may be locked. [] where there is room."""
    c, limits = use.c, state.limits
    row = state.books[c.book]
    of_user = limits.of_book(row, "locks_per_user")
    users = [lock.deadline for lock in state.locks(c.book) if "user" in lock.counts and lock.user == use.user]
    if of_user is not None and len(users) >= of_user:
        return users
    of_key = limits.of_key("live_locks")
    keys = [lock.deadline for book in state.books for lock in state.locks(book) if lock.key == limits.key]
    if of_key is not None and len(keys) >= of_key:
        return keys
    percent = limits.of_book(row, "locked_percent")
    return [] if percent is None else _full_share(state, c, percent)


def _full_share(state: State, c: Coupon, percent: int) -> list[int]:
    """Of the book's total so much of what is left may be locked; of a code's uses; and of free codes. Rounded down, one
    always. Somebody's own coupon, and one with a use for others yet, takes no free code from them."""

    def is_full(locked: list[int], left: int) -> bool:
        return len(locked) >= max(1, left * percent // 100)

    total, limit = state.books[c.book].max_redemptions, state.limit(c)
    counted = [lock.deadline for lock in state.locks(c.book) if "book" in lock.counts]
    if total is not None and is_full(counted, total - state.spent(c.book)):
        return counted
    if c.owner is not None or limit is None:
        return []
    of_code = [lock.deadline for lock in state.live(c)]
    if limit > 1 and is_full(of_code, limit - c.uses):
        return of_code
    if c.uses + len(of_code) + 1 < limit:
        return []
    free = [each for each in state.of_book(c.book) if each.active and not each.owner and state.left(each)]
    of_codes = [min(lock.deadline for lock in state.live(each)) for each in free if state.locked(each)]
    return of_codes if is_full(of_codes, len(free)) else []


def _over_user_limit(state: State, use: Use) -> bool:
    """Whether the user has no use of the book left, spent ones and those that live locks keep."""
    limit = state.books[use.c.book].max_redemptions_per_user
    if limit is None or use.user is None:
        return False
    return state.spent(use.c.book, use.user) + state.kept(use.c.book, "user", use.user) >= limit


def _over_total(state: State, use: Use) -> bool:
    """Whether the book has no use left; as above."""
    limit = state.books[use.c.book].max_redemptions
    return limit is not None and state.spent(use.c.book) + state.kept(use.c.book, "book") >= limit


def _of_value(state: State, use: Use) -> dict[str, bool]:
    """Of the order's value: one in another currency isn't judged for size. No use is spent for nothing."""
    row, currency = state.books[use.c.book].discount, wanted_currency(state, use.c, use.usual)
    mismatch = use.currency not in (None, currency)
    too_low = saves_nothing = False
    if row is not None and use.value is not None and not mismatch:
        too_low = use.value < least_value(row)
        # A card of which nothing is left was refused before.
        saves_nothing = not too_low and not (use.value if use.c.issued is not None else saving(state, use))
    return {
        "currency_mismatch": mismatch,
        "order_value_too_low": too_low,
        "no_discount": saves_nothing,
    }


def of_assign(state: State, c: Coupon, user: str) -> list[str]:
    """Of assigning a named coupon; of one that the user has already, less is asked."""
    if c.owner == user:
        return _holding(_of_time(state, c))
    conditions = {
        **_of_time(state, c),
        "coupon_assigned_to_other": c.owner is not None,
        "coupon_locked": any(lock.user != user for lock in state.live(c)),
        f"coupon_{state.used_up(c)}": not state.left(c),
        **_of_user(state, c.book, user),
    }
    return _holding(conditions)


def of_assign_any(state: State, book: int, user: str) -> list[str]:
    """Of assigning a random free coupon."""
    row = state.books[book]
    conditions = {
        "book_inactive": row.status != "active",
        "expired": row.valid_until_ms is not None and state.now >= row.valid_until_ms,
        **_of_user(state, book, user),
        "out_of_stock": not state.free(book),
    }
    return _holding(conditions)


def _of_time(state: State, c: Coupon) -> dict[str, bool]:
    """Assigning before validFrom is fine."""
    return {
        "coupon_inactive": not c.active,
        "book_inactive": state.books[c.book].status != "active",
        "expired": state.over(c),
    }


def _of_user(state: State, book: int, user: str) -> dict[str, bool]:
    per_user = state.books[book].max_codes_per_user
    cap = state.caps.get(user) or state.max_coupons
    return {
        "user_code_limit": per_user is not None and state.had(book, user) >= per_user,
        "user_coupon_limit": cap is not None and state.held(user) >= cap,
    }


def of_unassign(state: State, c: Coupon) -> list[str]:
    """Of taking an assignment back, while nothing of it is locked or used."""
    exhausted = not state.left(c) and state.limit(c) not in (None, 1)  # a card that was closed has no use
    conditions = {
        "coupon_not_assigned": c.owner is None,
        "coupon_locked": bool(state.live(c)),
        "coupon_exhausted": exhausted,
        "coupon_redeemed": c.uses > 0,  # in part, too
    }
    return _holding(conditions)


def of_extend(state: State, c: Coupon, lock: Lock | None, ceiling: int) -> list[str]:
    """Of extending a lock, which can't be held past `ceiling`."""
    conditions = {
        "coupon_inactive": not c.active,
        "book_inactive": state.books[c.book].status != "active",
        "lock_lost": lock is None,
        "lock_ceiling": lock is not None and ceiling <= lock.deadline,
    }
    return _holding(conditions)


def _holding(conditions: dict[str, Any]) -> list[str]:
    return [code for code, holds in conditions.items() if holds]

"""What the contract says an operation answers and changes. Each method takes a code, a request's body in the contract's
words, and the service's own answer (`actual`): the model takes from it a token, a redemption's id, and which free
coupon was picked."""

from decimal import Decimal
from typing import Any

from service.engine.domain.settings import in_json
from service.engine.formats.events import SENT
from tests.model import amounts, refusals
from tests.model.amounts import units
from tests.model.refusals import Refused, Use, first
from tests.model.state import Coupon, Lock, Price, Redemption, State, time

TOLD = {"not_started", "expired", "order_value_too_low", "order_value_required"}
"""The reasons that a `public` credential gets for a coupon of a book with `publicReasons`."""
Body = dict[str, Any]
Answer = tuple[int, Any]
"""Status and body."""
MOST = Decimal(10) ** 11
NO_PRICE: dict[str, str | None] = dict.fromkeys(("orderValue", "currency", "discountAmount", "finalAmount"))
"""Of a lock without a value."""
NOTHING_SENT: Body = in_json({name: {} if field.is_object else None for name, field in SENT.items()})


class Operations(State):
    """What can be done with coupons; Refused, with nothing changed, where it can't."""

    def __init__(self, now: int) -> None:
        super().__init__(now)
        self.tokens: list[tuple[str, Lock]] = []
        """Every lock that was ever given, with its code, in order."""
        self.made: list[Redemption] = []
        """Every redemption that was ever made, in order."""
        self.renews_next: str | None = None
        """When the budgets or limits that refused last begin again."""

    def _find_coupon(self, code: str | None) -> Coupon:
        c = self.coupons.get(code or "")
        if c is None:
            raise Refused("coupon_not_found")
        return c

    # Assign

    def assign(self, code: str, asked: Body, actual: Body) -> Answer:
        """201; 200 when it was this user's already."""
        c, user = self._find_coupon(code), asked["userId"]
        first(self, c, refusals.of_assign(self, c, user))
        if c.owner == user:
            return 200, self._durable(self.coupon_body(c, actual))
        return self._assigned(c, user, actual)

    def assign_any(self, code: None, asked: Body, actual: Body) -> Answer:
        """201: a random free code; whichever it was, if it was free."""
        book = self._book_of(asked["bookId"])
        for reason in refusals.of_assign_any(self, book, asked["userId"]):
            raise Refused(reason)
        return self._assigned(self._picked(self.free(book), actual), asked["userId"], actual)

    def _picked(self, free: set[str], actual: Body) -> Coupon:
        """Which of the free codes it was is random: the one of `actual`."""
        picked = actual.get("code")
        return self.coupons[picked if picked in free else min(free)]

    def _book_of(self, book_id: str) -> int:
        book = next((row.book for row in self.books.values() if str(row.book_id) == book_id), None)
        if book is None:
            raise Refused("book_not_found")
        return book

    def _assigned(self, c: Coupon, user: str, actual: Body, order: str | None = None) -> Answer:
        before = self.stock(c.book)
        self._give(c, user, order)
        self._notice(c.book, before)
        return 201, self._durable(self.coupon_body(c, actual))

    def _give(self, c: Coupon, user: str, order: str | None) -> None:
        c.owner, c.assigned_at = user, self.now
        if order is not None:
            self.gifts[order] = (c.code, user, self.now)
        self.facts.append(("A", c.book, c.code, user, self.now, order))

    def _notice_budgets(self, r: Redemption) -> None:
        """book.budget_low, when a redemption spends the first of 80 %, or the last, of a budget of the whole book."""
        row, at = self.books[r.book], r.at if r.counted is None else r.counted
        for budget in row.budgets if r.discount and r.book not in self.uncounted else ():
            if budget.per == "book":
                spent = self.taken(r.book, budget, None, at) - self.held_by_locks(r.book, budget, None, at)
                most, before = units(budget.amount_e4), spent - r.discount
                renews = self.renews_at(r.book, budget, at)
                of = f"budget:{budget.period[0]}:{budget.amount_e4}:{'-' if renews is None else renews}"
                left = int(max(most - spent, Decimal(0)) * 10_000)
                for notice, share in (("low", Decimal("0.8")), ("out", Decimal(1))):
                    if before < share * most <= spent:
                        self.facts.append(("S", r.book, notice, of, left, self.now))

    def _notice(self, book: int, before: dict[str, int]) -> None:
        """book.low_stock, when an assign or a redeem leaves fewer than the threshold; and when nothing is left."""
        least = self.books[book].low_stock_threshold
        for of, left in self.stock(book).items():
            if least is not None and left < least <= before[of]:
                self.facts.append(("S", book, "low", of, max(left, 0), self.now))
            if left <= 0 < before[of]:
                self.facts.append(("S", book, "out", of, max(left, 0), self.now))

    def unassign(self, code: str, asked: Body, actual: Body) -> Answer:
        """200: the coupon, unassigned now."""
        c = self._find_coupon(code)
        first(self, c, refusals.of_unassign(self, c))
        self._take_back(c)
        return 200, self._durable(self.coupon_body(c, actual))

    def _take_back(self, c: Coupon, order: str | None = None) -> None:
        """`order` if a rollback of it takes its gift back."""
        self.facts.append(("U", c.book, c.code, c.owner, self.now, order))
        if order:
            self.rolled_back_gifts.add((c.code, c.assigned_at))
        c.owner = c.assigned_at = None

    # Lock

    def lock(self, code: str, asked: Body, actual: Body) -> Answer:
        """201; 200 and the same token when this user holds it for this order already: then it is renewed, as extend."""
        c = self._find_coupon(code)
        use = use_of(c, "lock", asked)
        refusals.price(self, use, asked)
        self._judge(use)
        asked_s, book = asked.get("lockSeconds"), self.books[c.book]
        price = None if use.value is None else self._price(use)
        if own := refusals.own_lock(self, use):
            own.price, own.share = price or own.price, book.counted_from
            if book.status == "active":  # else it is as an extension, which is refused
                own.deadline = max(own.deadline, self._deadline(c, asked_s, own.started))
            return 200, self._lock_body(c, own)
        if full := refusals.full_quota(self, use):
            raise Refused("lock_quota", min(full) - self.now)
        of_user = book.max_redemptions_per_user or self.limits.of_book(book, "locks_per_user")
        limits = {"user": of_user, "book": book.max_redemptions}
        counts = frozenset(limit for limit, most in limits.items() if most is not None)
        key = None if self.limits.of_key("live_locks") is None else self.limits.key
        deadline = self._deadline(c, asked_s, self.now)
        token, share = actual.get("lockToken", ""), book.counted_from
        lock = Lock(token, asked["userId"], use.order, deadline, self.now, counts, key, price, share)
        c.locks = [*self.live(c), lock]
        self.touched.add(c.book)
        self.tokens.append((c.code, lock))
        return 201, self._lock_body(c, lock)

    def extend(self, code: str, asked: Body, actual: Body) -> Answer:
        """200: the deadline counts from now, never moves back, and is cut at the ceiling."""
        c = self._find_coupon(code)
        lock = next((lock for lock in self.live(c) if lock.token == asked["lockToken"]), None)
        first(self, c, refusals.of_extend(self, c, lock, self._ceiling(c, lock.started) if lock else 0))
        assert lock
        lock.deadline = max(lock.deadline, self._deadline(c, asked.get("lockSeconds"), lock.started))
        lock.share = self.books[c.book].counted_from
        return 200, self._lock_body(c, lock)

    def releases_one(self, code: str, token: str) -> bool:
        """Whether an unlock with this token changes anything."""
        return any(lock.token == token for lock in self.live(self._find_coupon(code)))

    def unlock(self, code: str, asked: Body, actual: Body) -> Answer:
        """204; also when it was released or had expired."""
        c = self._find_coupon(code)
        c.locks = [lock for lock in c.locks if lock.token != asked["lockToken"]]
        return 204, None

    def _ceiling(self, c: Coupon, started: int) -> int:
        """How late a lock may end: a bounded time after its start, and never after the code's window."""
        ceiling = started + 1000 * self.books[c.book].max_lock_seconds
        end = self.end(c)
        return ceiling if end is None else min(ceiling, end)

    def _deadline(self, c: Coupon, asked_s: int | None, started: int) -> int:
        return min(self.now + 1000 * (asked_s or self.books[c.book].lock_seconds), self._ceiling(c, started))

    def _lock_body(self, c: Coupon, lock: Lock) -> Body:
        return {
            "lockToken": lock.token,
            "code": c.code,
            "bookId": self._book_id(c.book),
            "userId": lock.user,
            "orderId": lock.order,
            "lockSeconds": (lock.deadline - self.now) // 1000,
            "expiresAt": time(lock.deadline),
            **(body := lock.price.body() if lock.price else NO_PRICE),
            "amount": None if c.issued is None else body["discountAmount"],
        }

    def _price(self, use: Use) -> Price:
        """What an order costs: as its lock holds it, else by the book of now."""
        assert use.value is not None
        if use.held:
            return use.held
        return Price(use.value, self._currency(use), use.items, refusals.saving(self, use))

    # Redeem

    def redeem(self, code: str, asked: Body, actual: Body) -> Answer:
        """201: the redemption; 200 and the same where this user redeemed this code for this order already and it stands
        (a redeem without an order is never a repeat of another)."""
        c = self._find_coupon(code)
        if repeated := self._redeemed_before(c, asked):
            return 200, self._durable(self._redemption_body(repeated))
        use = use_of(c, "redeem", asked)
        self._judge_redeem(use, asked)
        before = self.stock(c.book)
        redemption = self._spend(use, asked, actual)
        self._notice(c.book, before)
        self._notice_budgets(redemption)
        return 201, self._durable(self._redemption_body(redemption))

    def _redeemed_before(self, c: Coupon, asked: Body) -> Redemption | None:
        for r in self.standing(c):
            if r.order is not None and (r.user, r.order) == (asked["userId"], asked.get("orderId")):
                return r
        return None

    def _judge_redeem(self, use: Use, asked: Body) -> None:
        refusals.price(self, use, asked)
        self._judge(use)

    def _judge(self, use: Use) -> None:
        reasons = refusals.of_use(self, use)
        self.renews_next = time(use.renews.get(reasons[0])) if reasons else None
        first(self, use.c, reasons)

    def _spend(self, use: Use, asked: Body, actual: Body) -> Redemption:
        """One use; the lock that it was under ends. The assignment stays, and an unassigned coupon stays so."""
        c, currency = use.c, self._currency(use)
        discount = Decimal(0) if use.value is None else self._price(use).discount
        own = refusals.own_lock(self, use)
        balance_after = None if c.issued is None else self.available(c, own) - discount
        counted = own.started if own and self.books[c.book].bounds else None
        redemption = Redemption(
            id=actual.get("redemptionId", ""),
            code=c.code,
            book=c.book,
            user=asked["userId"],
            order=use.order,
            value=use.value,
            currency=currency,
            discount=discount,
            at=self.now,
            address=self.limits.address,
            sent=NOTHING_SENT | {name: asked[name] for name in asked.keys() & NOTHING_SENT.keys()},
            counted=counted,
            balance_after=balance_after,
        )
        c.locks = [lock for lock in c.locks if lock is not own]
        c.redemptions.append(redemption)
        self.made.append(redemption)
        self.touched.add(c.book)
        value = (use.value, currency, discount)
        about = (c.book, c.code, redemption.user, use.order, redemption.id)
        self.facts.append(("R", *about, *value, self.now, counted, balance_after))
        return redemption

    def validate(self, code: None, asked: Body, actual: Body) -> Answer:
        """200: every refusal that a redeem would hear, or what it would take off; changes nothing."""
        c = self._find_coupon(asked["code"])
        use = use_of(c, "validate", asked)
        refusals.price(self, use, asked)
        reasons, currency = refusals.of_use(self, use), self._currency(use)
        body: Body = {"valid": not reasons, "reasons": reasons, "currency": currency}
        body |= {"discountAmount": None, "finalAmount": None}
        if not reasons:
            discount = Decimal(0) if use.value is None else self._price(use).discount
            body["discountAmount"] = amounts.format_amount(discount, amounts.DIGITS[currency])
            if use.value is not None:
                body["finalAmount"] = amounts.format_amount(use.value - discount, amounts.DIGITS[currency])
        described = actual.get("refusals", [])
        named = [(refusal["code"], refusal.get("renewsAt")) for refusal in described]
        if named != [(reason, time(use.renews.get(reason))) for reason in reasons]:
            described = reasons
        return 200, {**body, "refusals": described, "coupon": self.coupon_body(c, actual.get("coupon") or {})}

    def validate_public(self, code: None, asked: Body, actual: Body) -> Answer:
        """As validate, of which a `public` credential learns no reason unless its book tells it, and nothing of the
        coupon, not even that there is one."""
        refusal: Body = {"valid": False, "discountAmount": None, "finalAmount": None}
        try:
            _, body = self.validate(code, asked, actual)
        except Refused as refused:
            if (refused.code == "invalid" and not refused.is_of_coupon) or not self._may_be_an_order(asked):
                raise Refused("invalid") from None
            body = refusal
        if body["valid"] or self._tells(asked["code"], body):
            return 200, {**body, "coupon": None}
        unknown: Body = {"currency": None, "reasons": ["coupon_not_available"], "refusals": [], "coupon": None}
        return 200, {**body, **unknown}

    def _tells(self, code: str, body: Body) -> bool:
        """Whether a `public` credential gets the reasons of this validate."""
        reasons = body.get("reasons", ["coupon_not_found"])
        return TOLD.issuperset(reasons) and self.books[self.coupons[code].book].public_reasons

    def _currency(self, use: Use) -> str:
        """The order's; without a value it may have none, and then has that of the coupon's orders."""
        return use.currency or refusals.wanted_currency(self, use.c, use.usual)

    def _may_be_an_order(self, asked: Body) -> bool:
        """Whether the amounts are an order's, of an unknown coupon."""
        if "currency" in asked:
            return True
        value, items = asked.get("orderValue"), asked.get("items", ())
        return amounts.fits_all(asked, self.currency) and not amounts.worth_too_much(value, items, self.currency)

    def _redemption_body(self, r: Redemption, with_rollback: bool = False) -> Body:
        """A redeem's answer never shows a later rollback."""
        body = {**r.body(), "bookId": self._book_id(r.book)}
        return body if with_rollback else {**body, "rolledBackAt": None}

    # Roll back

    def rollback(self, redemption_id: str, asked: Body, actual: Body) -> Answer:
        """200, once: with `restore` code, user, book and order get their use back."""
        r = next((r for r in self.made if r.id == redemption_id), None)
        if r is None:
            raise Refused("redemption_not_found")
        if not r.stands:
            raise Refused("already_rolled_back")
        self._roll_back(r, asked)
        return 200, self._durable(self._redemption_body(r, True))

    def rollback_order(self, order: str, asked: Body, actual: Body) -> Answer:
        """200: all of the order's that stood; its gift is taken back unless it was used, and a lock on it ends."""
        mine = [r for r in self.made if r.order == order]
        if not mine and order not in self.gifts:
            raise Refused("order_not_found")
        stand, gift = [r for r in mine if r.stands], self.gift(order)
        if gift and gift.uses:
            gift = None
        if not stand and not gift:
            raise Refused("already_rolled_back")
        for r in stand:
            self._roll_back(r, asked)
        if gift:
            self._take_back(gift, order)
            gift.locks = []
        return 200, self._durable({"items": [self._redemption_body(r, True) for r in stand]})

    def _roll_back(self, r: Redemption, asked: Body) -> None:
        r.rolled_back, r.restored = self.now, asked.get("restore") is not False
        c = self.coupons[r.code]
        after = None if c.issued is None else self.available(c)
        self.facts.append(("B", r.book, r.code, r.user, r.order, r.id, self.now, r.restored, after))

    # Credit and close cards

    def credit(self, code: str, asked: Body, actual: Body) -> Answer:
        """200: the coupon, which has so much more; all that a card was ever given is below 10¹¹."""
        c = self._find_coupon(code)
        if c.issued is None or not amounts.fits(asked["amount"], amounts.DIGITS[refusals.wanted_currency(self, c)]):
            raise Refused("invalid")
        if c.issued + c.credited + asked["amount"] >= MOST:
            raise Refused("invalid")
        return self._adjusted(c, "credited", asked["amount"], actual)

    def close(self, code: str, asked: Body, actual: Body) -> Answer:
        """200: the coupon, of which nothing is available now; refused while a part is held."""
        c = self._find_coupon(code)
        if c.issued is None:
            raise Refused("invalid")
        first(self, c, ["coupon_locked"] if self.live(c) else [])
        return self._adjusted(c, "closed", c.funds, actual)

    def has_funds(self, code: str) -> bool:
        """Whether closing this card changes anything."""
        return self._find_coupon(code).funds > 0

    def _adjusted(self, c: Coupon, kind: str, amount: Decimal, actual: Body) -> Answer:
        before = self.stock(c.book)
        setattr(c, kind, getattr(c, kind) + amount)
        if amount:
            self.facts.append(("C", c.book, c.code, kind, amount, self.available(c), self.now))
            self._notice(c.book, before)
        return 200, self._durable(self.coupon_body(c, actual))

    # Read

    def coupon(self, code: str, asked: Body, actual: Body) -> Answer:
        """200: the coupon."""
        return 200, self.coupon_body(self._find_coupon(code), actual)

    def _book_id(self, book: int) -> str:
        return str(self.books[book].book_id)

    def _durable(self, body: Body) -> Body:
        return {**body, "durability": "accepted"}


def use_of(c: Coupon, kind: str, asked: Body) -> Use:
    names = ("userId", "orderId", "lockToken", "orderValue", "currency")
    amount, is_lock = asked.get("amount"), kind == "lock"
    if is_lock and not asked.keys() & {"orderValue", "currency", "amount"}:
        asked = {name: value for name, value in asked.items() if name != "items"}  # alone, a lock ignores them
    return Use(c, kind, *(asked.get(name) for name in names), items=asked.get("items", ()), amount=amount)

"""The service's twin, without Redis: what the contract says each request is answered, and what it leaves."""

from typing import Any, NamedTuple

from tests.model import amounts, refusals
from tests.model.limits import Counter
from tests.model.operations import Answer, Body, Operations, use_of
from tests.model.refusals import Refused
from tests.model.state import Coupon, Given, Lock, Redemption

GIVING = {"assign", "assign_any", "gift_to", "checkout"}
"""Operations that may assign a coupon."""


class Kept(NamedTuple):
    """What an Idempotency-Key stands for: a request, what its first success was answered, and what that was about."""

    request: tuple[str, str | None, Body]
    answer: Answer
    about: Lock | Redemption | Given | None


class Model(Operations):
    """A workspace: requests under keys, and what is made of several operations."""

    def __init__(self, now: int) -> None:
        super().__init__(now)
        self.keys: dict[str, Kept] = {}
        self.recorded_keys: list[int] = []
        """The facts with which a key is to be recorded, by their place: each the first of its request."""
        self.retry_after_ms: int | None = None
        """What the last refusal says of when to come again."""
        self.remaining: list[tuple[str, int, int]] = []
        """What the last answer says is left: of which counter, its limit, how many."""

    def answer(self, name: str, code: str | None, asked: Body, actual: Any, key: str = "") -> Answer:
        """What the operation answers, and changes. A refusal's body is its code; it changes and keeps nothing."""
        self.remaining, is_public = [], name == "validate_public"
        rates = self.limits.rates(is_public)
        try:
            _check_amounts(name, asked)  # what can't be read isn't counted
        except Refused as refused:
            return refused.status, refused.code
        answer = self._limited(rates)
        if answer is None:
            answer = self._decided(name, code, asked, actual if isinstance(actual, dict) else {}, key)
            answer = self._counted(rates, is_public, asked.get("code", code), answer)
        self.remaining = [
            (counter[0], most, max(0, most - self.limits.used(counter))) for counter, most in rates.items()
        ]
        return answer

    def _limited(self, rates: dict[Counter, int]) -> Answer | None:
        """The refusal of a request that is one too many: nothing of it is counted."""
        for counter, most in rates.items():
            if self.limits.used(counter) >= most:
                return 429, "rate_limited" if counter[0] == "requests" else "too_many_misses"
        return None

    def _counted(self, rates: dict[Counter, int], is_public: bool, code: str | None, answer: Answer) -> Answer:
        """Count a request, and whether it missed: for a caller that gets no reasons, each refusal is a miss. Past a
        book's limit of misses, a miss is answered with that limit alone."""
        status, body = answer
        reasons = body.get("reasons", ()) if isinstance(body, dict) else (body,)
        is_miss = any(reason in reasons for reason in ("coupon_not_found", "coupon_assigned_to_other"))
        if is_public:
            is_miss = status != 200 or body["reasons"] == ["coupon_not_available"]
        for counter in rates:
            if is_miss or counter[0] == "requests":
                self.limits.count(counter, self.now)
        if not is_miss or is_public or code not in self.coupons:
            return answer
        book = self.coupons[code].book
        most, counter = self.limits.of_book(self.books[book], "misses_per_minute"), ("book", str(book))
        if most is None:
            return answer
        if self.limits.used(counter) >= most:
            return 429, "too_many_misses"
        self.limits.count(counter, self.now)
        return answer

    def _decided(self, name: str, code: str | None, asked: Body, actual: Body, key: str) -> Answer:
        try:
            if kept := self.keys.get(key):
                if kept.request != (name, code, asked):
                    raise Refused("idempotency_key_reused")
                if self._answers(kept):
                    return kept.answer[0], {**(kept.answer[1] or {}), "replayed": True}
            facts = len(self.facts)
            is_kept = self._changes(name, code or "", asked)
            answer = getattr(self, name)(code, asked, actual)
        except Refused as refused:
            self.retry_after_ms = refused.retry_after_ms
            return refused.status, refused.code
        if kept and name in GIVING and answer[0] == 200:
            return answer  # the key stays that of the first fact
        if key and is_kept:
            self.keys[key] = Kept((name, code, asked), answer, self._about(name, answer[1]))
            if name == "checkout" and answer[0] == 201 and facts == len(self.facts):
                self.facts.append(("K", self.now))  # with neither redemption nor gift, the answer is the only fact
            if facts < len(self.facts):
                self.recorded_keys.append(facts)
        return answer

    def _changes(self, name: str, code: str, asked: Body) -> bool:
        """Whether there is something to store under a key: for an unlock or a close that finds nothing there is not."""
        if name == "unlock":
            return self.releases_one(code, asked["lockToken"])
        return name != "close" or self.has_funds(code)

    def _about(self, name: str, body: Body | None) -> Lock | Redemption | Given | None:
        """What an answer of this operation shows as there, if a later request can end it."""
        if name in {"lock", "extend"} and body:
            return next(lock for _, lock in reversed(self.tokens) if lock.token == body["lockToken"])
        if name == "checkout" and body:
            bought, body = body["redemption"], body["gift"]
            if bought:
                return self._made(bought["redemptionId"])
        if name == "redeem" and body:
            return self._made(body["redemptionId"])
        if name in GIVING and body:
            return body["code"], self.coupons[body["code"]].assigned_at
        return None

    def _made(self, redemption_id: str) -> Redemption:
        return next(r for r in self.made if r.id == redemption_id)

    def _answers(self, kept: Kept) -> bool:
        """Whether a key's answer is still true; else its request is decided again. Refused, where a rollback took back
        what it shows."""
        about = kept.about
        if isinstance(about, Lock):
            return any(c.active and about in self.live(c) for c in self.coupons.values())
        if isinstance(about, Redemption):
            if not about.stands:
                raise Refused("already_rolled_back")
        elif about:
            if self.coupons[about[0]].assigned_at == about[1]:
                return True
            if kept.request[0] in {"gift_to", "checkout"} and about in self.rolled_back_gifts:
                raise Refused("already_rolled_back")
            return False
        return True

    # Gift and check out

    def gift_to(self, user: str, asked: Body, actual: Body) -> Answer:
        """201: a random free coupon, once per order; 200 when this user has this book's for it already."""
        book, order = self._book_of(asked["bookId"]), asked["orderId"]
        if standing := self.gift(order):
            if (standing.owner, standing.book) != (user, book):
                raise Refused("order_already_used")
            return 200, self._durable(self.coupon_body(standing, actual))
        for reason in refusals.of_assign_any(self, book, user):
            raise Refused(reason)
        return self._assigned(self._picked(self.free(book), actual), user, actual, order)

    def checkout(self, code: None, asked: Body, actual: Body) -> Answer:
        """201 (200 repeated): redeem and gift as one change; either may be missing."""
        c = self._find_coupon(asked["code"]) if "code" in asked else None
        wanted = self._book_of(asked["giftBookId"]) if "giftBookId" in asked else None
        order, user = asked["orderId"], asked["userId"]
        gift, actual_gift = self.gift(order), actual.get("gift") or {}
        mine = gift if gift and gift.owner == user else None
        repeated = self._redeemed_before(c, asked) if c else None
        if repeated or (mine and not c):
            return 200, self._purchase(asked, repeated, self.coupon_body(mine, actual_gift) if mine else None)
        use = use_of(c, "redeem", asked) if c else None
        if use:
            use.is_anothers = bool(gift and not mine)
            self._judge_redeem(use, asked)
        elif not self._may_be_an_order(asked):
            raise Refused("invalid")
        if gift and not mine:
            raise Refused("order_already_used")
        before = {book: self.stock(book) for book in self.books}
        # As it was, where the order is paid with its own gift.
        gift_body = self.coupon_body(mine, actual_gift) if mine else None
        redemption = self._spend(use, asked, actual.get("redemption") or {}) if use else None
        if not mine and (book := wanted or (self._gift_book(c) if c else None) or self.gift_book):
            mine = self._gift(book, user, order, c, actual_gift)
            gift_body = self.coupon_body(mine, actual_gift) if mine else None
        for book in dict.fromkeys(each.book for each in (c, mine) if each):
            self._notice(book, before[book])
            if redemption and book == redemption.book:
                self._notice_budgets(redemption)
        return 201, self._purchase(asked, redemption, gift_body)

    def _gift(self, book: int, user: str, order: str, bought_with: Coupon | None, actual: Body) -> Coupon | None:
        """The gift, another coupon than the redeemed one; none if the book is empty or the user has had enough."""
        free = self.free(book) - {bought_with.code if bought_with else ""}
        if refusals.of_assign_any(self, book, user) or not free:
            return None
        picked = self._picked(free, actual)
        self._give(picked, user, order)
        return picked

    def _gift_book(self, c: Coupon) -> int | None:
        wanted = self.books[c.book].gift_book_id
        return next((row.book for row in self.books.values() if row.book_id == wanted), None)

    def _purchase(self, asked: Body, redemption: Redemption | None, gift: Body | None) -> Body:
        digits = amounts.DIGITS[asked.get("currency", self.currency)]
        bought = self._redemption_body(redemption) if redemption else None
        final = (bought and bought["finalAmount"]) or amounts.format_amount(asked["orderValue"], digits)
        return self._durable({"redemption": bought, "gift": gift, "finalAmount": final})


def _check_amounts(name: str, asked: Body) -> None:
    """More digits than the currency that the request itself names has are senseless, whatever it is about; and items
    that are worth more than the order."""
    currency, value, items = asked.get("currency"), asked.get("orderValue"), asked.get("items", ())
    if currency and (not amounts.fits_all(asked, currency) or amounts.worth_too_much(value, items, currency)):
        raise Refused("invalid")
    if (amount := asked.get("amount")) is not None:
        is_bad = not amount or (currency and not amounts.fits(amount, amounts.DIGITS[currency]))
        if is_bad or (name == "checkout" and "code" not in asked):
            raise Refused("invalid")

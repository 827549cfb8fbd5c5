"""What may happen in a shop, in any order: hypothesis chooses the steps, and model and service are asked alike."""

from decimal import Decimal
from typing import Any

from hypothesis.stateful import rule

from tests.model import choices as pick
from tests.model.merchant import Merchant
from tests.model.refusals import Use, of_use
from tests.model.state import Coupon, Redemption

_NEVER = "01890000-0000-7000-8000-000000000000"


class Machine(Merchant):
    """Requests of a few users, about a few orders."""

    # Requests

    @rule(
        code=pick.codes, user=pick.users, order=pick.orders, seconds=pick.lock_seconds, basket=pick.lock_baskets,
        keyed=pick.keyed,
    )  # fmt: skip
    def lock(
        self, code: str, user: str, order: str | None, seconds: int | None, basket: dict[str, Any], keyed: bool
    ) -> None:
        self.ask("lock", code, keyed, userId=user, orderId=order, lockSeconds=seconds, **basket)

    @rule(nth=pick.recent, user=pick.users, order=pick.orders, seconds=pick.lock_seconds, basket=pick.lock_baskets)
    def lock_usable(self, nth: int, user: str, order: str | None, seconds: int | None, basket: dict[str, Any]) -> None:
        """Lock a coupon that the model would not refuse, where there is one."""
        code = self.usable(nth, user, order, "lock")
        self.ask("lock", code, userId=user, orderId=order, lockSeconds=seconds, **basket)

    @rule(user=pick.users, order=pick.orders)
    def hoard(self, user: str, order: str | None) -> None:
        """Lock what can be locked, one after the other."""
        for code in dict.fromkeys(self.usable(nth, user, order, "lock") for nth in range(4)):
            row = self.model.books[self.model.coupons[code].book] if code in self.model.coupons else None
            basket = pick.EVERYDAY if row and (row.card or row.budgets) else {}
            self.ask("lock", code, userId=user, orderId=order, **basket)

    @rule(nth=pick.recent, seconds=pick.lock_seconds, basket=pick.lock_baskets)
    def lock_again(self, nth: int, seconds: int | None, basket: dict[str, Any]) -> None:
        """Lock what the same user locked for the same order."""
        code, _, user, order = self.held_lock(nth)
        self.ask("lock", code, userId=user, orderId=order, lockSeconds=seconds, **basket)

    @rule(nth=pick.recent_or_none, seconds=pick.lock_seconds, keyed=pick.keyed)
    def extend(self, nth: int | None, seconds: int | None, keyed: bool) -> None:
        """Extend a lock that is or was."""
        code, token, _, _ = self.held_lock(nth)
        self.ask("extend", code, keyed, lockToken=token, lockSeconds=seconds)

    @rule(nth=pick.recent_or_none, keyed=pick.keyed)
    def unlock(self, nth: int | None, keyed: bool) -> None:
        """Release a lock that is or was."""
        code, token, _, _ = self.held_lock(nth)
        self.ask("unlock", code, keyed, lockToken=token)

    @rule(code=pick.codes, user=pick.users, order=pick.orders, basket=pick.baskets, keyed=pick.keyed)
    def redeem(self, code: str, user: str, order: str | None, basket: dict[str, Any], keyed: bool) -> None:
        """Redeem without a token."""
        self.ask("redeem", code, keyed, userId=user, orderId=order, metadata={"by": user} if keyed else None, **basket)

    @rule(nth=pick.recent, user=pick.users, order=pick.orders, basket=pick.baskets, keyed=pick.keyed)
    def redeem_usable(self, nth: int, user: str, order: str | None, basket: dict[str, Any], keyed: bool) -> None:
        """Redeem a coupon that the model would not refuse but for the order's value, where there is one."""
        self.ask("redeem", self.usable(nth, user, order, "redeem"), keyed, userId=user, orderId=order, **basket)

    @rule(nth=pick.recent, as_=pick.claims, user=pick.users, order=pick.orders, basket=pick.baskets, keyed=pick.keyed)
    def redeem_locked(
        self, nth: int, as_: frozenset[str], user: str, order: str | None, basket: dict[str, Any], keyed: bool
    ) -> None:
        """Redeem what was locked: with its token, user and order, or with another's."""
        self.ask("redeem", self.held_lock(nth)[0], keyed, **self.claim(nth, as_, user, order), **basket)

    @rule(nth=pick.recent, basket=pick.baskets)
    def redeem_again(self, nth: int, basket: dict[str, Any]) -> None:
        """Redeem what the same user redeemed for the same order."""
        if r := self.redemption(nth):
            self.ask("redeem", r.code, userId=r.user, orderId=r.order, **basket)

    @rule(
        code=pick.codes, how=pick.readings, user=pick.users, order=pick.orders, anyone=pick.flags, basket=pick.baskets
    )
    def read(self, code: str, how: str, user: str, order: str | None, anyone: bool, basket: dict[str, Any]) -> None:
        """Validate without a token, for a user or for anyone; or read the coupon."""
        if how == "coupon":
            self.ask("coupon", code)
        else:
            self.ask(how, None, code=code, userId=None if anyone else user, orderId=order, **basket)

    @rule(nth=pick.recent, as_=pick.claims, user=pick.users, order=pick.orders, basket=pick.baskets)
    def validate_locked(
        self, nth: int, as_: frozenset[str], user: str, order: str | None, basket: dict[str, Any]
    ) -> None:
        self.ask("validate", None, code=self.held_lock(nth)[0], **self.claim(nth, as_, user, order), **basket)

    @rule(nth=pick.recent_or_none, code=pick.codes, amount=pick.credit_amounts, keyed=pick.keyed)
    def adjust_card(self, nth: int | None, code: str, amount: Decimal | None, keyed: bool) -> None:
        """Credit a card, or close it, or what may be none."""
        code = code if nth is None else self.card(nth) or code
        if amount is None:
            self.ask("close", code, keyed)
        else:
            self.ask("credit", code, keyed, amount=amount)

    @rule(
        nth=pick.recent, user=pick.users, order=pick.orders, value=pick.values, amount=pick.amounts, how=pick.ways,
        seconds=pick.lock_seconds,
    )  # fmt: skip
    def use_card(
        self,
        nth: int,
        user: str,
        order: str | None,
        value: Decimal,
        amount: Decimal | None,
        how: str,
        seconds: int | None,
    ) -> None:
        """Lock, redeem or validate a card that the model would not refuse, in its currency, for a part of it; or redeem
        one under its lock, for another part than it holds."""
        held = [(code, lock) for code, lock in self.model.tokens if self.model.coupons[code].issued is not None]
        code = self.card(nth, user, order)
        if how == "redeem held" and held:
            code, lock = held[-1 - nth % len(held)]
            self.ask("redeem", code, userId=lock.user, orderId=lock.order, orderValue=value, amount=amount)
        elif code:
            row = self.model.books[self.model.coupons[code].book]
            asked = {"userId": user, "orderId": order, "orderValue": value, "amount": amount}
            asked["currency"] = row.card.currency if row.card else None
            if how == "validate":
                self.ask(how, None, code=code, **asked)
            elif how == "lock":
                self.ask(how, code, **asked, lockSeconds=seconds)
            else:
                self.ask("redeem", code, **asked)

    @rule(code=pick.codes, user=pick.users, keyed=pick.keyed)
    def assign(self, code: str, user: str, keyed: bool) -> None:
        self.ask("assign", code, keyed, userId=user)

    @rule(book=pick.any_books, user=pick.users, keyed=pick.keyed)
    def assign_any(self, book: int | None, user: str, keyed: bool) -> None:
        """Assign a random free coupon."""
        self.ask("assign_any", None, keyed, bookId=str(self.book_id(book) or _NEVER), userId=user)

    @rule(nth=pick.recent, user=pick.users)
    def assign_locked(self, nth: int, user: str) -> None:
        self.ask("assign", self.held_lock(nth)[0], userId=user)

    @rule(nth=pick.recent_or_none, code=pick.codes, keyed=pick.keyed)
    def unassign(self, nth: int | None, code: str, keyed: bool) -> None:
        owned = None if nth is None else self.owned(nth)
        self.ask("unassign", owned.code if owned else code, keyed)

    @rule(book=pick.books, user=pick.users, order=pick.some_orders, keyed=pick.keyed)
    def gift(self, book: int, user: str, order: str, keyed: bool) -> None:
        self.ask("gift_to", user, keyed, bookId=str(self.book_id(book)), orderId=order)

    @rule(
        code=pick.some_codes,
        book=pick.gift_books,
        user=pick.users,
        order=pick.some_orders,
        basket=pick.baskets,
        keyed=pick.keyed,
    )
    def checkout(
        self, code: str | None, book: int | None, user: str, order: str, basket: dict[str, Any], keyed: bool
    ) -> None:
        """Check out with a coupon or without, and with a gift of this book or of the usual one."""
        self.buy(code, book, keyed, userId=user, orderId=order, **basket)

    @rule(nth=pick.recent, book=pick.gift_books, user=pick.users, order=pick.some_orders, basket=pick.baskets)
    def checkout_usable(self, nth: int, book: int | None, user: str, order: str, basket: dict[str, Any]) -> None:
        """Check out with a coupon that the model would not refuse."""
        self.buy(self.usable(nth, user, order, "redeem"), book, False, userId=user, orderId=order, **basket)

    @rule(nth=pick.recent, book=pick.gift_books, order=pick.some_orders, basket=pick.baskets)
    def checkout_owned(self, nth: int, book: int | None, order: str, basket: dict[str, Any]) -> None:
        """Check out with the user's own coupon."""
        if c := self.owned(nth):
            self.buy(c.code, book, False, userId=c.owner, orderId=order, **basket)

    @rule(
        nth=pick.recent,
        as_=pick.claims,
        book=pick.gift_books,
        user=pick.users,
        order=pick.some_orders,
        basket=pick.baskets,
    )
    def checkout_locked(
        self, nth: int, as_: frozenset[str], book: int | None, user: str, order: str, basket: dict[str, Any]
    ) -> None:
        code = self.held_lock(nth)[0]
        claim = self.claim(nth, as_, user, order)
        self.buy(code, book, False, **{**claim, "orderId": claim["orderId"] or order}, **basket)

    @rule(nth=pick.recent_or_none, restore=pick.restores, keyed=pick.keyed)
    def rollback(self, nth: int | None, restore: bool | None, keyed: bool) -> None:
        r = self.redemption(nth)
        self.ask("rollback", r.id if r else _NEVER, keyed, restore=restore)

    @rule(nth=pick.recent_or_none, gift=pick.flags, restore=pick.restores, keyed=pick.keyed)
    def rollback_order(self, nth: int | None, gift: bool, restore: bool | None, keyed: bool) -> None:
        """Roll back an order that used a coupon, or was given one."""
        r, given = self.redemption(nth), list(self.model.gifts)
        order = given[-1 - (nth or 0) % len(given)] if given and gift else r.order if r else None
        self.ask("rollback_order", order or "A-never", keyed, restore=restore)

    @rule(nth=pick.recent, gift=pick.flags, order=pick.orders, basket=pick.baskets)
    def redeem_owned(self, nth: int, gift: bool, order: str | None, basket: dict[str, Any]) -> None:
        """Redeem the user's own coupon, an order's gift perhaps."""
        given = [c for c in map(self.model.gift, self.model.gifts) if c]
        if c := given[nth % len(given)] if gift and given else self.owned(nth):
            self.ask("redeem", c.code, userId=c.owner, orderId=order, **basket)

    @rule(nth=pick.recent, changed=pick.flags)
    def repeat(self, nth: int, changed: bool) -> None:
        """Send a keyed request again; or another one under its key."""
        if self.keyed:
            name, code, asked, key = self.keyed[-1 - nth % len(self.keyed)]
            if changed:
                name, code, asked = "assign", pick.FIRST_CODES[nth], {"userId": pick.USERS[0]}
            self.ask(name, code, False, key, **asked)

    # Several in one turn: a refusal of what is sold out may be shared with others (docs/internals/decisions/0058)

    @rule(book=pick.books, nth=pick.recent, back=pick.flags, later=pick.flags)
    def rush_for_book(self, book: int, nth: int, back: bool, later: bool) -> None:
        """Everybody asks for a coupon of a book until it is sold out, then again: perhaps after a lock or a code has
        ended, and perhaps while one that is assigned is given back."""
        asked = [("assign_any", None, {"bookId": str(self.book_id(book)), "userId": user}) for user in pick.USERS]
        self.ask_together([*asked, *asked])
        if later:
            self.wait("next")
        owned = [c.code for c in self.model.coupons.values() if c.book == book and c.owner]
        given_back = [("unassign", owned[nth % len(owned)], {})] if owned and back else []
        self.ask_together([*asked, *given_back, *asked])

    @rule(nth=pick.recent, back=pick.flags)
    def rush_for_code(self, nth: int, back: bool) -> None:
        """Everybody asks for a code until it is used up, then again: also who redeemed it, for the same order, and
        perhaps while a use is given back."""
        if r := self.redemption(nth):
            redeems = [("redeem", r.code, {"userId": user, **pick.EVERYDAY}) for user in pick.USERS]
            self.ask_together([*redeems, *redeems])
            repeat = [("redeem", r.code, {"userId": r.user, "orderId": r.order, **pick.EVERYDAY})] if r.order else []
            given_back = [("rollback", r.id, {})] if back else []
            self.ask_together([*redeems, *repeat, *given_back, *redeems, ("lock", r.code, {"userId": r.user})])

    # What they need

    def usable(self, nth: int, user: str, order: str | None, kind: str) -> str:
        """A code that this user may lock or redeem for this order; any, where there is none."""
        uses = [Use(c, kind, user, order) for c in self.model.coupons.values()]
        usable = [use.c.code for use in uses if of_use(self.model, use) in ([], ["order_value_required"])]
        return usable[nth % len(usable)] if usable else pick.FIRST_CODES[nth]

    def card(self, nth: int, user: str | None = None, order: str | None = None) -> str | None:
        """The code of a card, one that the user may redeem where there is one; None where there is none."""
        cards = [c for c in self.model.coupons.values() if c.issued is not None]
        usable = [c for c in cards if of_use(self.model, Use(c, "redeem", user, order)) == ["order_value_required"]]
        cards = usable or cards
        return cards[nth % len(cards)].code if cards else None

    def owned(self, nth: int) -> Coupon | None:
        """An assigned coupon; None where there is none."""
        owned = [c for c in self.model.coupons.values() if c.owner]
        return owned[nth % len(owned)] if owned else None

    def held_lock(self, nth: int | None) -> tuple[str, str, str, str | None]:
        """Code, token, user and order of a lock that was given; the first is asked for now."""
        if nth is not None and not self.model.tokens:
            self.lock_usable(nth, pick.USERS[0], None, None, {})
        if nth is None or not self.model.tokens:
            return pick.FIRST_CODES[0], "no-such-token", pick.USERS[0], None
        code, held = self.model.tokens[-1 - nth % len(self.model.tokens)]
        return code, held.token, held.user, held.order

    def buy(self, code: str | None, book: int | None, keyed: bool, **body: Any) -> None:
        """Check out; an order has a value."""
        gift_book = None if book is None else str(self.book_id(book))
        self.ask("checkout", None, keyed, **{**pick.EVERYDAY, "code": code, "giftBookId": gift_book, **body})

    def claim(self, nth: int, as_: frozenset[str], user: str, order: str | None) -> dict[str, Any]:
        """Who uses the nth lock: its token, user and order as far as `as_` has them, else these."""
        _, token, own_user, own_order = self.held_lock(nth)
        return {
            "userId": own_user if "user" in as_ else user,
            "orderId": own_order if "order" in as_ else order,
            "lockToken": token if "token" in as_ else None,
        }

    def redemption(self, nth: int | None) -> Redemption | None:
        """One that was made; the first is asked for now."""
        made = self.model.made
        if nth is not None and not made:
            self.redeem_usable(nth, pick.USERS[0], pick.ORDERS[0], pick.EVERYDAY, False)
        return None if nth is None or not made else made[-1 - nth % len(made)]

"""What may happen in a shop, in any order: hypothesis chooses the steps, and model and service are asked alike."""

from typing import Any

import msgspec
from hypothesis.stateful import initialize, rule

from service.domain.projection import BookRow, DiscountRow
from tests.model import choices as pick
from tests.model.amounts import DIGITS
from tests.model.refusals import Use, of_use
from tests.model.state import Coupon, Redemption
from tests.model.twins import Twins

_NEVER = "01890000-0000-7000-8000-000000000000"


class Machine(Twins):
    """A shop of three books, a few users and a few orders."""

    # Requests

    @rule(code=pick.codes, user=pick.users, order=pick.orders, seconds=pick.lock_seconds, keyed=pick.keyed)
    def lock(self, code: str, user: str, order: str | None, seconds: int | None, keyed: bool) -> None:
        """Lock a coupon."""
        self.ask("lock", code, keyed, userId=user, orderId=order, lockSeconds=seconds)

    @rule(nth=pick.recent, user=pick.users, order=pick.orders, seconds=pick.lock_seconds)
    def lock_usable(self, nth: int, user: str, order: str | None, seconds: int | None) -> None:
        """Lock a coupon that the model would not refuse, where there is one."""
        self.ask("lock", self.usable(nth, user, order, "lock"), userId=user, orderId=order, lockSeconds=seconds)

    @rule(nth=pick.recent, seconds=pick.lock_seconds)
    def lock_again(self, nth: int, seconds: int | None) -> None:
        """Lock what the same user locked for the same order."""
        code, _, user, order = self.held_lock(nth)
        self.ask("lock", code, userId=user, orderId=order, lockSeconds=seconds)

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
        """Validate what was locked."""
        self.ask("validate", None, code=self.held_lock(nth)[0], **self.claim(nth, as_, user, order), **basket)

    @rule(code=pick.codes, user=pick.users, keyed=pick.keyed)
    def assign(self, code: str, user: str, keyed: bool) -> None:
        """Assign a named coupon."""
        self.ask("assign", code, keyed, userId=user)

    @rule(book=pick.any_books, user=pick.users, keyed=pick.keyed)
    def assign_any(self, book: int | None, user: str, keyed: bool) -> None:
        """Assign a random free coupon."""
        self.ask("assign_any", None, keyed, bookId=str(self.book_id(book) or _NEVER), userId=user)

    @rule(nth=pick.recent, user=pick.users)
    def assign_locked(self, nth: int, user: str) -> None:
        """Assign what was locked."""
        self.ask("assign", self.held_lock(nth)[0], userId=user)

    @rule(nth=pick.recent_or_none, code=pick.codes, keyed=pick.keyed)
    def unassign(self, nth: int | None, code: str, keyed: bool) -> None:
        """Take an assignment back."""
        owned = None if nth is None else self.owned(nth)
        self.ask("unassign", owned.code if owned else code, keyed)

    @rule(book=pick.books, user=pick.users, order=pick.some_orders, keyed=pick.keyed)
    def gift(self, book: int, user: str, order: str, keyed: bool) -> None:
        """Give an order's gift."""
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
        """Check out with what was locked."""
        code = self.held_lock(nth)[0]
        claim = self.claim(nth, as_, user, order)
        self.buy(code, book, False, **{**claim, "orderId": claim["orderId"] or order}, **basket)

    @rule(nth=pick.recent_or_none, restore=pick.restores, keyed=pick.keyed)
    def rollback(self, nth: int | None, restore: bool | None, keyed: bool) -> None:
        """Roll a redemption back."""
        r = self.redemption(nth)
        self.ask("rollback", r.id if r else _NEVER, keyed, restore=restore)

    @rule(nth=pick.recent_or_none, gift=pick.flags, restore=pick.restores, keyed=pick.keyed)
    def rollback_order(self, nth: int | None, gift: bool, restore: bool | None, keyed: bool) -> None:
        """Roll back an order that used a coupon, or was given one."""
        r, given = self.redemption(nth), list(self.model.gifts)
        order = given[-1 - (nth or 0) % len(given)] if given and gift else r and r.order
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

    # What changes around them

    @rule()
    def wait_for_next(self) -> None:
        """Time goes on until something begins or ends."""
        self.wait("next")

    @rule(how=pick.waits)
    def wait(self, how: int | str) -> None:
        """Time goes on: to the millisecond at which something ends, or the one before."""
        now = self.model.now
        if isinstance(how, str):
            moments = [at - (how != "next") for at in self.model.moments()]
            now = next((at for at in moments if at > now), now + 1)
        else:
            now += how
        self.model.now = now
        self.stage.run(self.shop.at(now))
        self.count()

    @initialize(first=pick.rules, second=pick.rules, third=pick.rules)
    def begin(self, first: dict[str, Any], second: dict[str, Any], third: dict[str, Any]) -> None:
        """Three books, each with rules of its own and three codes."""
        drawn = [dict(rules) for rules in (first, second, third)]
        gifts = [rules.pop("gift") for rules in drawn]
        for rules in drawn:
            row = self.stage.run(self.shop.book(**self.said_of_book(rules)))
            self.model.put_book(row)
            for code in pick.FIRST_CODES:
                if code.startswith(f"BOOK-{row.book}-"):
                    self.add(code, row, None, None, None)
        for book, gift in zip(pick.BOOKS, gifts, strict=True):
            self.patch(book, ("gift", gift))

    @rule(code=pick.later_codes, book=pick.books, own=pick.own_rules)
    def upload(self, code: str, book: int, own: dict[str, Any]) -> None:
        """A new code, with an owner, a limit, an end of its own."""
        if code not in self.rows:
            ends = None if own["ends"] is None else self.model.now + own["ends"]
            self.add(code, self.model.books[book], own["owner"], own["own_max"], ends)
            self.count()

    @rule(code=pick.codes, change=pick.coupon_changes)
    def patch_coupon(self, code: str, change: tuple[str, Any]) -> None:
        """Switch a coupon, or date it."""
        if code in self.rows:
            c, (name, value) = self.model.coupons[code], change
            if name == "ends" and value is not None:
                value += self.model.now
            setattr(c, name, value)
            row = msgspec.structs.replace(
                self.rows[code], version=self.shop.next_version(), active=c.active, expires_ms=c.ends
            )
            self.rows[code] = row
            self.stage.run(self.shop.projector.coupon(row))
            self.count()

    @rule(code=pick.codes)
    def project_again(self, code: str) -> None:
        """A worker that catches up projects what is there already: nothing changes."""
        if code in self.rows:
            row = self.rows[code]
            self.stage.run(self.shop.projector.coupon(row))
            self.stage.run(self.shop.projector.book(self.model.books[row.book]))
            self.count()

    @rule(book=pick.books, change=pick.book_changes)
    def patch_book(self, book: int, change: tuple[str, Any]) -> None:
        """Change what isn't a limit of uses; it takes effect at once."""
        self.patch(book, change)

    @rule(nth=pick.recent, change=pick.limit_changes)
    def patch_limits(self, nth: int, change: tuple[str, Any]) -> None:
        """Change a limit of a book that was locked; one below what is used already just ends redeeming."""
        name, most = change
        book = self.model.coupons[self.held_lock(nth)[0]].book
        if most == "spent":
            users = pick.USERS if name == "max_redemptions_per_user" else (None,)
            most = max(1, *(self.model.spent(book, user) for user in users))
        self.patch(book, (name, most))

    @rule(book=pick.books, most=pick.uses_a_code)
    def patch_uses(self, book: int, most: int | None) -> None:
        """Change maxRedemptionsPerCode, which is fixed once a code of the book was locked or redeemed."""
        if book not in self.model.touched:
            self.patch(book, ("max_redemptions_per_code", most))

    @rule(user=pick.users, cap=pick.caps)
    def patch_user(self, user: str, cap: int | str | None) -> None:
        """Change how many coupons a user may hold."""
        most = max(1, self.model.held(user)) if isinstance(cap, str) else cap
        self.model.caps[user] = most
        self.stage.run(self.shop.user(user, most))
        self.count()

    @rule()
    def record(self) -> None:
        """The worker records what happened, and trims the outbox: Redis keeps no more than events."""
        self.stage.run(self.shop.record())

    @rule(change=pick.workspace_changes)
    def patch_workspace(self, change: tuple[str, Any]) -> None:
        """Change a setting of the workspace."""
        name, value = change
        if name == "gift":
            self.model.gift_book, self.settings["gift_book_id"] = value, self.book_id(value)
        else:
            setattr(self.model, name, value)
            self.settings[name] = value
        if name == "currency":
            self.settings["digits"] = DIGITS[value]
        self.stage.run(self.shop.put_workspace(**self.settings))
        self.count()

    # What they need

    def book_id(self, book: int | None) -> Any:
        """A book's id; None for none."""
        return None if book is None else self.model.books[book].book_id

    def usable(self, nth: int, user: str, order: str | None, kind: str) -> str:
        """A code that this user may lock or redeem for this order; any, where there is none."""
        uses = [Use(c, kind, user, order) for c in self.model.coupons.values()]
        found = [use.c.code for use in uses if of_use(self.model, use) in ([], ["order_value_required"])]
        return found[nth % len(found)] if found else pick.FIRST_CODES[nth]

    def owned(self, nth: int) -> Coupon | None:
        """A coupon that is somebody's; None where there is none."""
        found = [c for c in self.model.coupons.values() if c.owner]
        return found[nth % len(found)] if found else None

    def held_lock(self, nth: int | None) -> tuple[str, str, str, str | None]:
        """Code, token, user and order of a lock that was given; the first is asked for now."""
        if nth is not None and not self.model.tokens:
            self.lock_usable(nth, pick.USERS[0], None, None)
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

    def add(self, code: str, book: BookRow, owner: str | None, own_max: int | None, ends: int | None) -> None:
        """Enter a new code in both."""
        own = {"owner_id": owner, "max_redemptions": own_max, "expires_ms": ends}
        row = self.shop.code_row(book, code, self.shop.next_version(), **own)
        self.stage.run(self.shop.projector.coupon(row))
        self.rows[code] = row
        self.model.upload(code, book.book, owner, row.created_ms, own_max, ends)

    def patch(self, book: int, change: tuple[str, Any]) -> None:
        """Change one thing of a book in both; what would be senseless stays as it was."""
        if change == ("gift", book):
            return
        said = self.said_of_book(dict([change]))
        if isinstance(said.get("discount"), dict):
            plain = {"max_amount_e4": None, "min_order_value_e4": None, "currency": None, "digits": None}
            said["discount"] = DiscountRow(**{**plain, **said["discount"]})
        row = msgspec.structs.replace(self.model.books[book], **said)
        if None in (row.valid_from_ms, row.valid_until_ms) or row.valid_from_ms < row.valid_until_ms:  # type: ignore[operator]
            self.model.put_book(self.stage.run(self.shop.change(self.model.books[book], **said)))
            self.count()

    def said_of_book(self, rules: dict[str, Any]) -> dict[str, Any]:
        """Drawn rules as a row's fields."""
        said = dict(rules)
        for name, field in (("starts", "valid_from_ms"), ("ends", "valid_until_ms")):
            if name in said:
                after = said.pop(name)
                said[field] = None if after is None else self.model.now + after
        if said.get("valid_from_ms") is not None and said.get("valid_until_ms") is not None:
            said["valid_until_ms"] += said["valid_from_ms"] - self.model.now + 1
        if "gift" in said:
            said["gift_book_id"] = self.book_id(said.pop("gift"))
        if "lives" in said:
            said["lock_seconds"], said["max_lock_seconds"] = said.pop("lives")
        return said

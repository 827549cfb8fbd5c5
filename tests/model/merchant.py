"""What a merchant and time change around requests."""

from typing import Any

import msgspec
from hypothesis.stateful import initialize, rule

from service.engine.domain.configuration import BookRow, DiscountRow
from service.engine.domain.limits import KeyLimits, WorkspaceLimits
from tests.model import choices as pick
from tests.model.amounts import DIGITS
from tests.model.limits import KEYS
from tests.model.state import Coupon
from tests.model.twins import Twins


class Merchant(Twins):
    """A shop of three books and two keys."""

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
        self.databases.run(self.shop.at(now))
        self.forget_minutes()
        self.count()

    @initialize(first=pick.rules, second=pick.rules, third=pick.rules, live_locks=pick.live_locks)
    def begin(
        self, first: dict[str, Any], second: dict[str, Any], third: dict[str, Any], live_locks: int | None
    ) -> None:
        """Three books, each with rules of its own and three codes, and what keys may lock."""
        for key in KEYS:
            self.model.limits.of_keys[key] = KeyLimits(live_locks=live_locks)
        drawn = [dict(rules) for rules in (first, second, third)]
        gifts = [rules.pop("gift") for rules in drawn]
        for rules in drawn:
            row = self.databases.run(self.shop.book(**self.fields_of_book(rules)))
            self.model.books[row.book] = row
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
            c.locks = c.locks if c.active else []  # switched off, it ends them
            row = msgspec.structs.replace(
                self.rows[code], version=self.shop.next_version(), active=c.active, expires_ms=c.ends
            )
            self.rows[code] = row
            self.databases.run(self.shop.projector.coupon(row))
            self.count()

    @rule(code=pick.codes)
    def project_again(self, code: str) -> None:
        """A worker that catches up projects what is there already: nothing changes."""
        if code in self.rows:
            row = self.rows[code]
            self.databases.run(self.shop.projector.coupon(row))
            self.databases.run(self.shop.projector.book(self.model.books[row.book]))
            self.count()

    @rule(book=pick.books, change=pick.book_changes)
    def patch_book(self, book: int, change: tuple[str, Any]) -> None:
        """Change what isn't a limit of uses; it takes effect at once."""
        self.patch(book, change)

    @rule(nth=pick.recent, change=pick.limit_changes)
    def patch_limits(self, nth: int, change: tuple[str, Any]) -> None:
        """Change a limit of a book that was locked; one below what is used already just ends redeeming."""
        if not self.model.tokens:
            return
        name, most = change
        book = self.model.coupons[self.model.tokens[-1 - nth % len(self.model.tokens)][0]].book
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
        self.databases.run(self.shop.user(user, most))
        self.count()

    @rule()
    def record(self) -> None:
        """The worker records what happened, and trims the outbox: Redis keeps no more than events."""
        self.databases.run(self.shop.record())

    @rule(change=pick.workspace_changes)
    def patch_workspace(self, change: tuple[str, Any]) -> None:
        name, value = change
        if name == "gift":
            self.model.gift_book, self.settings["gift_book_id"] = value, self.book_id(value)
        elif name == "limits":
            self.model.limits.of_books, self.settings["limits"] = value, WorkspaceLimits(books=value)
        else:
            setattr(self.model, name, value)
            self.settings[name] = value
        if name == "currency":
            self.settings["digits"] = DIGITS[value]
        self.databases.run(self.shop.put_workspace(**self.settings))
        self.count()

    @rule(key=pick.credentials, change=pick.key_changes)
    def patch_key(self, key: str, change: tuple[str, int | None]) -> None:
        of_keys = self.model.limits.of_keys
        of_keys[key] = msgspec.structs.replace(of_keys[key], **dict([change]))
        self.count()

    @rule(key=pick.credentials, address=pick.addresses)
    def come_from(self, key: str, address: str) -> None:
        """From now on requests are another key's, from another address."""
        self.model.limits.key, self.model.limits.address = key, address
        self.count()

    # What that needs

    def book_id(self, book: int | None) -> Any:
        return None if book is None else self.model.books[book].book_id

    def add(self, code: str, book: BookRow, owner: str | None, own_max: int | None, ends: int | None) -> None:
        """Enter a new code in both."""
        own = {"owner_id": owner, "max_redemptions": own_max, "expires_ms": ends}
        row = self.shop.code_row(book, code, self.shop.next_version(), **own)
        self.databases.run(self.shop.projector.coupon(row))
        self.rows[code] = row
        assigned_at = row.created_ms if owner else None
        self.model.coupons[code] = Coupon(code, book.book, own_max, owner, assigned_at, ends)

    def patch(self, book: int, change: tuple[str, Any]) -> None:
        """Change one thing of a book in both; what would be senseless stays as it was."""
        if change == ("gift", book):
            return
        fields = self.fields_of_book(dict([change]))
        if isinstance(fields.get("discount"), dict):
            own: dict[str, Any] = {"max_amount_e4": None, "min_order_value_e4": None}
            own |= {"currency": self.model.currency, "digits": DIGITS[self.model.currency]}
            fields["discount"] = DiscountRow(**own | fields["discount"])
        row = msgspec.structs.replace(
            self.model.books[book], **{name: value for name, value in fields.items() if name != "end_locks"}
        )
        if None in (row.valid_from_ms, row.valid_until_ms) or row.valid_from_ms < row.valid_until_ms:  # type: ignore[operator]
            self.model.books[book] = self.databases.run(self.shop.change(self.model.books[book], **fields))
            if "end_locks" in fields:
                self.model.end_locks(book)
            self.count()

    def fields_of_book(self, rules: dict[str, Any]) -> dict[str, Any]:
        """Drawn rules as a row's fields."""
        fields = dict(rules)
        for name, column in (("starts", "valid_from_ms"), ("ends", "valid_until_ms")):
            if name in fields:
                after = fields.pop(name)
                fields[column] = None if after is None else self.model.now + after
        if fields.get("valid_from_ms") is not None and fields.get("valid_until_ms") is not None:
            fields["valid_until_ms"] += fields["valid_from_ms"] - self.model.now + 1
        if "gift" in fields:
            fields["gift_book_id"] = self.book_id(fields.pop("gift"))
        if "lives" in fields:
            fields["lock_seconds"], fields["max_lock_seconds"] = fields.pop("lives")
        return fields

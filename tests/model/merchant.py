"""What a merchant and time change around requests."""

from collections import defaultdict
from typing import Any

import msgspec
from hypothesis.stateful import initialize, rule

from service.engine.domain.configuration import BookRow, DiscountRow
from service.engine.domain.field_types import encode_field
from service.engine.domain.limits import KeyLimits, WorkspaceLimits
from service.engine.formats import key_names
from service.engine.formats.bounds import Spent, counters_of, encode_spent, spans_at
from service.engine.formats.stored_settings import zone_of
from tests.model import choices as pick
from tests.model.amounts import DIGITS, units
from tests.model.limits import KEYS
from tests.model.state import Coupon, Redemption
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
            moments = self.model.periods() if how.endswith("period") else self.model.moments()
            moments = [at - how.startswith("before") for at in moments]
            now = next((at for at in moments if at > now), now + 1)
        else:
            now += how
        self.model.now = now
        self.databases.run(self.shop.at(now))
        self.forget_minutes()
        self.count()

    @initialize(
        first=pick.rules,
        second=pick.rules,
        third=pick.rules,
        card=pick.cards,
        live_locks=pick.live_locks,
        after=pick.starts,
    )
    def begin(
        self,
        first: dict[str, Any],
        second: dict[str, Any],
        third: dict[str, Any],
        card: dict[str, Any] | None,
        live_locks: int | None,
        after: int,
    ) -> None:
        """Three books, each with rules of its own and three codes, often one of cards; and what keys may lock."""
        self.model.now += after
        self.databases.run(self.shop.at(self.model.now))
        for key in KEYS:
            self.model.limits.of_keys[key] = KeyLimits(live_locks=live_locks)
        drawn = [dict(rules) for rules in (first, second, third)]
        if card:  # few of the other rules, which refuse much
            drawn[2] |= pick.USUAL | {"discount": card}
        gifts = [rules.pop("gift") for rules in drawn]
        for rules in drawn:
            row = self.databases.run(self.shop.book(**self.fields_of_book(rules), updated_ms=self.model.now))
            self.model.books[row.book] = row
            for code in pick.FIRST_CODES:
                if code.startswith(f"BOOK-{row.book}-"):
                    self.add(code, row, None, None, None, None)
        for book, gift in zip(pick.BOOKS, gifts, strict=True):
            self.patch(book, ("gift", gift))

    @rule(code=pick.later_codes, book=pick.books, own=pick.own_rules, amount=pick.card_amounts)
    def upload(self, code: str, book: int, own: dict[str, Any], amount: int | None) -> None:
        """A new code, with an owner, a limit, an end, and of a card an amount of its own."""
        if code not in self.rows:
            row = self.model.books[book]
            ends = None if own["ends"] is None else self.model.now + own["ends"]
            self.add(code, row, own["owner"], None if row.card else own["own_max"], ends, amount)
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

    @rule(book=pick.books, change=pick.book_changes, steps=pick.steps)
    def patch_book(self, book: int, change: tuple[str, Any], steps: int) -> None:
        """Change what isn't a limit of uses; it takes effect at once, budgets once the worker has counted."""
        self.patch(book, change)
        self.count_before(book, steps)

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
        """Change maxRedemptionsPerCode, which is fixed once a code of the book was locked or redeemed. Of cards it is
        null."""
        if book not in self.model.touched and not self.model.books[book].card:
            self.patch(book, ("max_redemptions_per_code", most))

    @rule(book=pick.books, steps=pick.steps)
    def count_before(self, book: int, steps: int) -> None:
        """The worker begins to count what was redeemed before; then it adds that to what was counted since."""
        for _ in range(steps):
            if book in self.model.uncounted:
                self.count_step(book)
                self.count()

    @rule(user=pick.users, cap=pick.caps)
    def patch_user(self, user: str, cap: int | str | None) -> None:
        """Change how many coupons a user may hold."""
        most = max(1, self.model.held(user)) if isinstance(cap, str) else cap
        self.model.caps[user] = most
        self.databases.run(self.shop.user(user, most))
        self.count()

    @rule(sweeps=pick.flags)
    def record(self, sweeps: bool) -> None:
        """The worker records what happened, and trims the outbox: Redis keeps no more than events. Or it removes locks
        that have expired."""
        if not sweeps:
            self.databases.run(self.shop.record())
            return
        names = (self.shop.caller.gate, f"{self.shop.caller.prefix}w")
        for book in self.model.books:
            for which in "uapo":
                while self.databases.run(self.shop.work("sweep_locks", names, book, which))[2]:
                    pass
        self.compare(is_swept=True)

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

    def end_counting(self) -> None:
        for book in list(self.model.uncounted):
            self.patch(book, ("bounds", pick.NO_BOUNDS))

    def count_step(self, book: int) -> None:
        """A step of the worker that counts what was redeemed before a book had budgets."""
        row, made = self.model.books[book], self.model.uncounted[book]
        if made is None:
            if not self.databases.run(self.shop.link.call("XLEN", key_names.outbox(0))):
                return  # the product leaves the last entry there
            self.states[book] = self.databases.run(self.shop.count_before(row))
            self.model.uncounted[book] = [r for r in self.model.redemptions() if r.book == book and r.taken]
            return
        end = str(row.counted_from)
        things = words_of(row, made)
        self.same("counted", self.databases.run(self.shop.count_before(row, self.states[book], end, *things)), end)
        del self.model.uncounted[book]
        self.model.books[book] = self.databases.run(self.shop.change(row, is_counted=True))

    def add(
        self,
        code: str,
        book: BookRow,
        owner: str | None,
        own_max: int | None,
        ends: int | None,
        amount_e4: int | None,
    ) -> None:
        """Enter a new code in both."""
        own: dict[str, Any] = {"owner_id": owner, "max_redemptions": own_max, "expires_ms": ends}
        if book.card and amount_e4:
            own["amount_e4"] = amount_e4
        row = self.shop.code_row(book, code, self.shop.next_version(), **own)
        self.databases.run(self.shop.projector.coupon(row))
        self.rows[code] = row
        assigned_at = row.created_ms if owner else None
        issued = None if row.amount_e4 is None else units(row.amount_e4)
        self.model.coupons[code] = Coupon(code, book.book, own_max, owner, assigned_at, ends, issued=issued)

    def patch(self, book: int, change: tuple[str, Any]) -> None:
        """Change one thing of a book in both; what would be senseless stays as it was."""
        if change == ("gift", book):
            return
        before, fields = self.model.books[book], self.fields_of_book(dict([change]))
        if "discount" in fields and is_of_cards(fields["discount"]) != bool(before.card):
            return
        if isinstance(fields.get("discount"), dict):
            own: dict[str, Any] = {"max_amount_e4": None, "min_order_value_e4": None}
            own |= {"currency": self.model.currency, "digits": DIGITS[self.model.currency]} | fields["discount"]
            if before.card:  # whose currency is fixed
                own |= {"currency": before.card.currency, "digits": before.card.digits}
            fields["discount"] = DiscountRow(**own)
        plain = {name: value for name, value in fields.items() if name not in ("end_locks", "budgets", "use_limits")}
        row = msgspec.structs.replace(before, **plain)
        if None in (row.valid_from_ms, row.valid_until_ms) or row.valid_from_ms < row.valid_until_ms:  # type: ignore[operator]
            changed = self.model.books[book] = self.databases.run(self.shop.change(before, **fields))
            if not changed.bounds:
                self.model.uncounted.pop(book, None)
            elif changed.counted_from != before.counted_from:
                self.model.uncounted[book] = None
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
        fields |= fields.pop("bounds", {})
        if is_of_cards(fields.get("discount")):
            fields["max_redemptions_per_code"] = None
        if "gift" in fields:
            fields["gift_book_id"] = self.book_id(fields.pop("gift"))
        if "lives" in fields:
            fields["lock_seconds"], fields["max_lock_seconds"] = fields.pop("lives")
        return fields


def is_of_cards(discount: dict[str, Any] | None) -> bool:
    return bool(discount) and discount["type"] == "balance"


def words_of(row: BookRow, made: list[Redemption]) -> list[Any]:
    """What was redeemed, by the book's counters and by user, as budget_counter.py sends it; of every period."""
    sums, zone = defaultdict[str | None, dict[str, Spent]](dict), zone_of(row)
    for r in made:
        for span in spans_at(zone, r.at if r.counted is None else r.counted):
            for whose in (None, r.user):
                before = sums[whose].get(span.name, Spent(0, 0))
                sums[whose][span.name] = Spent(before.amount_e4 + int(r.discount * 10_000), before.uses + 1)
    words = list[Any]()
    for period, some in sums.pop(None, {}).items():
        counters = counters_of(row.counted_from, period, some)
        words += [word for name, by in counters.items() for word in ("b", name, by, "-")]
    for user, spent in sums.items():
        name = encode_field(user)
        words += ("u", name, key_names.bucket(name), encode_spent(spent))
    return words

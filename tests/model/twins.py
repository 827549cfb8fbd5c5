"""Model and service, asked the same: all that they answer and hold must be the same."""

from collections import Counter
from dataclasses import replace
from decimal import Decimal
from typing import Any, ClassVar
from uuid import UUID
from zlib import crc32

import msgspec
from hypothesis.stateful import RuleBasedStateMachine

from service.engine.domain.configuration import CodeRow
from service.engine.domain.limits import KeyLimits, address_counter, encode_key_limits
from service.engine.formats import events
from service.engine.formats.events import (
    Answered,
    Assigned,
    BalanceChanged,
    Redeemed,
    RolledBack,
    StockNotice,
    Unassigned,
)
from service.engine.operations import assign, cards, checkout, coupon_view, gift, lock, redeem, rollback, unassign
from service.engine.operations.base import Operation
from service.engine.operations.caller import Caller
from service.server.in_redis.workspace_state import Workspace
from tests.harness.script_runner import NOW_MS
from tests.harness.shop import together
from tests.lua.consistency import assert_consistent
from tests.lua.outbox import parse_entry
from tests.model import choices as pick
from tests.model.amounts import units
from tests.model.databases import Databases
from tests.model.limits import KEYS
from tests.model.model import Model
from tests.model.rebuilding import assert_same, rebuild

OPERATIONS: dict[str, Operation] = {
    "assign": assign.ASSIGN_CODE,
    "assign_any": assign.ASSIGN_ANY,
    "unassign": unassign.UNASSIGN,
    "lock": lock.LOCK,
    "extend": lock.EXTEND,
    "unlock": lock.UNLOCK,
    "redeem": redeem.REDEEM,
    "validate": redeem.VALIDATE,
    "validate_public": redeem.VALIDATE,
    "rollback": rollback.ROLLBACK,
    "rollback_order": rollback.ROLLBACK_ORDER,
    "gift_to": gift.GIFT,
    "checkout": checkout.CHECKOUT,
    "credit": cards.CREDIT,
    "close": cards.CLOSE,
    "coupon": coupon_view.READ,
}
"""By the model's names."""
Request = tuple[str, str | None, dict[str, Any]]
"""An operation by its name, the name in its path, and its body."""
CHECKED_EVERY = 50
UNLIMITED = "inside"
"""A key that never has limits: its requests join others of their turn."""
_WORKSPACE = UUID(int=1)
"""Always the same, since by it addresses share counters."""


class Twins(RuleBasedStateMachine):
    """A shop and its model; `databases` says on which server."""

    databases: ClassVar[Databases]
    tally: ClassVar[Counter[str]]
    """How often each operation was answered how, over all examples."""

    def __init__(self) -> None:
        super().__init__()
        self.shop = self.databases.run(self.databases.shop(0))
        self.shop.caller = replace(self.shop.caller, workspace_id=_WORKSPACE)
        self.key_ids = {key: UUID(int=number) for number, key in enumerate((*KEYS, UNLIMITED), 1)}
        self.model = Model(NOW_MS)
        self.model.limits.of_keys[UNLIMITED] = KeyLimits()
        self.settings: dict[str, Any] = {}
        self.rows: dict[str, CodeRow] = {}
        self.keyed: list[tuple[str, str | None, dict[str, Any], str]] = []
        self.steps, self.keys = 0, 0
        self.states: dict[int, str] = {}
        """Of books of which the worker counts what was redeemed before they had budgets: how far it is."""
        self.broken = False
        """Whether there was a difference: then the rest is not compared."""

    def end_counting(self) -> None:
        """Leave no book of which the worker still counts what was redeemed before it had budgets."""

    # Asking both

    def ask(self, name: str, code: str | None, keyed: bool = False, key: str = "", /, **body: Any) -> None:
        """One request to service and model; the answers must be the same."""
        asked = {field: value for field, value in body.items() if value is not None}
        if keyed:
            self.keys += 1
            key = f"key-{self.keys}"
            self.keyed.append((name, code, asked, key))
        self.count()
        fingerprint = f"{crc32(repr((name, code, asked)).encode()):08x}"
        self.shop.refusal, plain = None, self.shop.caller
        self.shop.caller, self.shop.address = self._caller(name == "validate_public"), self.model.limits.address
        actual = self.databases.run(self.shop.do(OPERATIONS[name], code, key=key, fingerprint=fingerprint, **asked))
        self.shop.caller = plain
        expected = self.model.answer(name, code, asked, actual[1], key)
        self.tally[f"{name} {actual[1] if isinstance(actual[1], str) else actual[0]}"] += 1
        self.same((name, code, asked, key), actual, expected)
        self.same("what is left", _left(self.shop.rates), self.model.remaining)
        if (refusal := self.shop.refusal) and refusal.code in {"coupon_locked", "lock_quota"}:
            self.same("Retry-After", refusal.retry_after_ms, self.model.retry_after_ms)
        if refusal and refusal.code in {"budget_exhausted", "period_limit"}:
            self.same("renewsAt", refusal.figures["renewsAt"], self.model.renews_next)

    def ask_together(self, requests: list[Request]) -> None:
        """Requests of one turn of an API process, which decides them in their order, by a key without limits; one after
        the other where facts may be missing, since a request that waits for them is decided later."""
        if self.shop.outbox:
            for name, code, body in requests:
                self.ask(name, code, **body)
            return
        for _ in requests:
            self.count()
        plain, key, self.model.limits.key = self.shop.caller, self.model.limits.key, UNLIMITED
        self.shop.caller, self.shop.address = self._caller(is_public=False), self.model.limits.address
        asked = [self.shop.do(OPERATIONS[name], code, **body) for name, code, body in requests]
        answers = self.databases.run(together(*asked))
        self.shop.caller = plain
        for (name, code, body), actual in zip(requests, answers, strict=True):
            expected = self.model.answer(name, code, body, actual[1], "")
            self.tally[f"{name} {actual[1] if isinstance(actual[1], str) else actual[0]}"] += 1
            self.same((name, code, body), actual, expected)
        self.model.limits.key = key

    def _caller(self, is_public: bool) -> Caller:
        """The key that asks, under the limits that go for it."""
        limits, plain = self.model.limits, self.shop.caller
        books = [limits.of_books, *(row.limits for row in self.model.books.values() if row.limits)]
        of_books = any(each.misses_per_minute is not None for each in books)
        return replace(
            plain,
            key_id=self.key_ids[limits.key],
            scopes=frozenset({"public"}) if is_public else plain.scopes,
            limits=encode_key_limits(limits.of_keys[limits.key], None, None, of_books=of_books),
        )

    def forget_minutes(self) -> None:
        """Counters whose minute is over on the still clock end in Redis, too."""
        prefix, salt = self.shop.caller.prefix, self.shop.caller.workspace_id.bytes
        for of, whose in self.model.limits.ended(self.model.now):
            match of:
                case "address":
                    key = f"a:{address_counter(whose, salt)}"
                case "book":
                    key = f"b:{whose}"
                case _:
                    key = f"{of[0]}:{self.key_ids[whose].hex.upper()}"
            assert self.databases.run(self.shop.link.call("DEL", f"{prefix}q:{key}")) == 1, key

    def count(self) -> None:
        """One more step; every so often all is compared."""
        self.steps += 1
        self.tally["steps"] += 1
        if self.steps % CHECKED_EVERY == 0:
            self.compare()

    def same(self, what: Any, actual: Any, expected: Any) -> None:
        """Both must be equal; else the machine stops, and hypothesis looks for the shortest way here."""
        if actual != expected:
            self.broken = True
            raise AssertionError(f"{what}:\n  the service says {actual}\n  the contract    {expected}")

    # Comparing all

    def compare(self, *, is_swept: bool = False) -> None:
        """Every coupon, count and fact must be the model's, and all that Redis counts must add up."""
        for code in self.rows:
            _, actual = self.databases.run(self.shop.do(coupon_view.READ, code))
            self.same(code, actual, self.model.coupon_body(self.model.coupons[code], actual))
        workspace = Workspace(self.shop.decider)
        for row in self.model.books.values():
            counts = self.databases.run(workspace.book_counts(self.shop.caller, str(row.book_id)))
            actual = msgspec.to_builtins(counts)
            self.same(f"stats of {row.book}", actual, self.model.stats(row.book, actual, is_swept=is_swept))
        for user in pick.USERS:
            held = self.databases.run(workspace.user_coupons(self.shop.caller, user))
            self.same(f"coupons of {user}", held, self.model.held(user))
        facts, recorded_keys = list[tuple[Any, ...]](), list[int]()
        for entry_id, fields in self.databases.run(self.shop.read_outbox_entries()):
            recorded_keys += [len(facts)] * ("i" in fields)
            facts += _facts(parse_entry(entry_id, fields))
        self.same("facts", facts, self.model.facts)
        self.same("facts with a key", recorded_keys, self.model.recorded_keys)
        self.holds(assert_consistent(self.shop))

    def holds(self, check: Any) -> None:
        """Await a check that raises."""
        try:
            self.databases.run(check)
        except AssertionError:
            self.broken = True
            raise

    def teardown(self) -> None:
        """Compare all, and rebuild it from configuration and events."""
        if not self.broken and self.rows:
            self.compare()
            self.end_counting()
            other = self.databases.run(self.databases.shop(1))
            self.databases.run(rebuild(self.shop, other, self.model, self.settings, list(self.rows.values())))
            other.limits_changed = self.shop.limits_changed
            self.holds(assert_same(self.shop, other))
            self.holds(assert_consistent(other))


def _left(rates: str) -> list[tuple[str, int, int]]:
    """Name, limit and what is left; not after how many seconds it begins again."""
    words = rates.split()
    return [(name, int(most), int(left)) for name, most, left in zip(words[::4], words[1::4], words[2::4], strict=True)]


def _units(amount_e4: int | None) -> Decimal | None:
    return None if amount_e4 is None else units(amount_e4)


def _facts(event: events.Event | None) -> list[tuple[Any, ...]]:  # noqa: PLR0911, one for each kind
    """An event's facts as the model has them; a redemption's may have a gift with it."""
    match event:
        case Assigned():
            return [("A", event.book, event.code, event.user, event.at_ms, event.order)]
        case Unassigned():
            return [("U", event.book, event.code, event.user, event.at_ms, event.order)]
        case BalanceChanged():
            sums = (units(event.amount_e4), units(event.balance_after_e4))
            return [("C", event.book, event.code, event.kind, *sums, event.at_ms)]
        case Redeemed():
            about = (event.book, event.code, event.user, event.order, event.redemption_id)
            amounts = (_units(event.value_e4), event.currency, units(event.discount_e4))
            fact = ("R", *about, *amounts, event.at_ms, event.counted_ms, _units(event.balance_after_e4))
            return [fact, *_facts(event.gift)]
        case RolledBack():
            about = (event.book, event.code, event.user, event.order, event.redemption_id)
            return [("B", *about, event.at_ms, event.restore, _units(event.balance_after_e4))]
        case StockNotice():
            return [("S", event.book, event.notice, event.what, event.left, event.at_ms)]
        case Answered():
            return [("K", event.at_ms)]
    return []

"""Random requests of a shop with coupons of all kinds, as commands that can be run again on another Redis."""

import random
from collections.abc import Callable
from decimal import Decimal
from typing import Any
from uuid import UUID

import msgspec

from service.engine.deciding.recall import AS_OF
from service.engine.domain.configuration import BookRow, TierRow
from service.engine.domain.outcomes import RECALL
from service.engine.domain.settings import described
from service.engine.formats.events import parse_record
from service.engine.formats.redemption_id import id_from_event
from service.engine.operations import assign, checkout, coupon_view, gift, lock, redeem, rollback, unassign
from service.engine.operations.base import Call, Command, Operation
from tests.harness.colliding import colliding
from tests.harness.script_runner import NOW_MS
from tests.harness.shop import Shop

USERS, USERS_AT_AN_OPENING, ORDERS, KEYS = 4, 9, 8, 20
GIFTS = UUID(int=7)
PERCENT = {"type": "percentage", "value_e4": 150_000, "max_amount_e4": 50_000, "currency": "USD", "digits": 2}
FIXED = {"type": "fixed", "value_e4": 200_000}
KINDS: list[dict[str, Any]] = [
    {},
    {"discount": PERCENT, "max_redemptions_per_user": 1},
    {"max_redemptions_per_code": 3, "max_redemptions": 5},
    {"max_redemptions": 4, "low_stock_threshold": 3},
    {"require_lock": True, "valid_until_ms": NOW_MS + 400_000},
    {"max_redemptions_per_code": None, "max_redemptions_per_user": 2},
]
KINDS_IN_A_SALE: dict[str, list[Any]] = {
    "valid_from_ms": [None, None, NOW_MS + 150_000],
    "valid_until_ms": [None, NOW_MS + 300_000, NOW_MS + 900_000],
    "max_redemptions_per_user": [None, 1, 2],
    "max_redemptions": [None, None, None, None, 5],
    "require_lock": [False, False, True],
    "low_stock_threshold": [None, 8, 7],
    "limits": [None, None, None, {"locksPerUser": 1}],
    "discount": [None, PERCENT, {"type": "percentage", "value_e4": 333_333, "min_order_value_e4": 1_000_000}, FIXED],
}
"""The rules of a book in a sale, each drawn alone: what the usual texts check is usual or not."""
KINDS_OF_REQUESTS = {
    "lock": 24, "redeem": 24, "validate": 8, "extend": 5, "unlock": 4, "assign": 5, "any": 5, "unassign": 3,
    "checkout": 6, "gift": 4, "rollback": 6, "rollback_order": 3, "coupon": 2,
}  # fmt: skip
REQUESTS_IN_A_SALE = {"lock": 50, "redeem": 40, "unlock": 3, "rollback": 4, "extend": 2, "assign": 3}
KINDS_AT_AN_OPENING: dict[str, list[Any]] = {
    "max_codes_per_user": [None, 1, 2],
    "valid_from_ms": [None, None, NOW_MS + 150_000],
    "valid_until_ms": [None, None, NOW_MS + 900_000],
    "require_lock": [False, False, False, True],
    "max_redemptions_per_user": [None, None, 3],
    "max_redemptions": [None, None, 7],
    "discount": [None, FIXED],
}
"""The rules of a book that is soon sold out, and of one whose codes are soon used up."""
REQUESTS_AT_AN_OPENING = {
    "any": 46, "lock": 20, "redeem": 22, "unlock": 2, "rollback": 3, "unassign": 2, "assign": 2, "checkout": 1,
}  # fmt: skip


TIERS = (
    TierRow(from_e4=0, type="percentage", value_e4=100_000),
    TierRow(from_e4=500_000, type="fixed", value_e4=100_000),
)
KINDS_OF_RULES: dict[str, list[Any]] = {
    "status": [*["active"] * 19, "inactive"],
    "valid_from_ms": [*[None] * 4, NOW_MS - 1000, NOW_MS - 1000, NOW_MS + 150_000],
    "valid_until_ms": [*[None] * 4, NOW_MS + 200_000, NOW_MS + 9_000_000],
    "max_redemptions_per_code": [*[1] * 12, 2, None],
    "max_redemptions_per_user": [None, None, 1, 3, 5],
    "max_redemptions": [*[None] * 9, 3],
    "max_codes_per_user": [None, None, 2],
    "require_assignment": [*[False] * 15, True],
    "require_lock": [*[False] * 7, True],
    "lock_seconds": [300, 300, 20],
    "max_lock_seconds": [3600, 3600, 400],
    "limits": [*[None] * 7, {"locksPerUser": 2}],
    "low_stock_threshold": [None, None, 3],
    "gift_book_id": [None, None, GIFTS],
    "public_reasons": [False, True],
    "budgets": [*[()] * 7, [(60, "book", "day")], [(9, "user", "lifetime"), (70, "book", "month")]],
    "use_limits": [*[()] * 9, [(3, "user", "day"), (9, "book", "month")]],
    "discount": [
        None, None, FIXED, PERCENT, {"type": "percentage", "value_e4": 330_000, "min_order_value_e4": 400_000},
        {"type": "percentage", "value_e4": 500_000, "max_amount_e4": 70_000}, {"type": "tiered", "tiers": TIERS},
        {"type": "buyXGetY", "buy": 1, "get": 1}, FIXED | {"currency": "EUR", "digits": 2},
    ],
}  # fmt: skip
KINDS_OF_RULES |= {
    name: [field.setting.default] * 7 + ([True] if field.kind is bool else [1, 3])
    for name, field in described(BookRow).items()
    if name not in KINDS_OF_RULES
}
"""Every setting of a book, most of them usual: so the usual texts decide about most books, whatever else they say."""
KINDS_OF_CODES: list[dict[str, Any]] = [
    {"max_redemptions": 1}, {"max_redemptions": 2}, {"expires_ms": NOW_MS + 60_000}, {"owner_id": "u1"},
    {"active": False},
]  # fmt: skip
REQUESTS_UNDER_RULES = {
    "lock": 40, "redeem": 44, "validate": 2, "extend": 2, "unlock": 3, "assign": 3, "unassign": 1, "rollback": 5,
}  # fmt: skip


class Requests:
    """Draws requests, of every kind, as in a sale, as at an opening, which is mostly refusals, or under rules, of books
    with any settings. `note` each reply: later requests name its token or redemption."""

    def __init__(
        self, shop: Shop, seed: int, *, sale: bool = False, opening: bool = False, rules: bool = False
    ) -> None:
        self._shop, self._random, self._sale, self._opening = shop, random.Random(seed), sale, opening
        self._rules = rules
        self._kinds = REQUESTS_AT_AN_OPENING if opening else REQUESTS_IN_A_SALE if sale else KINDS_OF_REQUESTS
        if rules:
            self._kinds = REQUESTS_UNDER_RULES
        self._codes: list[str] = []
        self._free: list[str] = []
        self._locked: list[tuple[str, str, str | None, str]] = []
        self._redeemed: list[str] = []
        self._keyed: list[Command] = []
        self._count = 0

    async def stock(self) -> None:
        """Make the books."""
        if self._opening:
            await self._stock_little()
            return
        if self._rules:
            await self._stock_rules()
            return
        drawn = [{name: self._random.choice(of) for name, of in KINDS_IN_A_SALE.items()} for _ in range(3)]
        for number, rules in enumerate(drawn if self._sale else KINDS):
            codes = [f"C{number}-{n}" for n in range(9 if self._sale else 3)]
            await self._shop.book(*codes, **rules)
            self._codes += codes
        # A random pick among codes of one bucket depends on the clock alone.
        for codes in (colliding(6)[:3], colliding(6)[3:]):
            self._free.append(str((await self._shop.book(*codes)).book_id))
            self._codes += codes[:1]

    async def _stock_rules(self) -> None:
        """Books with any settings, of codes of any kind."""
        for number in range(24):
            codes = [f"C{number}-{n}" for n in range(14)]
            rules = {name: self._random.choice(of) for name, of in KINDS_OF_RULES.items()}
            book = await self._shop.book(*codes[2:], **rules)
            for code in codes[:2]:
                await self._shop.add(book, code, **self._random.choice(KINDS_OF_CODES))
            self._free.append(str(book.book_id))
            self._codes += codes

    async def _stock_little(self) -> None:
        """Two books of three free codes, one of which ends by itself, and two of a code with two uses."""
        for number in range(2):
            codes = colliding(6)[3 * number :][:3]
            book = await self._shop.book(*codes[:2], **self._draw_rules())
            await self._shop.add(book, codes[2], expires_ms=NOW_MS + self._random.choice([100_000, 600_000]))
            self._free.append(str(book.book_id))
            used = ("C5-0", "USED-UP")[number]
            await self._shop.book(used, **self._draw_rules(), max_redemptions_per_code=2)
            self._codes += [*codes[1:], *[used] * 8]

    def _draw_rules(self) -> dict[str, Any]:
        return {name: self._random.choice(of) for name, of in KINDS_AT_AN_OPENING.items()}

    def draw(self) -> Command:
        """A request; most of them with an order, some with an Idempotency-Key, some an earlier one of these again."""
        chosen, self._count = self._random, self._count + 1
        if self._keyed and chosen.random() < 0.1:
            return chosen.choice(self._keyed[-20:])
        code = chosen.choice([*self._codes, "NO-SUCH"])
        user = f"u{chosen.randint(1, USERS_AT_AN_OPENING if self._opening else USERS)}"
        order = chosen.choice(
            [None, user, f"o{chosen.randint(1, ORDERS)}", *[f"new{self._count}"] * 2, f"new{self._count:050}"]
        )
        token = None
        if self._locked and chosen.random() < 0.6:
            code, user, order, token = lock_made = chosen.choice(self._locked[-8:])
            if self._rules:
                self._locked.remove(lock_made)
        (kind,) = chosen.choices(list(self._kinds), list(self._kinds.values()))
        key = chosen.choice(["", "", f"k{chosen.randint(1, KEYS * (10 if self._rules else 1))}"])
        operation, name, body = self._asks(kind, code, user, order, token)
        call = Call(self._shop.caller, key, f"{kind}{self._count}" if key else "-", "192.0.2.1", "tests")
        given = {field: value for field, value in body.items() if value is not None}
        command = operation.prepare(call, name, msgspec.convert(given, operation.request))
        if key:
            self._keyed.append(command)
        return command

    def _asks(
        self, kind: str, code: str, user: str, order: str | None, token: str | None
    ) -> tuple[Operation, str | None, dict[str, Any]]:
        chosen = self._random
        value = chosen.choice([None, *map(Decimal, ("59.90", "333.33", "0", "20.055"))])
        currency = chosen.choice([None, None, None, "USD", "EUR"]) if value and value != Decimal("20.055") else None
        who: dict[str, Any] = {"userId": user, "orderId": order}
        paid: dict[str, Any] = {"orderValue": value, "currency": currency}
        if self._rules and chosen.random() < 0.8:
            lines = [{"sku": "a", "quantity": 3, "unitPrice": 20}, {"sku": "b", "quantity": 1, "unitPrice": 2}]
            paid = {"orderValue": chosen.choice([None, *[Decimal(80)] * 5]), "items": lines[: chosen.randint(1, 2)]}
            paid["currency"] = chosen.choice([None, None, None, "USD", "EUR"])
        price = chosen.choice([{}, paid])  # of a lock
        if token and chosen.random() < 0.4:
            paid = {}  # what its lock holds
        expected = (
            {"expectedFinalAmount": chosen.choice([Decimal("59.9"), Decimal(68)])} if chosen.random() < 0.05 else {}
        )
        book = chosen.choice(self._free)
        asks: dict[str, Callable[[], tuple[Operation, str | None, dict[str, Any]]]] = {
            "lock": lambda: (lock.LOCK, code, {**who, **price, "lockSeconds": chosen.choice([None, 1, 600])}),
            "redeem": lambda: (redeem.REDEEM, code, {**who, **paid, **expected, "lockToken": token}),
            "validate": lambda: (redeem.VALIDATE, None, {"code": code, **who, **paid, "lockToken": token}),
            "extend": lambda: (lock.EXTEND, code, {"lockToken": token or "t", "lockSeconds": 900}),
            "unlock": lambda: (lock.UNLOCK, code, {"lockToken": token or "t"}),
            "assign": lambda: (assign.ASSIGN_CODE, code, {"userId": user}),
            "any": lambda: (assign.ASSIGN_ANY, None, {"bookId": book, "userId": user}),
            "unassign": lambda: (unassign.UNASSIGN, code, {}),
            "checkout": lambda: (checkout.CHECKOUT, None, {
                "code": code, "giftBookId": book, "userId": user, "orderId": order or "o1", "lockToken": token,
                "orderValue": Decimal(50),
            }),
            "gift": lambda: (gift.GIFT, user, {"bookId": book, "orderId": order or "o1"}),
            "rollback": lambda: (rollback.ROLLBACK, chosen.choice(self._redeemed[-6:]), {
                "restore": chosen.choice([None, False])}),
            "rollback_order": lambda: (rollback.ROLLBACK_ORDER, order or "o1", {}),
            "coupon": lambda: (coupon_view.READ, code, {}),
        }  # fmt: skip
        return asks[kind if kind != "rollback" or self._redeemed else "lock"]()

    async def note(self, command: Command, reply: Any) -> Command | None:
        """Keep a reply's token or redemption. Returns the command with its facts where the script asks for them."""
        if not isinstance(reply, list):
            return None
        is_new = reply[0] == 0 and reply[3:] == [0]
        if command.script == "lock" and is_new:
            _, code, user, order, token, *_ = reply[1].split(" ")
            self._locked.append((code, user, None if order == "-" else order, token))
        elif command.script == "redeem" and is_new:
            record = parse_record(reply[1])
            self._redeemed.append(id_from_event(record.event, record.at_ms))
        elif reply[0] == RECALL:
            facts = [text for name in reply[1].split(" ") for text in (name, await self._shop._answer(name))]
            return Command(command.script, command.keys, (*command.args, AS_OF, reply[2], *facts), command.render)
        return None

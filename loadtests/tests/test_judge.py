"""What the judge of a load finds: each rule's breach, planted into a load in which everything is right."""

from collections.abc import Callable
from itertools import count
from typing import Any

import msgspec
import pytest

from loadtests.histories import Histories, Look
from loadtests.ledger import Entry
from loadtests.plan import BOOK_USES, CARD, CODE_USES, HOLD_S, STOCK, USER_CODES, USER_USES, Book
from loadtests.rules import RULES
from loadtests.tables import Tables

HOLD_MS = HOLD_S * 1000
NOON = "2026-11-20T12:00:00.000Z"
BOOKS = [
    Book("sale", "sale", "SALE", 9),
    Book("gifts", "gifts", "GIFT", 9),
    Book("held", "held", "HELD", 1),
    Book("shared", "shared", "SHARED", 1, per_code=CODE_USES),
    Book("greedy", "greedy", "GREEDY", 9, per_user=USER_USES),
    Book("total", "total", "TOTAL", 99, total=BOOK_USES),
    Book("stock", "stock", "STOCK", STOCK),
    Book("assigned", "assigned", "ASSIGNED", 9),
    Book("cards", "cards", "CARD", 1, per_code=None),
]


class SmallLoad:
    """A small load in which everything is right, and what the service says of it."""

    def __init__(self, may_lose: str = "") -> None:
        self.may_lose, self._numbers = may_lose, count()
        self.entries: list[Entry] = []
        self.redemptions: list[dict[str, Any]] = []
        self.codes: list[dict[str, Any]] = [self.code("shared", "SHARED")]
        self.counts: list[tuple[str, str, int, int]] = [("sale", "redemptions", 1, 1)]
        self.drift: list[tuple[str, int]] = [("missing", 0)]
        self.closed: list[tuple[float, float, bool]] = []
        self.lost_before: list[str] = []
        self.redeem("sale", "SALE-1", "ann", "o-1", key="k-1")
        self.entries.append(msgspec.structs.replace(self.entries[0], replayed=True))
        for number in range(CODE_USES):
            self.redeem("shared", "SHARED", f"u-{number}", f"o-s{number}")
        self.refuse("redeem", "shared", "SHARED", "coupon_exhausted")
        for number in range(BOOK_USES):
            self.redeem("total", f"TOTAL-{number}", f"u-{number}", f"o-t{number}")
        self.refuse("redeem", "total", "TOTAL-99", "out_of_stock")
        for number in range(USER_USES):
            self.redeem("greedy", f"GREEDY-{number}", "bob", f"o-g{number}")
        self.refuse("redeem", "greedy", "GREEDY-9", "user_redemption_limit", user="bob")
        for number in range(STOCK):
            self.assign("stock", f"STOCK-{number}", f"v-{number}")
        self.refuse("assign", "stock", "", "out_of_stock")
        for number in range(USER_CODES):
            self.assign("assigned", f"ASSIGNED-{number}", "cem")
        for number in range(CARD // 5):
            self.redeem("cards", "CARD", f"p-{number}", f"o-p{number}")
        self.refuse("redeem", "cards", "CARD", "coupon_exhausted")
        for number in range(2):
            self.hold(f"w-{number}", 10_000 + number * HOLD_MS, 8_001.0 + number * HOLD_MS)
            self.refuse_lock(9_900.0)
        self.back = self.redeem("sale", "SALE-2", "eva", "o-2")
        self.roll_back(self.redemptions[-1])
        self.checkout("cat", "o-c", "GIFT-1")
        self.checkout("dan", "o-d", "GIFT-2")
        self.answer("order", "", "", "", path="/v1/orders/o-d/rollback", response={"items": []})
        self.codes.pop()
        self.codes.insert(2, self.code("cards", "CARD"))

    def answer(self, op: str, book: str, code: str, user: str, order: str = "", key: str = "", **fields: Any) -> Entry:
        """An answer, 201 by default."""
        body = {"userId": user, "orderId": order}
        path = fields.pop("path", f"/v1/coupons/{op}/{code}")
        about: dict[str, Any] = {"status": 201, "digest": f"d-{op}-{len(self.entries)}"}
        about |= {"sent_ms": 1.0, "answered_ms": 5.0} | fields
        if "sent_ms" in fields:
            about["answered_ms"] = fields["sent_ms"] + 5
        entry = Entry("Buyer", op, path, body, key, book, code, **about)
        self.entries.append(entry)
        return entry

    def refuse(self, op: str, book: str, code: str, refusal: str, user: str = "zoe", status: int = 409) -> Entry:
        return self.answer(op, book, code, user, status=status, refusal=refusal)

    def refuse_lock(self, sent_ms: float) -> None:
        self.answer("lock", "held", "HELD", "x", status=409, refusal="coupon_locked", sent_ms=sent_ms)

    def redeem(self, book: str, code: str, user: str, order: str, key: str = "") -> Entry:
        """A redemption that was answered and is recorded."""
        response = {
            "redemptionId": f"r-{next(self._numbers)}", "code": code, "userId": user, "orderId": order,
            "orderValue": "50.00", "currency": None, "discountAmount": "5.00", "finalAmount": "45.00",
            "redeemedAt": NOON, "rolledBackAt": None, "durability": "fsynced",
        }  # fmt: skip
        self.redemptions.append(response | {"book": book})
        return self.answer("redeem", book, code, user, order, key, response=response)

    def roll_back(self, redemption: dict[str, Any]) -> None:
        """A rollback that was answered and is recorded."""
        redemption["rolledBackAt"] = NOON
        path = f"/v1/redemptions/{redemption['redemptionId']}/rollback"
        self.answer("rollback", "", "", "", path=path, response=dict(redemption))

    def code(self, book: str, code: str, user: str = "") -> dict[str, Any]:
        """What is listed of a code."""
        return {"book": book, "code": code, "userId": user, "assignedAt": NOON if user else None, "status": "assigned"}

    def assign(self, book: str, code: str, user: str) -> Entry:
        """An assignment that was answered and is recorded."""
        self.codes.append(self.code(book, code, user))
        response = {"code": code, "userId": user, "assignedAt": NOON, "durability": "fsynced"}
        return self.answer("assign", book, "", user, response=response)

    def checkout(self, user: str, order: str, gift: str) -> None:
        self.codes.append(self.code("gifts", gift, user))
        response = {"redemption": None, "gift": {"code": gift, "userId": user, "assignedAt": NOON}}
        self.answer("checkout", "sale", "", user, order, path="/v1/checkout", response=response)

    def hold(self, user: str, until_ms: int, sent_ms: float = 1.0) -> None:
        response = {"lockToken": "t", "expiresAt": f"1970-01-01T00:00:{until_ms / 1000:06.3f}Z"}
        self.answer("lock", "held", "HELD", user, response=response, sent_ms=sent_ms)

    def judged(self) -> dict[str, str]:
        """What differs, by its rule."""
        tables = Tables()
        tables.enter(self.entries)
        for book in BOOKS:
            mine = [[one for one in listed if one["book"] == book.book_id] for listed in (self.redemptions, self.codes)]
            tables.list_book(book, *mine)
        tables.insert("counts", self.counts)
        tables.insert("drift", self.drift)
        tables.insert("about", [(1, False, False)])
        tables.insert("may_lose", [(self.may_lose,)] * bool(self.may_lose))
        tables.insert("closed", self.closed)
        tables.insert("lost_before", ((redemption,) for redemption in self.lost_before))
        return {difference.rule: str(difference) for difference in tables.differences()}


PLANTS: dict[str, list[tuple[Callable[[SmallLoad], Any], str]]] = {
    "unexpected response": [(lambda w: w.answer("lock", "", "G", "x", wanted=False), "Buyer lock 201")],
    "server error": [(lambda w: w.refuse("redeem", "sale", "S", "internal", status=500), "500 internal")],
    "Retry-After missing or too long": [
        (lambda w: w.refuse("lock", "sale", "S", "behind", status=503), "503 behind"),
        (
            lambda w: w.answer("lock", "sale", "S", "x", status=503, refusal="behind", retry_after="6"),
            "503 behind Retry-After '6'",
        ),
    ],
    "different responses under one Idempotency-Key": [
        (lambda w: w.entries.append(msgspec.structs.replace(w.entries[0], digest="another")), "redeem/SALE-1 k-1 201 2")
    ],
    "response not recorded": [
        (lambda w: w.redemptions.pop(0), "redemption r-0 SALE-1"),
        (lambda w: w.codes.pop(1), "assignment STOCK-0 v-0"),
        (lambda w: w.codes[-1].update(userId="dan"), "assignment GIFT-1 cat"),
        (lambda w: w.redemptions[-1].update(rolledBackAt=None), "rollback r-"),
    ],
    "repeat without Idempotency-Replayed": [
        (lambda w: w.entries.append(msgspec.structs.replace(w.entries[0], op="again")), "redeem/SALE-1 k-1")
    ],
    "lost response given again": [
        (
            lambda w: (
                w.lost_before.append("r-0"),
                w.answer("anew", "sale", "SALE-1", "ann", "o-1", response=w.entries[0].response),
            ),
            "anew/SALE-1 r-0",
        )
    ],
    "recorded differently from the response": [
        (lambda w: w.redemptions[0].update(finalAmount="44.99"), "r-0 sale r-0 SALE-1"),
        (lambda w: w.redemptions[0].update(book="greedy"), "r-0 sale r-0 SALE-1"),
    ],
    "rolled back differently from the response": [
        (lambda w: w.redemptions[0].update(rolledBackAt=NOON), "r-0 without a request"),
        (lambda w: w.redemptions[-1].update(rolledBackAt="later"), "recorded later"),
    ],
    "recorded twice": [(lambda w: w.redemptions.append(w.redemptions[0]), "r-0 2")],
    "recorded without a response": [
        (
            lambda w: w.redemptions.append(
                w.redemptions[0] | {"redemptionId": "r-x", "userId": "eve", "code": "SALE-9"}
            ),
            "redemption r-x SALE-9 eve",
        ),
        (lambda w: w.codes.append(w.code("sale", "SALE-8", "eve")), "assignment SALE-8 eve"),
    ],
    "a code over its limit": [
        (lambda w: w.redeem("shared", "SHARED", "u-9", "o-9"), f"SHARED {CODE_USES + 1} of"),
        (lambda w: w.redeem("sale", "SALE-1", "u-9", "o-9"), "SALE-1 2 of 1"),
        (
            lambda w: (
                w.back.body.update(restore=False),
                w.entries[-4].body.update(restore=False),
                w.redeem("sale", "SALE-2", "u-9", "o-9"),
            ),
            "SALE-2 2 of 1",
        ),
    ],
    "a user over the book's limit": [(lambda w: w.redeem("greedy", "GREEDY-7", "bob", "o-9"), "greedy bob 3 of 2")],
    "a card over its amount": [(lambda w: w.redeem("cards", "CARD", "u-99", "o-9"), "CARD 6500 of 6000")],
    "a book over its total": [(lambda w: w.redeem("total", "TOTAL-70", "u-99", "o-9"), "total 11 of 10")],
    "a user with too many codes": [(lambda w: w.assign("assigned", "ASSIGNED-9", "cem"), "assigned cem 3 of 2")],
    "an order with too many coupons": [(lambda w: w.redeem("sale", "SALE-3", "ann", "o-1"), "o-1 2 of 1")],
    "limit not used up": [
        (lambda w: unused(w, "TOTAL-3"), "book total 9 of 10"),
        (lambda w: unused(w, "SHARED"), "code SHARED 0 of 5"),
        (lambda w: unused(w, "CARD"), "card CARD 0 of 6000"),
    ],
    "more assigned than there are codes": [
        (lambda w: w.assign("stock", "STOCK-9", "v-9"), f"stock {STOCK + 1} of {STOCK}"),
        (lambda w: w.assign("gifts", "GIFT-1", "dan"), "GIFT-1 2 of 1"),
    ],
    "refused as used up below the limit": [
        (lambda w: unused(w, "SHARED"), "code SHARED 5"),
        (lambda w: unused(w, "TOTAL-3"), "book total 10"),
        (lambda w: unused(w, "GREEDY-1"), "user bob 2"),
        (lambda w: w.codes[1].update(userId=""), "stock stock 5"),
        (lambda w: w.refuse("redeem", "sale", "SALE-5", "coupon_redeemed"), "code SALE-5 1"),
        (lambda w: w.refuse("redeem", "sale", "SALE-5", "out_of_stock"), "book sale without a total"),
    ],
    "refused as not found, although nothing was lost": [
        (lambda w: w.refuse("rollback", "sale", "SALE-5", "redemption_not_found"), "redemption_not_found")
    ],
    "locked by two users at a time": [
        (lambda w: w.hold("x", 9_999), "HELD x until 9999"),
        (lambda w: w.hold("x", 13_999), "HELD w-1 until 12000 and another from 11999"),
    ],
    "refused as locked without a lock": [
        (lambda w: w.refuse_lock(12_100.0), "HELD x 12100"),
        (lambda w: w.refuse_lock(7_900.0), "HELD x 7900"),
    ],
    "decided while the partition was closed": [
        (lambda w: w.closed.append((0.0, 6.0, False)), "redeem /v1/coupons/redeem/SALE-1"),
        (lambda w: w.closed.append((0.0, 6.0, True)), "redeem /v1/coupons/redeem/SALE-1"),
        (lambda w: learn_late(w, alone=False), "redeem /v1/coupons/redeem/LATE-12"),
        (lambda w: (learn_late(w, alone=True), redeem_at(w, 30.0)), "redeem /v1/coupons/redeem/LATE-30"),
    ],
    "Redis and Postgres count differently": [
        (lambda w: w.counts.append(("sale", "users", 3, 4)), "sale users 3 and 4")
    ],
    "the service's own comparison reports differences": [(lambda w: w.drift.append(("extra", 2)), "extra 2")],
    "no redemption": [(lambda w: (w.entries.clear(), w.redemptions.clear(), w.codes.clear()), "no answer has")],
}
"""By rule: how it is broken, and what then is named."""


def unused(load: SmallLoad, code: str) -> None:
    """As if a code had never been redeemed."""
    load.redemptions = [one for one in load.redemptions if one["code"] != code]
    load.entries = [one for one in load.entries if one.code != code or one.refusal]


def redeem_at(load: SmallLoad, sent_ms: float) -> None:
    entry = load.redeem("sale", f"LATE-{sent_ms:.0f}", f"u-{sent_ms}", f"o-{sent_ms}")
    entry.sent_ms, entry.answered_ms = sent_ms, sent_ms + 1


def learn_late(load: SmallLoad, *, alone: bool) -> None:
    """As if an API still redeemed after Postgres had closed the partition, and then refused."""
    load.closed.append((10.0, 40.0, alone))
    redeem_at(load, 12.0)
    refusal = load.refuse("redeem", "sale", "LATE", "recovering", status=503)
    refusal.sent_ms, refusal.answered_ms, refusal.retry_after, refusal.final = 20.0, 21.0, "1", False


def test_nothing_is_found_where_everything_is_right() -> None:
    """Refusals, repeats, gifts, rollbacks and holds that follow each other break no rule; nor does an API that learns
    late that a partition is closed, if its Redis decides alone."""
    load = SmallLoad()
    learn_late(load, alone=True)
    assert load.judged() == {}


@pytest.mark.parametrize(("rule", "plant", "named"), [(rule, *one) for rule, some in PLANTS.items() for one in some])
def test_a_breach_is_found_and_named(rule: str, plant: Callable[[SmallLoad], Any], named: str) -> None:
    """What is planted is found by its rule, which says of what it is."""
    load = SmallLoad()
    plant(load)
    differences = load.judged()
    assert named in differences[rule], differences


def test_every_rule_has_a_plant() -> None:
    """No rule is never seen to find anything."""
    assert RULES.keys() == PLANTS.keys()


def test_what_was_never_answered_may_be_recorded_or_not() -> None:
    """A request with an unknown outcome excuses its own redemption or assignment, and no other."""
    load = SmallLoad()
    recorded = load.redemptions[0]
    load.redemptions.append(recorded | {"redemptionId": "r-x", "code": "SALE-9", "userId": "eve", "orderId": "o-x"})
    load.codes.append(load.code("sale", "SALE-8", "eve"))
    load.answer("redeem", "sale", "SALE-9", "eve", "o-x", status=0)
    assert load.judged() == {}
    load.redemptions.append(recorded | {"redemptionId": "r-y", "code": "SALE-7", "userId": "fay", "orderId": "o-y"})
    assert list(load.judged()) == ["recorded without a response"]
    load.redemptions[-1]["userId"] = "eve"
    assert list(load.judged()) == ["recorded without a response"]


def test_what_may_be_lost_is_lost_as_a_whole() -> None:
    """Answers that may be lost may be decided again; of a purchase both parts are recorded, or neither."""
    load = SmallLoad("fsynced")
    load.redemptions.pop(0)
    assert load.judged() == {}
    load.redeem("sale", "SALE-1", "ann", "o-1", key="k-1")
    assert load.judged() == {}
    gift = {"code": "GIFT-1", "userId": "cat", "assignedAt": NOON}
    half = {"redemption": load.entries[0].response, "gift": gift, "durability": "fsynced"}
    load.answer("checkout", "sale", "SALE-1", "ann", "o-1", path="/v1/checkout", response=half)
    assert "redemption r-0" in load.judged()["response not recorded"]
    assert SmallLoad("accepted").judged() == {}
    load = SmallLoad("accepted")
    load.redemptions.pop(0)
    assert list(load.judged()) == ["response not recorded"]
    load = SmallLoad("fsynced")
    load.redemptions.pop(0)
    load.entries[0].buyer = ""  # a request of the judge, which comes after the fault
    assert list(load.judged()) == ["response not recorded"]


def test_a_history_that_no_order_explains_is_found() -> None:
    """No order explains a coupon that is redeemed again, or refused before anybody had it, nor an order's second
    coupon, unless the first one was rolled back."""
    books = {book.book_id: book for book in BOOKS}

    def unexplained(load: SmallLoad, *lost: int) -> list[str]:
        return list(Histories(load.entries, books, lost, 1, locks_end=False).unexplained())

    assert unexplained(SmallLoad()) == []
    load = SmallLoad()
    load.redeem("sale", "SALE-1", "u-9", "o-9")
    assert [one.partition(":")[0] for one in unexplained(load)] == ["coupon SALE-1"]
    assert unexplained(load, 1) == []
    load = SmallLoad()
    load.entries.insert(0, msgspec.structs.replace(load.refuse("redeem", "sale", "SALE-1", "coupon_redeemed")))
    load.entries.pop()
    load.entries[0].asked_ms, load.entries[0].answered_ms = -2.0, -1.0
    assert [one.partition(":")[0] for one in unexplained(load)] == ["coupon SALE-1"]
    for order, wrong in (("o-1", ["order o-1"]), ("o-2", [])):
        load = SmallLoad()
        load.redeem("sale", "SALE-3", "eva", order)
        assert [one.partition(":")[0] for one in unexplained(load)] == wrong


def test_looks_belong_to_the_coupon_that_they_show() -> None:
    """A reader's history is that of the coupon in its successful responses, also if its first look was refused."""
    refused = Look(0.0, 1.0, "outcome_unknown", {"code": "outcome_unknown"})
    looks = [refused, Look(10.0, 1.0, "", {"code": "SALE-1", "status": "redeemed"})]
    books = {book.book_id: book for book in BOOKS}
    histories = Histories(SmallLoad().entries, books, (), 1, locks_end=False, looks=looks)
    assert list(histories.unexplained()) == []
    assert "outcome_unknown" not in histories.coupons
    assert list(Histories([], {}, (), 1, locks_end=False, looks=[refused]).unexplained()) == []

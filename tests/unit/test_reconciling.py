"""Reconciling: what counts as a difference at two cuts, and what a repair writes."""

from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any, cast
from unittest.mock import AsyncMock

import pytest

from service.engine.formats import key_names
from service.engine.formats.coupon_state import About, Difference, RecordedCode, Write
from service.engine.formats.event_id import EventId
from service.engine.hot.inspection import Item, Snapshot
from service.server.reconcile import examination
from service.server.reconcile.counter_differences import COUNTERS, Books, Configuration, Keys
from service.server.reconcile.coupon_differences import Coupons
from service.server.reconcile.examination import TRIES, UNDECIDABLE_NOW, Examiner, NotRecorded
from service.server.reconcile.use_differences import UseField, Uses
from service.server.reconcile.user_differences import RecordedUser, Users
from tests.harness.redemptions import redeemed_text

AT = EventId(1, 9)
SNAPSHOT = Snapshot(AT, 5, 5, [])
OFF = Difference(("uses",), "code …", [Write("s", "key", "", "1", "2")])
UNLOCKED = " - - - - - - -"
GIFT = UseField("g", 1, "A-1", code="CODE-1")
SEVERAL = RecordedCode(7, "CODE-1", 3, 5, True, None, None, None, 2, 3, "2-9", "2-8 1000 2-9 1000", 2, False)
MANY = SEVERAL._replace(uses=1200, max=0, standing=None, stand=1100)
NOTHING, ALL = SimpleNamespace(names=lambda _: False), SimpleNamespace(names=lambda _: True)
HERE = SimpleNamespace(workspace=1, partition=0, inspector=None, pool=None, quarantine=NOTHING)


class Sometimes:
    """A kind of things whose looks give these verdicts, one after the other."""

    at_once = 2

    def __init__(self, *verdicts: Any) -> None:
        self.verdicts = list(verdicts)

    def items(self, thing: Any) -> Sequence[Item]:
        return [Item("s", str(thing))]

    async def fetch_expected(self, at: Any, things: Sequence[Any]) -> Any:
        return None

    def find_difference(self, thing: Any, expected: Any, snapshot: Snapshot, values: Sequence[Any]) -> Any:
        assert self.verdicts, "looked at once more"
        return self.verdicts.pop(0)


class RedisInspector:
    """A Redis that is in the seen state at a repair, or not."""

    partition = 0

    def __init__(self, *as_seen: bool) -> None:
        self.as_seen, self.repaired = list(as_seen), 0

    async def read_values(self, items: Sequence[Item]) -> Snapshot:
        return Snapshot(AT, 5, 5, [None] * len(items))

    async def repair(self, writes: Sequence[Write]) -> bool:
        self.repaired += 1
        assert self.as_seen, "mended"
        return self.as_seen.pop(0)


@pytest.fixture
def examined(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Examine one suspected thing with these verdicts; return the examiner, the reported states and the inspector."""
    monkeypatch.setattr(examination, "FIRST_PAUSE_S", 0)
    monkeypatch.setattr(examination, "LONGEST_PAUSE_S", 0)

    async def examine(
        *verdicts: Any,
        repair: bool = False,
        as_seen: Sequence[bool] = (),
        erasing: Sequence[bool] = (),
        events: Sequence[bytes] = (),
    ) -> Any:
        async def recorded(*_: Any) -> Any:
            return SimpleNamespace(cursor=AT)

        async def being_erased(*_: Any) -> bool:
            return waits.pop(0) if waits else False

        async def in_quarantine(_pool: Any, _partition: int, after: tuple[int, int]) -> Any:
            if after < (1, 1):
                yield [((1, place), d) for place, d in enumerate(events, 1)]

        monkeypatch.setattr(examination, "page_quarantine", in_quarantine)
        waits, states = list(erasing), list[str]()
        monkeypatch.setattr(examination, "read_partition", recorded)
        monkeypatch.setattr(examination, "has_deletions_after", being_erased)
        inspector = RedisInspector(*as_seen)
        about = (cast("Any", inspector), cast("Any", None), 1, repair)
        examiner = Examiner(*about, lambda _, state: states.append(state), AsyncMock())
        kind = Sometimes(*verdicts)
        await examiner.examine(cast("Any", kind), ["thing"])
        assert kind.verdicts == []
        return examiner, states, inspector

    return examine


OTHER = OFF._replace(classes=("assignee",))
UNSAFE = OFF._replace(unsafe="it is locked")


@pytest.mark.parametrize(
    ("verdicts", "options", "result"),
    [
        ([OFF, OFF], {}, ({"uses": 1}, {"uses": 1}, ["found"], 0)),
        ([OFF, None], {}, ({}, {}, [], 0)),
        ([OFF, OTHER, OTHER], {}, ({"assignee": 1}, {"assignee": 1}, ["found"], 0)),
        ([OFF, UNDECIDABLE_NOW, None], {}, ({}, {}, [], 0)),
        ([OFF, OFF, OFF, OFF], {"erasing": [True, True]}, ({"uses": 1}, {"uses": 1}, ["found"], 0)),
        ([OFF, OFF], {"repair": True, "as_seen": [True]}, ({"uses": 1}, {}, ["mended"], 1)),
        ([OFF, OFF, OFF], {"repair": True, "as_seen": [False, True]}, ({"uses": 1}, {}, ["mended"], 2)),
        ([OFF, OFF, None], {"repair": True, "as_seen": [False]}, ({}, {}, [], 1)),
        ([UNSAFE, UNSAFE], {"repair": True}, ({"uses": 1}, {"uses": 1}, ["found"], 0)),
    ],
)
async def test_differences(
    examined: Callable[..., Any], verdicts: list[Any], options: dict[str, Any], result: tuple[Any, ...]
) -> None:
    """Two looks in a row must see a difference, without a deletion between; a repair needs the seen, safe state."""
    examiner, reported, inspector = await examined(*verdicts, **options)
    assert (examiner.differing, examiner.left, reported, inspector.repaired) == result
    assert examiner.unsettled == 0


async def test_a_thing_that_never_settles(examined: Callable[..., Any]) -> None:
    """A thing whose configuration is still on its way after the last look is counted as unsettled."""
    examiner, _, _ = await examined(*[UNDECIDABLE_NOW] * TRIES)
    assert (examiner.differing, examiner.unsettled) == ({}, 1)


@pytest.mark.parametrize(
    ("about", "event", "is_named"),
    [
        (About("code", "CODE-1"), b"A 1 2 CODE-1 ann 5 7", True),
        (About("user", "ann"), b"U 1 2 CODE-1 ann 5 7", True),
        (About("order", "o1"), b"A 1 2 CODE-1 ann 5 7 o1 8", True),
        (About("order", "o1"), b"B 1 2 CODE-1 ann o1 id 5 1 7 8", True),
        (About("book", "2"), redeemed_text(book=2).encode(), True),
        (About("code", "GIFT-1"), redeemed_text(book=2, gift="GIFT-1").encode(), True),
        (About("book", "3"), redeemed_text(book=2, gift="GIFT-1").encode(), True),
        (About("order", "-"), redeemed_text(book=2, order=None).encode(), False),
        (About("user", ""), b"R 1 2 CODE-1", False),
        (About("code", "CODE-1"), b"A 2 2 CODE-1 ann 5 7", False),
        (About("user", "CODE-1"), b"A 1 2 CODE-1 ann 5 7", False),
        (About("code", "CODE-1"), b"\xff 1 2 CODE-1", False),
        (About("code", "CODE-1"), b"A x 2 CODE-1 ann", False),
    ],
)
async def test_quarantined_events_prevent_repairs(
    examined: Callable[..., Any], about: About, event: bytes, is_named: bool
) -> None:
    """A code, user, order or book that a quarantined event of the same workspace names is reported, not repaired."""
    difference = OFF._replace(about=(About("code", "other"), about))
    examiner, states, inspector = await examined(
        difference, difference, repair=True, as_seen=[True], events=[b"", event]
    )
    assert (states, inspector.repaired) == ((["found"], 0) if is_named else (["mended"], 1))
    assert examiner.left == ({"uses": 1} if is_named else {})


async def test_too_many_quarantined_events_prevent_all_repairs(
    examined: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beyond the bound of stored names nothing of the workspace is repaired."""
    monkeypatch.setattr(examination, "MAX_NAMED", 3)
    events = [b"A 1 2 CODE-%d ann 5 7" % n for n in range(9)]
    examiner, states, inspector = await examined(OFF, OFF, repair=True, as_seen=[True], events=events)
    assert (states, inspector.repaired, examiner.left) == (["found"], 0, {"uses": 1})
    assert len(examiner.quarantine._named) < 9


async def test_waiting_for_the_record(examined: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """The examiner waits until the record reaches an event, up to a bound."""
    examiner, _, _ = await examined(OFF, None)
    monkeypatch.setattr(examination, "RECORDED_S", 0.02)
    with pytest.raises(NotRecorded):
        await examiner.wait_until_recorded((1, 10))


def _coupon(
    expected: RecordedCode | None,
    entry: str | None,
    text: str | None,
    stands: dict[str, str],
    locks: int = 0,
    account: str | None = None,
    held_e4: int | None = 0,
) -> Any:
    flat = [part for pair in stands.items() for part in pair]
    return Coupons(cast("Any", HERE), None).find_difference(
        "CODE-1",
        {} if expected is None else {"CODE-1": expected},
        SNAPSHOT,
        [entry, text, flat, locks, account, held_e4],
    )


def test_standing_redemptions_of_a_code_that_was_used_very_often() -> None:
    """Of a code with very many uses only the last standing redemption is compared, and none is removed."""
    stands, text = {"2-8": "1000", "2-9": "1000"}, "0 - - {} {} - - 2-9" + UNLOCKED
    assert _coupon(SEVERAL, "3+", text.format(2, 3), stands) is None
    assert _coupon(SEVERAL, "3+", text.format(2, 3), {"2-8": "1000"}).classes == ("redemptions",)
    assert _coupon(MANY, "3+", text.format(1200, 0), stands) is None
    other = _coupon(MANY, "3+", text.format(1200, 0).replace("2-9", "2-8"), stands)
    assert other
    assert other.classes == ("redemptions",)
    wrong = _coupon(MANY, "3+", text.format(1199, 0), stands)
    assert wrong.classes == ("uses",)
    assert [write.kind for write in wrong.writes] == ["h", "s"]
    assert _coupon(MANY, "3+", text.format(1200, 0).replace("2-9", "-"), {}).classes == ("redemptions",)


def test_coupons() -> None:
    """A coupon is surplus, missing or on its way; a locked coupon is unsafe to repair."""
    assert _coupon(None, None, None, {}) is None
    assert _coupon(None, "3", None, {}).classes == ("code_surplus",)
    assert _coupon(None, None, None, {"2-8": "1000"}).classes == ("code_surplus",)
    assert _coupon(SEVERAL, None, None, {}).classes == ("code_missing",)
    assert _coupon(SEVERAL._replace(version=6), None, None, {}) == UNDECIDABLE_NOW
    assert _coupon(SEVERAL._replace(version=5), None, None, {}) != UNDECIDABLE_NOW
    assert _coupon(SEVERAL, None, None, {}, locks=1).unsafe == "it is locked"
    assert _coupon(SEVERAL, None, None, {}).unsafe == ""


def test_accounts_of_cards() -> None:
    """A card's account, with what its locks hold, is compared and repaired, also under a lock; others have none."""
    card = SEVERAL._replace(
        special=False, version=0, max=0, uses=1, stand=0, standing=None, last=None, issued_e4=500, credited_e4=20,
        spent_e4=100, closed_e4=0,
    )  # fmt: skip
    text = "0 - - 1 0 - - -" + UNLOCKED

    def judged(account: str | None, held_e4: int | None, locks: int = 0, one: RecordedCode = card) -> Any:
        return _coupon(one, "3+", text, {}, locks, account, held_e4)

    assert judged("500 20 100 0 0", 0) is None
    assert judged("500 20 100 0 30", 30, locks=1) is None
    assert judged("500 20 100 0 30", None, locks=9) is None
    for wrong, held_e4 in (("500 20 90 0 0", 0), ("500 20 100 0 30", 0), ("x", 0), (None, 0), ("500 20 100 0 0", 30)):
        difference = judged(wrong, held_e4, locks=1)
        assert (difference.classes, difference.unsafe) == (("balance",), "")
        (account,) = difference.writes
        assert (account.seen, account.to) == (wrong, f"500 20 100 0 {held_e4}")
    assert judged("500 0 0 0 0", 0, one=SEVERAL._replace(version=0)).classes[-1] == "balance"


def test_a_single_use_code_with_two_uses_can_be_repaired() -> None:
    """A repair writes even an impossible record, after which Redis agrees with it."""
    spoilt = SEVERAL._replace(max=1, uses=2, standing=None)
    difference = _coupon(spoilt, "3!2-9", None, {})
    assert difference.classes == ("uses",)
    (entry, text) = (write.to for write in difference.writes)
    assert _coupon(spoilt, entry, text, {}) is None


def test_users() -> None:
    """A count of zero is no difference; a newer cap is on its way; a set of ends with too many is removed."""
    users = Users(cast("Any", HERE))
    users._suspected["ann"] = ["a1", "x1", "cap"]

    def judged(here: list[str | None], fields: dict[str, str], ends: int = 0, version: int = 5) -> Any:
        return users.find_difference("ann", {"ann": RecordedUser(fields, version)}, SNAPSHOT, [*here, ends])

    assert judged(["2", "0", None], {"a1": "2"}) is None
    assert judged(["3", None, None], {"a1": "2"}).classes == ("user_counts",)
    assert judged(["2", None, None], {"a1": "2", "cap": "5 3"}).classes == ("user_cap",)
    assert judged([None, None, None], {"a1": "2", "cap": "5 3"}).classes == ("user_counts", "user_cap")
    assert judged(["1", None, None], {}).classes == ("user_counts",)
    assert judged([None, None, None], {"cap": "6 3"}, version=6) == UNDECIDABLE_NOW
    ends = key_names.ends_of_user(key_names.prefix(0, 1), 1, "ann")
    assert judged(["2", "1", None], {"a1": "2", "x1": "1"}, ends=1) is None
    assert judged(["2", "1", None], {"a1": "2", "x1": "1"}, ends=2).writes == [Write("t", ends, "", "zset", None)]


@pytest.mark.parametrize(
    ("field", "recorded", "values", "classes"),
    [
        (UseField("o", 1, "A-1"), "2-9", ["2-9"], None),
        (UseField("o", 1, "A-1"), "2-9", [None], ("orders",)),
        (UseField("o", 1, "A-1", "2-9"), "2-9", ["2-8"], ("orders",)),
        (UseField("o", 1, "A-1"), None, [""], None),
        (UseField("o", 1, "A-1"), None, ["2-9"], ("orders",)),
        (UseField("o", 1, "3/ann"), "1", ["2"], ("user_counts",)),
        (UseField("o", 1, "3/ann"), None, ["0 0"], None),
        (UseField("g", 1, "A-1"), "CODE-1 7 ann 1000", [None], ("gifts",)),
        (
            UseField("g", 1, "A-1", code="CODE-1"),
            None,
            ["CODE-1 7 ann 1000", f"0 ann 1000 0 - - - -{UNLOCKED}"],
            ("gifts",),
        ),
        (GIFT, None, ["CODE-1 7 ann 1000", "0 bob 1000 0 - - - -" + UNLOCKED], None),
        (GIFT, None, ["CODE-1 7 ann 1000", None], None),
    ],
)
def test_orders_users_uses_and_gifts(field: UseField, recorded: str | None, values: list[Any], classes: Any) -> None:
    """An order without standing redemptions and a gift whose coupon has another user are no difference."""
    states = {} if recorded is None else {field._replace(recorded="", code=""): recorded}
    difference = Uses(cast("Any", HERE), None).find_difference(field, states, SNAPSHOT, values)
    assert cast("Any", difference and cast("Any", difference).classes) == classes


def test_books_count_what_they_are_off() -> None:
    """A book's repair adds the difference of each counter, but not while the configuration changes."""
    books = Books(cast("Any", HERE))
    values = ["3", "1", *[None] * (len(COUNTERS) - 2)]
    assert books.find_difference(7, ({7: {"codes": 3, "assigned": 1}}, 5), SNAPSHOT, values) is None
    difference = cast("Any", books.find_difference(7, ({7: {"codes": 5}}, 5), SNAPSHOT, values))
    assert difference.classes == ("book_counts",)
    assert [(write.kind, write.member, write.to) for write in difference.writes] == [
        ("n", "codes", "2"),
        ("n", "assigned", "-1"),
    ]
    summed = [*["0"] * 9, str(5 * 10**9), str(10**10), *["0"] * (len(COUNTERS) - 11)]
    assert books.find_difference(7, ({7: {"discount": 10**19 + 5 * 10**9}}, 5), SNAPSHOT, summed) is None
    difference = cast("Any", books.find_difference(7, ({7: {"discount": 3}}, 5), SNAPSHOT, summed))
    assert [(write.member, int(write.to)) for write in difference.writes] == [
        ("discount", 3 - 10**9),
        ("discountHigh", 1 - 5 - 10**10),
    ]
    spent = {7: {"spent": 3 * 10**9 + 7}}
    difference = cast("Any", books.find_difference(7, (spent, 5), SNAPSHOT, [None] * len(COUNTERS)))
    assert [(write.member, write.to) for write in difference.writes] == [("spent", "7"), ("spentHigh", "3")]
    assert books.find_difference(7, ({}, 6), SNAPSHOT, values) == UNDECIDABLE_NOW
    assert books.find_difference(7, ({}, 5), SNAPSHOT._replace(config=4), values) == UNDECIDABLE_NOW
    assert books.find_difference(7, ({}, 5), SNAPSHOT._replace(newest=6), values) == UNDECIDABLE_NOW


def test_blocked_codes_are_no_difference() -> None:
    """Of a book that quarantine names, the counters that a blocked code changes are not compared."""
    books = Books(cast("Any", SimpleNamespace(**vars(HERE) | {"quarantine": ALL})))
    values = ["3", "1", None, None, "2", *[None] * (len(COUNTERS) - 5)]
    assert books.find_difference(7, ({7: {"codes": 3, "assigned": 2}}, 5), SNAPSHOT, values) is None
    difference = cast("Any", books.find_difference(7, ({7: {"codes": 4, "assigned": 2}}, 5), SNAPSHOT, values))
    assert [(write.member, write.to) for write in difference.writes] == [("codes", "1")]


def test_settings_and_keys() -> None:
    """A newer version in the record is on its way; a key that only Redis has is no difference."""
    configuration, kept = Configuration(cast("Any", HERE)), Keys(cast("Any", HERE))
    assert configuration.find_difference(7, {7: (5, "a b")}, SNAPSHOT, ["5 a b"]) is None
    assert cast("Any", configuration.find_difference(7, {7: (5, "a b")}, SNAPSHOT, ["5 a c"])).classes == (
        "configuration",
    )
    assert configuration.find_difference(7, {7: (6, "a b")}, SNAPSHOT, ["5 a c"]) == UNDECIDABLE_NOW
    assert kept.find_difference("key", {}, SNAPSHOT, ["x 0 @1-1"]) is None
    assert kept.find_difference("key", {"key": ("x 0 @1-1", 60_000)}, SNAPSHOT, ["x 0 @1-1"]) is None
    difference = cast("Any", kept.find_difference("key", {"key": ("x 0 @1-1", 60_000)}, SNAPSHOT, [None]))
    assert difference.classes == ("idempotency_keys",)
    assert (difference.writes[0].kind, difference.writes[0].member) == ("i", "60000")

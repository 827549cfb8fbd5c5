"""What is taken for a difference, and what isn't: judged twice, at two cuts, and mended only as it was seen."""

from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any, cast

import pytest

from service.formats.coupon_state import About, Difference, Said, Write
from service.formats.event_id import EventId
from service.hot.inspection import Item, Seen
from service.reconcile import examination, quarantine_exclusions
from service.reconcile.counter_differences import Books, Configuration, Keys
from service.reconcile.coupon_differences import Coupons
from service.reconcile.examination import LATER, TRIES, Examiner, NotRecorded
from service.reconcile.use_differences import Field, Uses
from service.reconcile.user_differences import Told, Users

AT = EventId(1, 9)
SEEN = Seen(AT, 5, 5, [])
OFF = Difference(("uses",), "code …", [Write("s", "key", "", "1", "2")])
UNLOCKED = " - - - - - -"
GIFT = Field("g", 1, "A-1", code="CODE-1")
SEVERAL = Said(7, "CODE-1", 3, 5, True, None, None, None, 2, 3, "2-9", "2-8 1000 2-9 1000", 2, False)
MANY = SEVERAL._replace(uses=1200, max=0, standing=None, stand=1100)
HERE = SimpleNamespace(workspace=1, partition=0, looker=None)


class Sometimes:
    """A kind of things that each look judges as the next of these says."""

    at_once = 2

    def __init__(self, *verdicts: Any) -> None:
        self.verdicts = list(verdicts)

    def items(self, thing: Any) -> Sequence[Item]:
        return [Item("s", str(thing))]

    async def said(self, at: Any, things: Sequence[Any]) -> Any:
        return None

    def judge(self, thing: Any, said: Any, seen: Seen, values: Sequence[Any]) -> Any:
        assert self.verdicts, "looked at once more"
        return self.verdicts.pop(0)


class Looker:
    """A Redis that is as it was seen, or not."""

    partition = 0

    def __init__(self, *as_seen: bool) -> None:
        self.as_seen, self.repaired = list(as_seen), 0

    async def look(self, items: Sequence[Item]) -> Seen:
        return Seen(AT, 5, 5, [None] * len(items))

    async def repair(self, writes: Sequence[Write]) -> bool:
        self.repaired += 1
        assert self.as_seen, "mended"
        return self.as_seen.pop(0)


@pytest.fixture
def examined(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """What becomes of one thing that is suspected, judged so at each look: (counted, what was told, the examiner)."""
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

        monkeypatch.setattr(quarantine_exclusions, "page_live", in_quarantine)
        waits, told = list(erasing), list[str]()
        monkeypatch.setattr(examination, "read_partition", recorded)
        monkeypatch.setattr(examination, "erased_after", being_erased)
        looker = Looker(*as_seen)
        examiner = Examiner(cast("Any", looker), cast("Any", None), 1, repair, lambda _, state: told.append(state))
        kind = Sometimes(*verdicts)
        await examiner.examine(cast("Any", kind), ["thing"])
        assert kind.verdicts == []
        return examiner, told, looker

    return examine


async def test_it_differs_where_it_does_so_twice(examined: Callable[..., Any]) -> None:
    """In the same way, one look after the other; what doesn't was only on its way."""
    examiner, told, looker = await examined(OFF, OFF)
    assert (examiner.found, examiner.left, told, looker.repaired) == ({"uses": 1}, {"uses": 1}, ["found"], 0)
    examiner, told, _ = await examined(OFF, None)
    assert (examiner.found, told) == ({}, [])
    other = OFF._replace(classes=("assignee",))
    examiner, _, _ = await examined(OFF, other, other)
    assert examiner.found == {"assignee": 1}


@pytest.mark.parametrize(
    ("about", "event", "is_named"),
    [
        (About("code", "CODE-1"), b"A 1 2 CODE-1 ann 5 7", True),
        (About("user", "ann"), b"U 1 2 CODE-1 ann 5 7", True),
        (About("order", "o1"), b"A 1 2 CODE-1 ann 5 7 o1 8", True),
        (About("order", "o1"), b"B 1 2 CODE-1 ann o1 id 5 1 7 8", True),
        (About("book", "2"), b"R 1 2 CODE-1 ann o1 - - USD 2 0 5 1 7 8 1 9", True),
        (About("code", "GIFT-1"), b"R 1 2 CODE-1 ann o1 - - USD 2 0 5 1 7 8 1 9 3 GIFT-1 4", True),
        (About("book", "3"), b"R 1 2 CODE-1 ann o1 - - USD 2 0 5 1 7 8 1 3 GIFT-1 4", True),
        (About("order", "-"), b"R 1 2 CODE-1 ann - - - USD 2 0 5 1 7 8 1 9", False),
        (About("user", ""), b"R 1 2 CODE-1", False),
        (About("code", "CODE-1"), b"A 2 2 CODE-1 ann 5 7", False),
        (About("user", "CODE-1"), b"A 1 2 CODE-1 ann 5 7", False),
        (About("code", "CODE-1"), b"\xff 1 2 CODE-1", False),
        (About("code", "CODE-1"), b"A x 2 CODE-1 ann", False),
    ],
)
async def test_what_an_event_in_quarantine_names_is_not_mended(
    examined: Callable[..., Any], about: About, event: bytes, is_named: bool
) -> None:
    """A code, user, order or book that it names is told, and left; one of another workspace is not."""
    found = OFF._replace(about=(About("code", "other"), about))
    examiner, told, looker = await examined(found, found, repair=True, as_seen=[True], events=[b"", event])
    assert (told, looker.repaired) == ((["found"], 0) if is_named else (["mended"], 1))
    assert examiner.left == ({"uses": 1} if is_named else {})


async def test_past_a_bound_everything_is_taken_for_named(
    examined: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where more is in quarantine than is kept, nothing of the workspace is mended."""
    monkeypatch.setattr(quarantine_exclusions, "MAX_NAMED", 3)
    events = [b"A 1 2 CODE-%d ann 5 7" % n for n in range(9)]
    examiner, told, looker = await examined(OFF, OFF, repair=True, as_seen=[True], events=events)
    assert (told, looker.repaired, examiner.left) == (["found"], 0, {"uses": 1})
    assert len(examiner._quarantined._named) < 9


async def test_what_is_on_its_way_waits(examined: Callable[..., Any]) -> None:
    """Configuration that isn't here yet, and users who are being deleted; what never settles is counted."""
    examiner, _, _ = await examined(OFF, LATER, None)
    assert (examiner.found, examiner.unsettled) == ({}, 0)
    examiner, _, _ = await examined(OFF, OFF, OFF, OFF, erasing=[True, True])
    assert examiner.found == {"uses": 1}
    examiner, _, _ = await examined(*[LATER] * TRIES)
    assert (examiner.found, examiner.unsettled) == ({}, 1)


async def test_what_is_mended_is_not_left(examined: Callable[..., Any]) -> None:
    """Only what is still as it was seen; else it is looked at again. What is unsafe is told, and left."""
    examiner, told, looker = await examined(OFF, OFF, repair=True, as_seen=[True])
    assert (examiner.found, examiner.left, told, looker.repaired) == ({"uses": 1}, {}, ["mended"], 1)
    examiner, told, looker = await examined(OFF, OFF, OFF, repair=True, as_seen=[False, True])
    assert (examiner.found, examiner.left, told, looker.repaired) == ({"uses": 1}, {}, ["mended"], 2)
    examiner, told, looker = await examined(OFF, OFF, None, repair=True, as_seen=[False])
    assert (examiner.found, told) == ({}, [])
    unsafe = OFF._replace(unsafe="it is locked")
    examiner, told, looker = await examined(unsafe, unsafe, repair=True)
    assert (examiner.left, told, looker.repaired) == ({"uses": 1}, ["found"], 0)


async def test_what_is_not_recorded_is_waited_for(
    examined: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """But not for ever."""
    examiner, _, _ = await examined(OFF, None)
    monkeypatch.setattr(examination, "RECORDED_S", 0.02)
    with pytest.raises(NotRecorded):
        await examiner.recorded((1, 10))


def _coupon(said: Said | None, entry: str | None, text: str | None, stands: dict[str, str], locks: int = 0) -> Any:
    flat = [word for pair in stands.items() for word in pair]
    return Coupons(cast("Any", HERE), None).judge(
        "CODE-1", {} if said is None else {"CODE-1": said}, SEEN, [entry, text, flat, locks]
    )


def test_standing_redemptions_of_a_code_that_was_used_very_often() -> None:
    """The record doesn't list them, so they are not compared, and none is removed; but which is the last it has."""
    stands, text = {"2-8": "1000", "2-9": "1000"}, "0 - - {} {} - - 2-9" + UNLOCKED
    assert _coupon(SEVERAL, "3", text.format(2, 3), stands) is None
    assert _coupon(SEVERAL, "3", text.format(2, 3), {"2-8": "1000"}).classes == ("redemptions",)
    assert _coupon(MANY, "3", text.format(1200, 0), stands) is None
    assert _coupon(MANY, "3", text.format(1200, 0).replace("2-9", "2-8"), stands).classes == ("redemptions",)
    wrong = _coupon(MANY, "3", text.format(1199, 0), stands)
    assert wrong.classes == ("uses",)
    assert [write.kind for write in wrong.writes] == ["h", "s"]
    assert _coupon(MANY, "3", text.format(1200, 0).replace("2-9", "-"), {}).classes == ("redemptions",)


def test_coupons() -> None:
    """Surplus, missing, or on its way; and one that is locked is told to be."""
    assert _coupon(None, None, None, {}) is None
    assert _coupon(None, "3", None, {}).classes == ("code_surplus",)
    assert _coupon(None, None, None, {"2-8": "1000"}).classes == ("code_surplus",)
    assert _coupon(SEVERAL, None, None, {}).classes == ("code_missing",)
    assert _coupon(SEVERAL._replace(version=6), None, None, {}) == LATER
    assert _coupon(SEVERAL._replace(version=5), None, None, {}) != LATER
    assert _coupon(SEVERAL, None, None, {}, locks=1).unsafe == "it is locked"
    assert _coupon(SEVERAL, None, None, {}).unsafe == ""


def test_a_code_with_one_use_that_was_used_twice_can_be_written_down() -> None:
    """A record that was spoilt is still what Redis is mended to say, so that it then says so."""
    spoilt = SEVERAL._replace(max=1, uses=2, standing=None)
    found = _coupon(spoilt, "3!2-9", None, {})
    assert found.classes == ("uses",)
    (entry, text) = (write.to for write in found.writes)
    assert _coupon(spoilt, entry, text, {}) is None


def test_users() -> None:
    """Zeros say nothing; what the merchant said last may still be on its way."""
    users = Users(cast("Any", HERE))

    def judged(here: list[str], **told: str) -> Any:
        return users.judge("ann", {"ann": Told(told, 5)}, SEEN, [here])

    assert judged(["a1", "2", "h1", "0"], a1="2") is None
    assert judged(["a1", "3"], a1="2").classes == ("user_counts",)
    assert judged(["a1", "2"], a1="2", cap="5 3").classes == ("user_cap",)
    assert judged([], a1="2", cap="5 3").classes == ("user_counts", "user_cap")
    assert users.judge("ann", {}, SEEN, [["a1", "1"]]).classes == ("user_counts",)  # type: ignore[union-attr]
    assert users.judge("ann", {"ann": Told({"cap": "6 3"}, 6)}, SEEN, [[]]) == LATER


@pytest.mark.parametrize(
    ("field", "said", "values", "classes"),
    [
        (Field("o", 1, "A-1"), "2-9", ["2-9"], None),
        (Field("o", 1, "A-1"), "2-9", [None], ("orders",)),
        (Field("o", 1, "A-1", "2-9"), "2-9", ["2-8"], ("orders",)),
        (Field("o", 1, "A-1"), None, [""], None),
        (Field("o", 1, "A-1"), None, ["2-9"], ("orders",)),
        (Field("o", 1, "3/ann"), "1", ["2"], ("user_counts",)),
        (Field("o", 1, "3/ann"), None, ["0 0"], None),
        (Field("g", 1, "A-1"), "CODE-1 7 ann 1000", [None], ("gifts",)),
        (
            Field("g", 1, "A-1", code="CODE-1"),
            None,
            ["CODE-1 7 ann 1000", f"0 ann 1000 0 - - - -{UNLOCKED}"],
            ("gifts",),
        ),
        (GIFT, None, ["CODE-1 7 ann 1000", "0 bob 1000 0 - - - -" + UNLOCKED], None),
        (GIFT, None, ["CODE-1 7 ann 1000", None], None),
    ],
)
def test_orders_users_uses_and_gifts(field: Field, said: str | None, values: list[Any], classes: Any) -> None:
    """What was given back says nothing, and neither does a gift whose coupon is another's by now."""
    told = {} if said is None else {field._replace(told="", code=""): said}
    found = Uses(cast("Any", HERE), None).judge(field, told, SEEN, values)
    assert cast("Any", found and cast("Any", found).classes) == classes


def test_books_count_what_they_are_off() -> None:
    """Whatever goes on; but not while the configuration moves, by which codes come and go."""
    books = Books(cast("Any", HERE))
    values = ["3", "1", None, None, None, None, None, None, None, None]
    assert books.judge(7, ({7: {"codes": 3, "assigned": 1}}, 5), SEEN, values) is None
    found = cast("Any", books.judge(7, ({7: {"codes": 5}}, 5), SEEN, values))
    assert found.classes == ("book_counts",)
    assert [(write.kind, write.member, write.to) for write in found.writes] == [
        ("n", "codes", "2"),
        ("n", "assigned", "-1"),
    ]
    assert books.judge(7, ({}, 6), SEEN, values) == LATER
    assert books.judge(7, ({}, 5), SEEN._replace(config=4), values) == LATER
    assert books.judge(7, ({}, 5), SEEN._replace(newest=6), values) == LATER


def test_settings_and_keys() -> None:
    """A newer version is on its way; a key that the record doesn't have is Redis's own."""
    configuration, kept = Configuration(cast("Any", HERE)), Keys(cast("Any", HERE))
    assert configuration.judge(7, {7: (5, "a b")}, SEEN, ["5 a b"]) is None
    assert cast("Any", configuration.judge(7, {7: (5, "a b")}, SEEN, ["5 a c"])).classes == ("configuration",)
    assert configuration.judge(7, {7: (6, "a b")}, SEEN, ["5 a c"]) == LATER
    assert kept.judge("key", {}, SEEN, ["x 0 @1-1"]) is None
    assert kept.judge("key", {"key": ("x 0 @1-1", 60_000)}, SEEN, ["x 0 @1-1"]) is None
    found = cast("Any", kept.judge("key", {"key": ("x 0 @1-1", 60_000)}, SEEN, [None]))
    assert (found.classes, found.writes[0].kind, found.writes[0].member) == (("idempotency_keys",), "i", "60000")

"""Requests for what was sold out a moment ago are refused together, and only where their own scripts would refuse.

A decider remembers from its last reply what was sold out (sold_out.py): each test gets such a refusal
first. The requests of one `together` are one call."""

from collections.abc import Callable
from typing import Any

import pytest

from service.engine.domain.configuration import BookRow
from tests.harness.script_runner import NOW_MS
from tests.harness.shop import Shop, together
from tests.harness.worst.measuring import count_commands
from tests.lua.conftest import note_calls

SOLD_OUT, USED_UP = (409, "out_of_stock"), (409, "coupon_exhausted")
CODE = "CODE-1"


async def _sold_out(shop: Shop, *codes: str, **rules: Any) -> BookRow:
    """A book whose codes are assigned to the first users, and that is known as sold out."""
    book = await shop.book(*codes, **rules)
    for number, code in enumerate(codes):
        assert (await shop.assign(code, f"first-{number}"))[0] == 201
    await _become_known(shop, book)
    return book


async def _become_known(shop: Shop, book: BookRow) -> None:
    assert await together(shop.assign_any(book, "early-1"), shop.assign_any(book, "early-2")) == [SOLD_OUT] * 2


async def _used_up(shop: Shop, **rules: Any) -> BookRow:
    """A book whose code has two uses, both spent, and is known for it; for the order A-1 by ann."""
    book = await shop.book(CODE, max_redemptions_per_code=2, **rules)
    for user, order in (("ann", "A-1"), ("bob", "A-2")):
        assert (await shop.redeem(CODE, user, orderId=order, key=order, orderValue="5"))[0] == 201
    assert await together(shop.redeem(CODE, "eve"), shop.lock(CODE, "eve")) == [USED_UP] * 2
    return book


async def test_a_repeat_under_its_key_gets_its_coupon_although_the_book_is_sold_out(still: Shop) -> None:
    """A key that is known answers its coupon, or that it was used for something else; a new one is refused."""
    book = await still.book(CODE)
    first = await still.assign_any(book, "ann", key="k")
    await _become_known(still, book)
    (status, body), *refused = await together(
        still.assign_any(book, "ann", key="k"),
        still.assign_any(book, "bob", key="new"),
        still.assign_any(book, "ann", key="k", fingerprint="other"),
    )
    assert (status, body) == (201, {**first[1], "replayed": True})
    assert refused == [SOLD_OUT, (422, "idempotency_key_reused")]


async def test_a_users_limits_are_named_before_the_stock(still: Shop) -> None:
    """Who has as many codes of the book, or coupons, as allowed gets that refusal; others that the book is sold out."""
    book = await _sold_out(still, CODE, max_codes_per_user=1)
    other = await _sold_out(still, "OTHER-1", max_codes_per_user=2)
    await still.put_workspace(max_coupons=2)
    await still.user("dan", 1)
    assert await together(
        still.assign_any(book, "first-0"), still.assign_any(book, "new"), still.assign_any(other, "first-0"),
        still.assign_any(other, "dan"),
    ) == [(422, "user_code_limit"), SOLD_OUT, (422, "user_coupon_limit"), SOLD_OUT]  # fmt: skip
    assert await together(*(still.assign_any(book, "first-0") for _ in range(2))) == [(422, "user_code_limit")] * 2
    assert still.refusal
    assert still.refusal.figures == {"maxCodesPerUser": 1}
    await still.put_workspace(max_coupons=None)
    await still.user("first-0", 1)
    assert await together(still.assign_any(other, "first-0"), still.assign_any(other, "new")) == [
        (422, "user_coupon_limit"), SOLD_OUT,
    ]  # fmt: skip


async def test_a_coupon_that_is_freed_in_the_call_can_be_had_at_once(still: Shop) -> None:
    """Stock is read again once a script of the call may have changed it: the next request gets the coupon, no other."""
    book = await _sold_out(still, CODE)
    answers = await together(
        still.assign_any(book, "bob"),
        still.unassign(CODE),
        still.assign_any(book, "cem"),
        still.assign_any(book, "dan"),
    )
    assert [answers[0], answers[1][0], answers[2][0], answers[3]] == [SOLD_OUT, 200, 201, SOLD_OUT]


@pytest.mark.parametrize("most", [1, 3])
async def test_a_coupon_whose_lock_has_expired_can_be_had(still: Shop, most: int) -> None:
    """A lock that no request has touched since it expired holds nothing; a live one does."""
    book = await still.book(CODE, max_redemptions_per_code=most)
    await still.lock(CODE, "ann", lockSeconds=60)
    await _become_known(still, book)
    await still.wait(60_000)
    (status, _), refused = await together(still.assign_any(book, "bob"), still.assign_any(book, "cem"))
    assert (status, refused) == (201, SOLD_OUT)


async def test_new_codes_can_be_had_at_once(still: Shop) -> None:
    """So can those that end by themselves, until they end."""
    book = await _sold_out(still, CODE)
    await still.add(book, "CODE-2")
    await still.add(book, "CODE-3", expires_ms=NOW_MS + 1_000)
    await still.add(book, "CODE-4", expires_ms=NOW_MS)
    answers = await together(*(still.assign_any(book, f"late-{n}") for n in range(3)))
    assert [status for status, _ in answers] == [201, 201, 409]
    await still.add(book, "CODE-5", expires_ms=NOW_MS + 1_000)
    answers = await together(*(still.assign_any(book, f"last-{n}") for n in range(2)))
    assert [status for status, _ in answers] == [201, 409]


async def test_each_book_has_its_own_stock(still: Shop) -> None:
    """Of two books that were sold out in one call, the one that has a coupon again gives it."""
    book, other = await _sold_out(still, CODE, max_codes_per_user=1), await _sold_out(still, "OTHER-1")
    await still.unassign("OTHER-1")
    asked = [still.assign_any(one, user) for one in (book, other) for user in ("first-0", "new")]
    answers = await together(*asked)
    assert answers[:2] == [(422, "user_code_limit"), SOLD_OUT]
    assert [answers[2][0], answers[3]] == [201, SOLD_OUT]


@pytest.mark.parametrize(("rules", "code"), [
    ({"status": "inactive"}, "book_inactive"),
    ({"valid_until_ms": NOW_MS}, "expired"),
    ({"status": "inactive", "valid_until_ms": NOW_MS}, "book_inactive"),
    ({"valid_from_ms": NOW_MS + 1}, "out_of_stock"),
])  # fmt: skip
async def test_what_is_said_of_the_book_goes_before_its_stock(still: Shop, rules: dict[str, Any], code: str) -> None:
    """A book that ended or is switched off is named so, to a user at the limit, too."""
    book = await _sold_out(still, CODE, max_codes_per_user=1)
    await still.change(book, **rules)
    answers = await together(still.assign_any(book, "new"), still.assign_any(book, "first-0"))
    assert [answer[1] for answer in answers] == [code, "user_code_limit" if code == "out_of_stock" else code]


async def test_a_call_makes_few_assignments(still: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """A call ends before its third assignment that was not refused at once; what is left goes out alone, in order."""
    book = await _sold_out(still, CODE)
    await still.add(book, *(f"NEW-{n}" for n in range(9)))
    sizes = note_calls(still, monkeypatch)
    answers = await together(
        *(still.assign_any(book, f"late-{n}") for n in range(6)),
        still.lock(CODE, "first-0"),
        *(still.assign_any(book, f"late-{n}") for n in range(6, 10)),
    )
    assert [status for status, _ in answers] == [201] * 10 + [409]
    assert sizes == [11, *[1] * 9]


async def test_a_used_up_code_is_refused_after_what_was_done_before(still: Shop) -> None:
    """A repeat under a key, and one by the same user for the same order, get their redemption; others are refused."""
    await _used_up(still)
    (status, body), (again, _), *refused = await together(
        still.redeem(CODE, "ann", orderId="A-1", key="A-1", orderValue="5"),
        still.redeem(CODE, "ann", orderId="A-1"),
        still.redeem(CODE, "ann", orderId="A-1", key="A-1", fingerprint="other"),
        still.redeem(CODE, "cem", orderId="A-1"),
        still.redeem(CODE, "cem", orderId="A-3", key="new"),
        still.lock(CODE, "cem", key="lock"),
        still.lock(CODE, "cem", key="A-1", fingerprint="other"),
    )
    assert (status, body["replayed"], again) == (201, True, 200)
    reused = (422, "idempotency_key_reused")
    assert refused == [reused, USED_UP, USED_UP, USED_UP, reused]


async def test_a_use_that_is_given_back_can_be_had_at_once(still: Shop) -> None:
    """After a rollback in the call the next redemption gets the use, and no other does."""
    book = await still.book(CODE, max_redemptions_per_code=2)
    _, body = await still.redeem(CODE, "ann")
    assert (await still.redeem(CODE, "bob"))[0] == 201
    assert await still.redeem(CODE, "eve") == USED_UP
    answers = await together(
        still.redeem(CODE, "cem"), still.rollback(body["redemptionId"]), still.redeem(CODE, "dan"),
        still.redeem(CODE, "eve"), still.lock(CODE, "eve"),
    )  # fmt: skip
    assert [answers[0], answers[1][0], answers[2][0], *answers[3:]] == [USED_UP, 200, 201, USED_UP, USED_UP]
    assert (await still.stats(book))["exhausted"] == 1


@pytest.mark.parametrize(("rules", "body", "codes"), [
    ({"status": "inactive"}, {}, ["book_inactive"] * 2),
    ({"valid_from_ms": NOW_MS + 1}, {}, ["not_started"] * 2),
    ({"valid_until_ms": NOW_MS}, {}, ["expired"] * 2),
    ({"require_assignment": True}, {}, ["coupon_not_assigned"] * 2),
    ({"require_lock": True}, {}, ["lock_required", "coupon_exhausted"]),
    ({}, {"lockToken": "lost"}, ["lock_lost", "coupon_exhausted"]),
    ({}, {"orderValue": "1.005"}, ["invalid", "coupon_exhausted"]),
    ({"max_redemptions_per_user": 1}, {"userId": "ann"}, ["coupon_exhausted"] * 2),
])  # fmt: skip
async def test_reasons_before_used_up_are_named(
    still: Shop, rules: dict[str, Any], body: dict[str, Any], codes: list[str]
) -> None:
    """Of a redemption and a lock of a used-up code each names the reason that comes first."""
    book = await _used_up(still)
    await still.change(book, **rules)
    user = body.pop("userId", "cem")
    answers = await together(still.redeem(CODE, user, **body), still.lock(CODE, user))
    assert [answer[1] for answer in answers] == codes


@pytest.mark.parametrize(("says", "code"), [
    ({"active": False}, "coupon_inactive"), ({"expires_ms": NOW_MS}, "expired"),
])  # fmt: skip
async def test_reasons_of_the_code_are_named(still: Shop, says: dict[str, Any], code: str) -> None:
    """A used-up code that is switched off or past its own end is named so."""
    book = await _used_up(still)
    await still.add(book, CODE, **says)
    assert await together(still.redeem(CODE, "cem"), still.lock(CODE, "cem")) == [(409, code)] * 2


async def test_refusals_together_read_what_they_share_once(kind: str, still: Shop) -> None:
    """Twenty more of them cost a command each where the order is looked up, and else none."""
    if kind in ("fakeredis", "general", "redis"):
        pytest.skip("it has no usual texts, or counts no commands")
    await _used_up(still)
    book = await _sold_out(still, "OTHER-1")

    async def cost(many: int) -> dict[str, int]:
        asked: dict[str, Callable[[int], Any]] = {
            "redeem": lambda n: still.redeem(CODE, f"eve-{n}"),
            "order": lambda n: still.redeem(CODE, f"eve-{n}", orderId=f"E-{n}"),
            "lock": lambda n: still.lock(CODE, f"eve-{n}"),
            "assign": lambda n: still.assign_any(book, f"eve-{n}"),
        }
        costs = dict[str, int]()
        for name, ask in asked.items():
            before = await count_commands(still.link)
            replies = await together(*map(ask, range(many)))
            assert set(replies) == {SOLD_OUT if name == "assign" else USED_UP}
            costs[name] = await count_commands(still.link) - before
        return costs

    few, more = await cost(10), await cost(30)
    assert {name: more[name] - few[name] for name in few} == {"redeem": 0, "order": 20, "lock": 0, "assign": 20}

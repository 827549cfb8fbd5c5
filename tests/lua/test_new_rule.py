"""A new setting with a rule in `judge` alone: the usual texts don't know it, and no path sells against it."""

import asyncio
from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Any

import pytest
import pytest_asyncio

from service.engine.domain.errors import Refusal
from service.engine.formats import stored_settings
from service.engine.formats.script_replies import expand_reply
from service.engine.hot.decider import interpret_reply
from service.engine.operations import checkout, lock, redeem
from service.engine.operations.base import Call, Command
from tests.harness.script_runner import EPOCH, NOW_MS
from tests.harness.shop import Shop
from tests.lua.conftest import shop_on
from tests.lua.general import changed_texts

DAY_MS = 86_400_000
SUNDAY_MS = (NOW_MS // DAY_MS + 2) * DAY_MS
FIXED = {"discount": {"type": "fixed", "value_e4": 100_000}}
RESTS = {"tags": ["rests on sundays"]}
_BEFORE = "  if book.from and now < book.from and fail("
_RULE = "  if book.rests and math.floor(now / 86400000) % 7 == 3 and fail(ask, OUT.not_started) then return true end"


def _with_rule(part: str, text: str) -> str:
    assert part != "judging" or _BEFORE in text
    return text.replace(_BEFORE, f"{_RULE}\n{_BEFORE}") if part == "judging" else text


@pytest_asyncio.fixture
async def sundays(valkey_for_scripts: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Shop]:
    """A shop whose books may sell nothing on Sundays: a row of the table, and a line of judge."""
    new = stored_settings._Named("rests", lambda row: "rests on sundays" in row.tags, False, "")
    monkeypatch.setattr(stored_settings, "_NAMED", (*stored_settings._NAMED, new))
    with changed_texts(_with_rule):
        async with shop_on("valkey", valkey_for_scripts, texts="usual") as shop:
            yield await shop.freeze()


def _prepare(shop: Shop, what: str, code: str, user: str) -> Command:
    call, price = Call(shop.caller), {"order_value": Decimal(50)}
    match what:
        case "lock":
            return lock.LOCK.prepare(call, code, lock.LockRequest(user_id=user))
        case "lock with a price":
            return lock.LOCK.prepare(call, code, lock.LockRequest(user_id=user, **price))
        case "redeem":
            return redeem.REDEEM.prepare(call, code, redeem.RedeemRequest(user_id=user, **price))
        case _:
            request = checkout.CheckoutRequest(code=code, user_id=user, order_id=user, **price)
            return checkout.CHECKOUT.prepare(call, None, request)


async def _alone(shop: Shop, command: Command) -> str:
    digest = shop.decider._digests[0][command.script]
    return _outcome(await shop.link.call("EVALSHA", digest, len(command.keys), *command.keys, *command.args, EPOCH))


async def _together(shop: Shop, *commands: Command) -> list[str]:
    replies: list[asyncio.Future[Any]] = [asyncio.get_running_loop().create_future() for _ in commands]
    for command, reply in zip(commands, replies, strict=True):
        shop.decider.start(0, command.script, command.keys, command.args, reply.set_result)
    return [_outcome(reply) for reply in await asyncio.gather(*replies)]


def _outcome(reply: Any) -> str:
    try:
        interpret_reply(expand_reply(reply))
    except Refusal as refusal:
        return refusal.code
    return "done"


@pytest.mark.parametrize("uses", [1, 2])
@pytest.mark.parametrize("what", ["lock", "lock with a price", "redeem", "checkout"])
async def test_no_path_sells_against_it(sundays: Shop, what: str, uses: int) -> None:
    """Alone, in a call with others, and of a code that the process remembers as used up: on a Sunday it is refused."""
    shop, codes = sundays, ["USED", *(f"CODE-{n}" for n in range(7))]
    await shop.book(*codes, max_redemptions_per_code=uses, **RESTS, **FIXED)
    for user in ("ann", "bob")[:uses]:
        assert await _alone(shop, _prepare(shop, "redeem", "USED", user)) == "done"
    refused = await _together(shop, *(_prepare(shop, "redeem", "USED", user) for user in ("cy", "dan")))
    assert set(refused) == {"coupon_redeemed" if uses == 1 else "coupon_exhausted"}
    assert await _alone(shop, _prepare(shop, what, "CODE-0", "ann")) == "done"
    await shop.at(SUNDAY_MS)
    assert await _alone(shop, _prepare(shop, what, "CODE-1", "ann")) == "not_started"
    late = ("CODE-2", "USED", "CODE-3", "CODE-4")
    assert await _together(shop, *(_prepare(shop, what, code, f"{code}!") for code in late)) == ["not_started"] * 4
    await shop.at(SUNDAY_MS + DAY_MS)
    early = ("CODE-2", "CODE-3", "CODE-4")
    assert await _together(shop, *(_prepare(shop, what, code, f"{code}!") for code in early)) == ["done"] * 3


async def test_a_book_without_it_stays_usual(sundays: Shop) -> None:
    """A book that does not have the setting has the same text as before, and sells on a Sunday."""
    book = await sundays.book("CODE-1", **FIXED)
    assert stored_settings.book_settings(book).startswith("lrxs")
    await sundays.at(SUNDAY_MS)
    assert await _alone(sundays, _prepare(sundays, "redeem", "CODE-1", "ann")) == "done"


async def test_a_lock_of_saturday_is_redeemed_on_sunday(sundays: Shop) -> None:
    """A live lock keeps what was true of the book when it was made."""
    await sundays.book("CODE-1", **RESTS)
    await sundays.at(SUNDAY_MS - 60_000)
    assert (await sundays.lock("CODE-1", "ann"))[0] == 201
    await sundays.at(SUNDAY_MS + 60_000)
    assert (await sundays.redeem("CODE-1", "ann"))[0] == 201
    _, validation = await sundays.validate("CODE-1", userId="bob")
    assert "not_started" in validation["reasons"]

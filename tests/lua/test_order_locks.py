"""An order's live locks are listed, however a lock was made; one that ended leaves no mark. Reading changes nothing."""

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from service.engine.formats import key_names
from service.server.in_redis.workspace_state import Workspace
from tests.harness.shop import Shop
from tests.lua.consistency import assert_consistent


async def _locked(shop: Shop, order: str = "A-1") -> list[tuple[str, str]]:
    """The codes and users of the order's locks."""
    locks = await Workspace(shop.decider).order_locks(shop.caller, order)
    assert {lock.order_id for lock in locks} <= {order}
    return [(lock.code, lock.user_id) for lock in locks]


async def test_each_lock_of_an_order(still: Shop, uses: int | None) -> None:
    """Those of several users and codes, renewed, extended or not; not those of another order, or without one."""
    await still.book("CODE-1", "CODE-2", "CODE-3", "CODE-4", max_redemptions_per_code=uses)
    assert await _locked(still) == []
    _, lock = await still.lock("CODE-1", "ann", orderId="A-1", lockSeconds=10)
    await still.lock("CODE-2", "bob", orderId="A-1", lockSeconds=10)
    await still.lock("CODE-2", "bob", orderId="A-1", lockSeconds=20)
    await still.lock("CODE-3", "ann", orderId="A-2")
    await still.lock("CODE-4", "ann")
    await still.extend("CODE-1", lock["lockToken"], lockSeconds=20)
    await still.wait(15_000)
    before = await still.everything()
    assert await _locked(still) == [("CODE-1", "ann"), ("CODE-2", "bob")]
    assert await _locked(still, "A-2") == [("CODE-3", "ann")]
    assert await still.everything() == before
    await still.wait(10_000)
    assert await _locked(still) == []


async def _release(shop: Shop, token: str) -> None:
    await shop.unlock("CODE-1", token)


async def _redeem(shop: Shop, token: str) -> None:
    assert (await shop.redeem("CODE-1", "ann", orderId="A-1", lockToken=token))[0] == 201


async def _expire(shop: Shop, token: str) -> None:
    """It is removed when another locks the code."""
    await shop.wait(3_600_000)
    assert (await shop.lock("CODE-1", "bob", orderId="A-2"))[0] == 201


async def _assign(shop: Shop, token: str) -> None:
    await shop.wait(3_600_000)
    assert (await shop.assign("CODE-1", "bob"))[0] == 201


ENDS: dict[str, Callable[[Shop, str], Awaitable[Any]]] = {
    "released": _release, "redeemed": _redeem, "expired": _expire, "assigned": _assign,
}  # fmt: skip


@pytest.mark.parametrize("end", ENDS)
async def test_what_ended_leaves_no_mark(still: Shop, end: str) -> None:
    """The order's text is as without the lock: its places alone, or none."""
    await still.book("CODE-1", "CODE-2", max_redemptions_per_code=1)
    _, lock = await still.lock("CODE-1", "ann", orderId="A-1")
    await ENDS[end](still, lock["lockToken"])
    await assert_consistent(still)
    assert ("CODE-1", "ann") not in await _locked(still)
    texts = (await still.everything()).get(key_names.orders(still.caller.prefix, key_names.bucket("A-1")), {})
    assert "=" not in texts.get("A-1", "")
    assert ("A-1" in texts) == (end == "redeemed")


async def test_an_order_has_at_most_a_hundred(still: Shop, uses: int | None) -> None:
    """A lock beyond is valid. Of codes with several uses the first is left out, of others the last."""
    codes = [f"CODE-{number:03d}" for number in range(101)]
    await still.book(*codes, max_redemptions_per_code=uses)
    tokens = [(await still.lock(code, "ann", orderId="A-1"))[1]["lockToken"] for code in codes]
    listed = [code for code, _ in await _locked(still)]
    assert listed == (codes[:-1] if uses == 1 else codes[1:])
    assert [(await still.extend(code, token))[0] for code, token in zip(codes, tokens, strict=True)] == [200] * 101
    assert [(await still.unlock(code, token))[0] for code, token in zip(codes, tokens, strict=True)] == [204] * 101
    assert await _locked(still) == []

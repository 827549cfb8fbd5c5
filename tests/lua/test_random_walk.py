"""Whatever is asked in whatever order: every answer is the contract's, everything adds up, and events rebuild it."""

import re
from typing import Any

import pytest

from service.domain import keys
from service.domain.projection import CodeRow
from service.hot.scripts import MENDING, Scripts
from tests.lua.consistency import Held, assert_consistent
from tests.lua.walk import Walk
from tests.shop import EPOCH, Shop

STEPS = {"fakeredis": 700, "valkey": 3000, "redis": 1500}
SEEDS = {"fakeredis": 10, "valkey": 20, "redis": 30}
AT_ONCE = 33


@pytest.mark.parametrize("change_limits", [False, True])
async def test_a_random_walk_is_answered_as_the_model_says_and_rebuilt_from_events(
    still: Shop, other: Shop, kind: str, change_limits: bool
) -> None:
    """Thousands of random requests are answered as the contract says, every counter stays right, and a second Redis
    that is given the configuration and the events holds the same."""
    walk = Walk(still, SEEDS[kind] + change_limits, change_limits)
    await walk.begin()
    for step in range(STEPS[kind]):
        await walk.step()
        if step % 50 == 0:
            await assert_consistent(still)
    await rebuild(walk, other)
    other.limits_changed = still.limits_changed
    await same(still, other)


async def rebuild(walk: Walk, other: Shop) -> None:
    """Make another Redis whole from configuration and events, as the worker does while the gate is closed."""
    shop = walk.shop
    other.caller = shop.caller
    await _copy_outbox(shop, other)
    await other.link.call("DEL", f"{{p0}}:w{other.workspace}:w", f"{{p0}}:w{other.workspace}:x")
    await other.gate("closed")
    scripts = Scripts(0, EPOCH, "nonce", MENDING, "closed")
    for text in scripts.texts.values():
        await other.link.call("SCRIPT", "LOAD", text)
    other.decider._digests[0] = scripts.digests
    other.still_ms = shop.still_ms
    await other.put_workspace(coupons_per_order=walk.model.per_order, max_coupons=walk.model.max_coupons)
    for book in walk.model.books.values():
        await other.projector.book(book)
    for c in walk.model.codes.values():
        await other.projector.codes(1, 0, 1, [row_of(walk, c.code)])
    for user, cap in walk.model.caps.items():
        await other.user(user, cap)
    words: list[str] = []
    for event_id, fields in (await shop.everything())[keys.outbox(0)]:
        decided = fields["d"]
        if decided[0] in "AURB":
            words += [decided, event_id, fields["r"]] if decided[0] == "R" else [decided, "", ""]
    for start in range(0, len(words), 3 * AT_ONCE):
        reply = await other.decider.run(0, "redo", (keys.gate(0),), words[start : start + 3 * AT_ONCE])
        assert reply == [0]


async def _copy_outbox(shop: Shop, other: Shop) -> None:
    """The events are not written again by mending; they are here for assert_consistent."""
    await other.link.call("DEL", keys.outbox(0))
    for event_id, fields in (await shop.everything())[keys.outbox(0)]:
        await other.link.call("XADD", keys.outbox(0), event_id, *(word for field in fields.items() for word in field))


def row_of(walk: Walk, code: str) -> CodeRow:
    """The code's row as Postgres has it in the end."""
    c = walk.model.codes[code]
    return walk.shop.code_row(walk.model.books[c.book], code, walk.shop.version, **walk.says(c))


async def same(shop: Shop, other: Shop) -> None:
    """Compare all but locks and idempotency keys. What differs by right: a code's version (it has the last one, where
    configuration came once), the limit and the mark `touched` of what was locked and never redeemed, zeros."""
    ours = Held(await shop.everything(), shop.caller.prefix)
    theirs = Held(await other.everything(), shop.caller.prefix)
    assert {code: c.book for code, c in ours.coupons.items()} == {code: c.book for code, c in theirs.coupons.items()}
    for start in ("r:", "s:", "o:"):
        assert ours.under(start) == theirs.under(start)
    assert ours.mine["x"] == theirs.mine["x"]
    assert ours.mine["w"].split(" ", 1)[1] == theirs.mine["w"].split(" ", 1)[1]
    for start in ("b:", "n:", "u:"):
        assert _plain(ours.under(start)) == _plain(theirs.under(start))
    for code, c in ours.coupons.items():
        d = theirs.coupons[code]
        assert not d.locks
        names = ("user", "assigned_at", "uses", "max", "off", "expires_at", "last")
        assert [getattr(c, name) for name in names] == [getattr(d, name) for name in names]


def _plain(found: dict[str, Any]) -> dict[str, Any]:
    plain: dict[str, Any] = {}
    for name, value in found.items():
        if isinstance(value, str):
            plain[name] = value.split(" ", 1)[1]  # without the version
        else:
            plain[name] = {
                key: re.sub(r"^\d+ ", "", text) if key == "cap" else text
                for key, text in value.items()
                if key != "touched" and text != "0"
            }
            if not plain[name]:
                del plain[name]
    return plain

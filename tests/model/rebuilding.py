"""A Redis made again from configuration and events, as the worker makes it, and compared with the one that was lost."""

import re
from collections.abc import Mapping
from typing import Any

from loadtests.harness.premises import EPOCH
from loadtests.harness.shop import Shop
from service.domain.configuration import BookRow, CodeRow
from service.formats import key_names
from service.hot.scripts import MENDING, Scripts
from tests.lua.consistency import Held
from tests.lua.outbox import made_id

AT_ONCE = 33


async def rebuild(
    shop: Shop,
    other: Shop,
    settings: Mapping[str, Any],
    books: Mapping[int, BookRow],
    codes: Mapping[str, CodeRow],
    caps: Mapping[str, int | None],
) -> None:
    """Make another Redis whole from the latest configuration and all events, while its gate is closed."""
    other.caller, other.still_ms = shop.caller, shop.still_ms
    outbox = other.outbox = await shop.everything_told()
    await other.link.call("DEL", key_names.outbox(0))
    await other.link.call("DEL", f"{shop.caller.prefix}w", f"{shop.caller.prefix}x")
    await other.gate("closed")
    texts = Scripts(0, EPOCH, "nonce", MENDING, "closed").texts
    other.decider._digests[0] = {name: await other.link.call("SCRIPT", "LOAD", text) for name, text in texts.items()}
    await other.put_workspace(**settings)
    for row in books.values():
        await other.projector.book(row)
    await other.projector.codes(shop.workspace, 0, 1, list(codes.values()), whole=True)
    for user, cap in caps.items():
        await other.user(user, cap)
    words: list[str] = []
    redeemed: dict[str, str] = {}
    for event_id, fields in outbox:
        kind, *said = fields["d"].split(" ")
        if kind == "R":
            words += [" ".join([kind, *said[:16]]), event_id, ""]
            redeemed[made_id(event_id, int(said[10]))] = f"{event_id} {said[9]} {said[15]}"
            if gift := said[16:]:  # (workspace, order and its bucket, user and time are the redemption's)
                given = ["A", said[0], *gift[:2], said[3], said[10], gift[2], said[4], said[13]]
                words += [" ".join(given), event_id, ""]
        elif kind == "B":
            words += [fields["d"], event_id, redeemed[said[5]]]
        elif kind in "AU":
            words += [fields["d"], event_id, ""]
    for start in range(0, len(words), 3 * AT_ONCE):
        names, run = (key_names.gate(0), key_names.mend(0)), ["whole", *words[start : start + 3 * AT_ONCE]]
        assert await other.decider.run(0, "redo", names, run) == [0]
    held = [key for key in map(key_names.parse_key, await other.everything()) if key and key.kind == "d"]
    buckets = [key.parts[0] for key in held if key.workspace == shop.workspace]
    assert await other.decider.run(0, "fill_pool", [key_names.gate(0), f"{shop.caller.prefix}w"], buckets) == [0]
    await other.link.call("DEL", key_names.mend(0))


async def assert_same(shop: Shop, other: Shop) -> None:
    """Compare all but locks and idempotency keys. What differs by right: a code's version (it has the last one, where
    configuration came once), the limit and the mark `touched` of what was locked and never redeemed, zeros."""
    ours = Held(await shop.everything(), shop.caller.prefix)
    theirs = Held(await other.everything(), shop.caller.prefix)
    assert {code: c.book for code, c in ours.coupons.items()} == {code: c.book for code, c in theirs.coupons.items()}
    for start in ("s:", "o:", "g:"):
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

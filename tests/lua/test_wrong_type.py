"""A key of the wrong type stops no script halfway: a request is refused and nothing is changed, or all else is."""

import pytest

from service.engine.formats import key_names
from tests.harness.described import descriptions
from tests.harness.dump import everything
from tests.lua.conftest import shop_on

CODE = "CODE-1"
ASKED = {one.row.script: one for one in descriptions() if not one.row.reads}


def _names(w: str) -> list[str]:
    """All keys that any of them comes to; the code names the order, too."""
    of_code, of_user = key_names.bucket(CODE), key_names.bucket("ann")
    return [
        key_names.settings(w),
        key_names.books(w),
        key_names.book(w, 1),
        key_names.counters(w, 1),
        key_names.pool(w, 1),
        key_names.coupon(w, CODE),
        key_names.standing(w, CODE),
        key_names.locks(w, CODE),
        key_names.deadlines(w, CODE),
        key_names.locks_of_book(w, 1),
        key_names.locks_of_user(w, 1, "ann"),
        key_names.user(w, "ann"),
        key_names.answer(w, "key"),
        key_names.directory(w, of_code),
        key_names.accounts(w, of_code),
        key_names.orders(w, of_code),
        key_names.orders(w, of_user),
        key_names.gifts(w, of_code),
        *(key_names.set_of_codes(w, 1, which) for which in "uapx"),
    ]


@pytest.mark.parametrize("kind", ["fakeredis", "valkey"])
@pytest.mark.parametrize("uses", [1, 3])
@pytest.mark.parametrize("ask", [*ASKED, "redeem_locked"])
async def test_what_is_refused_changed_nothing(url: str, kind: str, uses: int, ask: str) -> None:
    """Whichever of its keys is a list: an answer is a success, or a refusal that changed no key and made no event."""
    rules = {"max_redemptions": 9, "max_redemptions_per_user": 9} if uses > 1 else {}
    for name in _names(key_names.prefix(0, 1)):
        async with shop_on(kind, url) as shop:
            one = ASKED[ask.removesuffix("_locked")]
            book = await shop.book(CODE, **{"max_redemptions_per_code": uses} | rules | one.rules)
            if ask == "redeem_locked":
                await shop.lock(CODE, "ann", orderId=CODE, lockSeconds=5)
            asked = await one.prepare(shop, book, CODE, key="key")
            await shop.link.call("DEL", name)
            await shop.link.call("LPUSH", name, "x")
            before = await everything(shop.link)
            status, body = await asked()
            if status >= 300:
                assert await everything(shop.link) == before, (name, body)
                assert body in ("unavailable", "recovering", "lock_lost", "coupon_not_assigned", "out_of_stock"), name


@pytest.mark.parametrize("kind", ["fakeredis", "valkey", "general", pytest.param("redis", marks=pytest.mark.check)])
async def test_a_record_of_the_wrong_type_is_no_fresh_coupon(url: str, kind: str) -> None:
    """As long as a coupon's record is a list, no request gets the coupon, and no answer has its uses."""
    async with shop_on(kind, url) as shop:
        book = await shop.book("MANY-1", "MINE-1", max_redemptions_per_code=2)
        await shop.book("SOLE-1")
        for code in ("MINE-1", "SOLE-1"):
            await shop.assign(code, "ann")
        await shop.redeem("MANY-1", "bob")
        for code in ("MANY-1", "MINE-1", "SOLE-1"):
            name = key_names.coupon(shop.caller.prefix, code)
            await shop.link.call("DEL", name)
            await shop.link.call("LPUSH", name, "x")
            for ask in (shop.redeem, shop.lock, shop.assign):
                assert await ask(code, "dan") == (503, "unavailable")
            assert await shop.coupon(code) == (503, "unavailable")
        assert (await shop.stats(book))["redemptions"] == 1


@pytest.mark.parametrize("kind", ["fakeredis", "valkey"])
@pytest.mark.parametrize("lost", ["gone", "a list"])
async def test_lost_counters_stop_no_request(url: str, kind: str, lost: str) -> None:
    """A book's counters that are gone, or a list, are in no assignment's way, and make no notice."""
    async with shop_on(kind, url) as shop:
        book = await shop.book(CODE)
        counters = key_names.counters(shop.caller.prefix, book.book)
        await shop.link.call("DEL", counters)
        if lost == "a list":
            await shop.link.call("LPUSH", counters, "x")
        assert (await shop.assign(CODE, "ann"))[0] == 201
        assert await shop.notices(book) == []

"""Books and workspaces whose settings a script can't read permit nothing, also to the holder of a lock."""

import re

import pytest

from service.engine.formats import key_names
from tests.harness.described import descriptions
from tests.harness.dump import everything
from tests.harness.shop import Shop

CODE = "CODE-1"
ASKED = {one.row.script: one for one in descriptions() if not one.row.reads}
UNREADABLE = {
    "another form": lambda settings: "1 of another form",
    "a later setting": lambda settings: settings.replace("lrxs", "----").replace("--xs", "----") + " only_on_mondays=1",
    "a later place": lambda settings: re.sub(
        r"([lrxs-]{4})(\d+)", lambda word: f"{word[1]}{int(word[2]) + 1}", settings
    ),
}


@pytest.mark.parametrize("uses", [1, 3])
@pytest.mark.parametrize("how", ["closed by a worker", *UNREADABLE])
@pytest.mark.parametrize("ask", [*ASKED, "redeem_locked"])
async def test_an_unreadable_book_permits_nothing(still: Shop, ask: str, how: str, uses: int) -> None:
    """Each request about it is 503 `unavailable`, and changes nothing; once the book can be read it succeeds."""
    one = ASKED[ask.removesuffix("_locked")]
    book = await still.book(CODE, **{"max_redemptions_per_code": uses} | one.rules)
    if ask == "redeem_locked":
        await still.lock(CODE, "ann", orderId=CODE)
    asked = await one.prepare(still, book, CODE)
    key = key_names.book(still.caller.prefix, book.book)
    settings = await still.link.call("GET", key)
    if how in UNREADABLE:
        await still.link.call("SET", key, UNREADABLE[how](settings))
    else:
        await still.projector.close_book(0, 1, book.book, book.book_id, still.next_version())
    before = await everything(still.link)
    assert await asked() == (503, "unavailable")
    assert await everything(still.link) == before
    await still.link.call("SET", key, settings)
    assert (await asked())[0] < 300


@pytest.mark.parametrize("later", [" only_on_mondays=1", "8"])
@pytest.mark.parametrize("ask", [*ASKED, "redeem_locked"])
async def test_a_workspace_of_a_later_version_permits_nothing(still: Shop, ask: str, later: str) -> None:
    """A setting more, or a place more, in the workspace's text: each request is 503, and changes nothing."""
    one = ASKED[ask.removesuffix("_locked")]
    book = await still.book(CODE, **one.rules)
    if ask == "redeem_locked":
        await still.lock(CODE, "ann", orderId=CODE)
    asked = await one.prepare(still, book, CODE)
    key = key_names.settings(still.caller.prefix)
    settings = await still.link.call("GET", key)
    more = settings + later if later[0] == " " else re.sub(r" ([lrxs-]{4})\d+ ", rf" \g<1>{later} ", settings)
    assert more != settings
    await still.link.call("SET", key, more)
    before = await everything(still.link)
    assert await asked() == (503, "unavailable")
    assert await everything(still.link) == before


async def test_an_unreadable_book_of_cards_judges_no_amount(still: Shop) -> None:
    """The amount that a request wants of a card is not `invalid`: it is unknown whether the book has cards."""
    book = await still.book(CODE, discount={"type": "balance", "value_e4": 500_000}, max_redemptions_per_code=None)
    await still.projector.close_book(0, 1, book.book, book.book_id, still.next_version())
    amounts = {"orderValue": "30", "amount": "10"}
    await still.refuses("unavailable", still.redeem(CODE, "ann", **amounts))
    await still.refuses("unavailable", still.lock(CODE, "ann", **amounts))
    await still.refuses("unavailable", still.validate(CODE, userId="ann", **amounts))
    await still.change(book)
    assert (await still.redeem(CODE, "ann", **amounts))[1]["discountAmount"] == "10.00"

"""Cards in Postgres: each has its amount from the moment of issue, whatever its book becomes."""

import json
from typing import Any, cast

import asyncpg
import pytest

from service.engine.domain.configuration import BookRow, CodeRow, WorkspaceRow
from service.engine.domain.decoding import convert
from service.engine.domain.errors import Refusal
from service.engine.formats.stored_settings import code_settings
from service.engine.record import changes
from service.server.in_postgres import audit_log, book_rows, code_rows, job_rows, stock
from service.server.requests.book_requests import PatchBook
from service.server.requests.code_requests import CodeLine
from service.server.tasks import code_generator
from service.server.tasks.code_generator import Generator
from tests.integration.recording.record_fixtures import FENCE, make_book
from tests.integration.recording.test_configuration_record import Memory

CARD: dict[str, Any] = {"type": "balance", "value": "50.00"}


async def add(pool: asyncpg.Pool, book: BookRow, *lines: CodeLine) -> dict[str, int | None]:
    _, rows = await code_rows.add_codes(pool, book.workspace, 0, book.book, lines)
    return {row.code: row.amount_e4 for row in rows}


async def patch(pool: asyncpg.Pool, book: BookRow, **fields: Any) -> BookRow:
    return await book_rows.patch_book(pool, book.workspace, 0, book.book_id, convert(fields, PatchBook))


async def order(pool: asyncpg.Pool, book: BookRow, count: int) -> job_rows.JobRow:
    async with pool.acquire() as connection, connection.transaction():
        return await job_rows.create_generation(connection, book, count, book.code_pattern, book.charset)


async def read_all(pool: asyncpg.Pool) -> dict[str, CodeRow]:
    """The codes, as a Redis that lacks them gets them."""
    found = [change async for change in changes.changes_since(pool, 0, 0)]
    return {row.code: row for change in found for row in change.rows if isinstance(row, CodeRow)}


async def test_a_card_keeps_its_amount(pool: asyncpg.Pool, workspace: WorkspaceRow) -> None:
    """A card has the amount of its line, else its book's value of that moment, to the last digit; later values and
    changes of the code leave it. Codes of other books have none. Redis gets the amount with each change of the code."""
    book, other = await make_book(pool, workspace, discount=CARD), await make_book(pool, workspace)
    most = 10**15 - 100
    assert await add(pool, book, CodeLine("CARD-1"), CodeLine("CARD-2", "ann", amount_e4=100)) == {
        "CARD-1": 500_000, "CARD-2": 100,
    }  # fmt: skip
    await patch(pool, book, discount=CARD | {"value": "60"})
    later = await add(pool, book, CodeLine("CARD-1"), CodeLine("CARD-3"), CodeLine("CARD-4", amount_e4=most))
    assert later == {"CARD-3": 600_000, "CARD-4": most}
    assert await add(pool, other, CodeLine("CODE-1", max_redemptions=2)) == {"CODE-1": None}
    changed = await code_rows.patch_coupon(pool, workspace.workspace, 0, "CARD-1", {"active": False})
    assert changed.amount_e4 == 500_000
    rows = await read_all(pool)
    words = {code: code_settings(row).split(" ") for code, row in rows.items()}
    assert {code: each[5] for code, each in words.items()} == {
        "CARD-1": "500000", "CARD-2": "100", "CARD-3": "600000", "CARD-4": str(most), "CODE-1": "-",
    }  # fmt: skip
    assert (words["CARD-1"][4], words["CARD-2"][0], words["CARD-3"][0]) == ("0", "ann", "-")


async def test_a_job_keeps_the_value_that_it_began_with(
    pool: asyncpg.Pool, workspace: WorkspaceRow, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A generation that dies and resumes after the book's value was changed issues cards of the first value; one that
    is ordered afterwards, also to fill up the book, those of the new one."""
    monkeypatch.setattr(code_generator, "GENERATED", 5)
    book = await make_book(pool, workspace, discount=CARD, totalCodes=20, keepFree=30)
    memory = Memory()
    memory.fail_after = 1
    with pytest.raises(ConnectionResetError):
        await Generator(pool, memory, 0, FENCE).run_one()
    await patch(pool, book, discount=CARD | {"value": "7.5"})
    memory.fail_after = -1
    await order(pool, book, 4)  # of the book as it was read before the change
    while await Generator(pool, memory, 0, FENCE).run_one():
        pass
    (kept,) = await stock.page_stocked_books(pool, 0, 100, {})
    restocked = await stock.order_missing(pool, kept, 24, 24)
    assert restocked is not None
    assert restocked.requested == 6
    assert await Generator(pool, memory, 0, FENCE).run_one()
    amounts = sorted(cast("int", row.amount_e4) for row in (await read_all(pool)).values())
    assert amounts == [75_000] * 10 + [500_000] * 20
    assert sorted(cast("int", row.amount_e4) for row in memory.codes_.values())[:10] == [75_000] * 10


async def test_a_book_of_cards_stays_one(pool: asyncpg.Pool, workspace: WorkspaceRow) -> None:
    """A book becomes or ceases to be one of cards, or its cards change their currency, only while it has no codes, nor
    any that are being generated."""
    book = await make_book(pool, workspace)
    book = await patch(pool, book, discount=CARD)
    assert (book.max_redemptions_per_code, book.card is not None) == (None, True)
    book = await patch(pool, book, discount=CARD | {"currency": "EUR"})
    book = await patch(pool, book, discount={"type": "fixed", "value": 5}, maxRedemptionsPerCode=1)
    await add(pool, book, CodeLine("CODE-1"))
    fixed = {
        "discount.type": {"type": "fixed", "value": 5},
        "discount.currency": CARD | {"currency": "JPY", "value": 5},
    }
    with pytest.raises(Refusal, match="invalid") as caught:
        await patch(pool, book, discount=CARD)
    assert caught.value.errors[0].field == "discount.type"
    for has_codes in (True, False):
        cards = await make_book(pool, workspace, discount=CARD)
        if has_codes:
            await add(pool, cards, CodeLine("CARD-1"))
        else:
            await order(pool, cards, 1)
        for field, discount in (*fixed.items(), ("discount.type", None)):
            with pytest.raises(Refusal, match="invalid") as caught:
                await patch(pool, cards, discount=discount)
            assert caught.value.errors[0].field == field
        assert (await patch(pool, cards, discount=CARD | {"minOrderValue": 9})).card


async def test_codes_that_were_read_for_another_kind_of_book(pool: asyncpg.Pool, workspace: WorkspaceRow) -> None:
    """Lines of an upload that began before its book became one of cards, ceased to be one or got another currency are
    refused, and can be sent again; none of them is added."""
    book = await make_book(pool, workspace, discount=CARD)
    yen = await make_book(pool, workspace, discount=CARD | {"currency": "JPY"})
    other = await make_book(pool, workspace)
    for where, line in (
        (other, CodeLine("CODE-1", amount_e4=10_000)),
        (book, CodeLine("CODE-1", max_redemptions=1)),
        (yen, CodeLine("CODE-1", amount_e4=5_000)),
    ):
        with pytest.raises(Refusal, match="unavailable"):
            await add(pool, where, CodeLine("CODE-0"), line)
    assert await read_all(pool) == {}


async def test_the_audit_has_what_was_issued(pool: asyncpg.Pool, workspace: WorkspaceRow) -> None:
    """The audit of an upload has the sum of its cards' amounts, in one entry; that of a generation what each is issued
    with. For other codes there is none."""
    book, other = await make_book(pool, workspace, discount=CARD), await make_book(pool, workspace)
    where = (pool, workspace.workspace, 0, book.book)
    await code_rows.add_codes(*where, [CodeLine("CARD-1"), CodeLine("CARD-2", amount_e4=100)], {"upload": "1"})
    await code_rows.add_codes(*where, [CodeLine("CARD-3"), CodeLine("CARD-1")], {"partOf": "1"})
    await add(pool, other, CodeLine("CODE-1"))
    await order(pool, book, 3)
    rows = await audit_log.page_audit(pool, workspace.workspace, 10, None)
    added = {"count": 3, "amount": "100.01", "currency": "USD"}
    ordered, other_added, cards_added = [json.loads(row.after or "") for row in rows if row.action.startswith("codes.")]
    assert ({"count": 1}, added) == (other_added, cards_added)
    assert ordered.items() >= {"count": 3, "amount": "50.00", "currency": "USD"}.items()

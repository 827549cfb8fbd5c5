"""Books that ended long ago leave Redis, and their codes are answered from Postgres as before."""

import asyncio
from contextlib import aclosing
from typing import Any

import asyncpg
import pytest

from service.domain.book_requests import CreateBook
from service.domain.code_requests import CodeLine
from service.domain.configuration import CodeRow
from service.domain.decoding import convert
from service.domain.errors import Refusal
from service.formats import key_names
from service.hot.connection import Broken
from service.operations import lock, redeem, rollback, unassign
from service.reconcile.comparison import Busy, reconcile
from service.record.config import code_rows
from service.record.config.book_rows import create_book
from service.record.config.changes import changes_since
from service.record.config.code_rows import add_codes, patch_coupon
from service.record.config.retirements import order_return
from service.record.facts.fact_reader import fact_pages
from service.worker.opening.restorer import Restorer
from tests.integration.histories.retiring_fixtures import answers, end_book, move, retiring, where_is
from tests.integration.opening.opening_fixtures import Place
from tests.waiting import wait_until


async def settings_apart(place: Place) -> dict[bytes, Any]:
    """What Redis holds of the workspace, without settings of books, and without empty counts."""
    held = await place.everything()
    return {name: value for name, value in held.items() if b":b:" not in name and not name.endswith(b":r")}


def names_codes(held: dict[bytes, Any]) -> list[bytes]:
    """The keys that still hold something of the first book but its settings and counters."""
    found = [name for name in held if b":c:CODE" in name or b":s:" in name or name.endswith((b":f:1", b":lb:1"))]
    for name, value in held.items():
        if b":d:" in name and any(entry.partition(b"!")[0].removesuffix(b"+") == b"1" for entry in value.values()):
            found.append(name)
        if b":u:" in name and {b"a1", b"h1"} & value.keys():
            found.append(name)
        if b":o:" in name and any(field.startswith(b"1/") for field in value):
            found.append(name)
    return found


async def drift(place: Place) -> dict[Any, int]:
    return dict((await reconcile(place.valkey_url, place.pool, 0, repair=False)).differing)


async def read_as_rebuild(pool: asyncpg.Pool) -> tuple[set[int], set[int]]:
    """The books of the facts and of the codes that a rebuild reads."""
    async with pool.acquire() as connection, aclosing(fact_pages(connection, 0, retired=False)) as pages:
        facts = {fact.book async for page in pages for fact in page}
    changes = changes_since(pool, 0, 0)
    return facts, {row.book async for change in changes for row in change.rows if isinstance(row, CodeRow)}


async def test_a_retired_book_is_answered_as_before(place: Place) -> None:
    """A retired book has but settings and counters in Redis, also after a rebuild. Its codes' answers stay the same."""
    await end_book(place, 31)
    expected, held = await answers(place), await settings_apart(place)
    assert names_codes(held)
    assert {expected["redeem CODE-1"], expected["redeem CODE-50"], expected["assign CODE-5"]} == {"expired"}
    assert await move(place) == "retired"
    left = await settings_apart(place)
    assert not [name for name in names_codes(left) if b":s:MANY" not in name]
    assert left[f"{place.caller.prefix}n:1".encode()] == held[f"{place.caller.prefix}n:1".encode()]
    assert await answers(place) == expected
    assert await drift(place) == {}
    await place.rebuild()
    assert await place.recovery() == "whole"
    assert await settings_apart(place) == left
    assert await answers(place) == expected
    assert await drift(place) == {}


async def test_a_rebuild_begins_with_the_oldest_book_in_redis(place: Place) -> None:
    """A rebuild reads no row from before the oldest book that is not retired, and all rows since then."""
    retire = "UPDATE books SET retirement = 'retired', retired_counts = '{}' WHERE book = ANY ($1)"
    workspace = place.caller.workspace
    for name in ("NEW", "LAST"):
        made, _ = await create_book(place.pool, workspace, 0, convert({"name": name}, CreateBook))
        await add_codes(place.pool, workspace, 0, made.book, [CodeLine(f"{name}-1"), CodeLine(f"{name}-2")])
        await place.reopen()
        await place.do(redeem.REDEEM, f"{name}-1", userId="zoe")
        await place.record()
    await place.pool.execute(retire, [1, 2, 3])
    # Rows of an unknown book: they are read if the bound is too early.
    for table in ("redemptions", "codes"):
        await place.pool.execute(f"UPDATE {table} SET book = 99 WHERE book = 1")
    assert await read_as_rebuild(place.pool) == ({4, 5}, {4, 5})
    await place.rebuild()
    assert await place.refusal(redeem.REDEEM, "NEW-1", userId="zoe") == "coupon_redeemed"
    await place.do(redeem.REDEEM, "NEW-2", userId="zoe")
    await place.record()
    await place.pool.execute(retire, [4])
    assert await read_as_rebuild(place.pool) == ({5}, {5})
    await place.pool.execute(retire, [5])
    assert await read_as_rebuild(place.pool) == (set(), set())
    await place.pool.execute("UPDATE books SET retirement = NULL WHERE book = 2")
    assert await read_as_rebuild(place.pool) == ({2, 99}, {2, 99})


@pytest.mark.parametrize(("table", "row_s"), [("facts", 0.06), ("codes", 0.015)])
async def test_a_rebuild_may_read_for_long(place: Place, database_url: str, table: str, row_s: float) -> None:
    """A page of facts or codes may take longer than the timeouts of Postgres and of the pool."""
    kind = "VIEW" if table == "facts" else "TABLE"
    await place.pool.execute(f"ALTER {kind} {table} RENAME TO fast")
    await place.pool.execute(f"CREATE VIEW {table} AS SELECT * FROM fast WHERE pg_sleep({row_s})::text = ''")
    bounds = {"statement_timeout": "1s"}
    async with asyncpg.create_pool(database_url, min_size=1, command_timeout=1, server_settings=bounds) as pool:
        assert await read_as_rebuild(pool) == ({1, 2, 3}, {1, 2, 3})
        with pytest.raises((TimeoutError, asyncpg.QueryCanceledError)):
            await pool.execute(f"SELECT * FROM {table}")


async def test_a_book_comes_back_when_its_end_moves(place: Place) -> None:
    """A book whose end moves to the future is in Redis again as it was; until then nothing of it can be used."""
    held = await settings_apart(place)
    await end_book(place, 31)
    assert await move(place) == "retired"
    await end_book(place, -1)
    assert await where_is(place) == "returning"
    assert await place.refusal(lock.LOCK, "CODE-50", userId="zoe") == "unavailable"
    with pytest.raises(Busy):
        await drift(place)
    assert await move(place) is None
    assert await settings_apart(place) == held
    assert await drift(place) == {}
    await place.do(redeem.REDEEM, "CODE-50", userId="zoe")
    assert await place.refusal(redeem.REDEEM, "CODE-5", userId="zoe") == "coupon_redeemed"
    assert await place.refusal(redeem.REDEEM, "CODE-51", userId="zoe", orderId="o5") == "order_already_used"
    await place.record()
    assert await move(place) is None  # it has just returned


async def test_codes_with_several_uses_move(place: Place) -> None:
    """The standing redemptions of codes with several uses leave with them, and return."""
    held = await settings_apart(place)
    await end_book(place, 31, 2)
    expected = await answers(place, "MANY-1", "MINE-1")
    await move(place)
    assert await where_is(place, 2) == "retired"
    assert not [name for name in await place.everything() if b":s:" in name or b"MANY" in name]
    assert await answers(place, "MANY-1", "MINE-1") == expected
    await end_book(place, -1, 2)
    await move(place)
    assert await settings_apart(place) == held


async def test_a_worker_may_die_at_any_command(place: Place) -> None:
    """Workers that die one after another, each a command later, bring a book out of Redis, and back as it was."""
    held = await settings_apart(place)
    for days, end in ((31, "retired"), (-1, None)):
        await end_book(place, days)
        expected = await answers(place) if days > 0 else {}
        dies_after = 0
        for dies_after in range(100):
            try:
                if await move(place, dies_after=dies_after) == end:
                    break
            except Broken:
                if days > 0:
                    assert await answers(place, "CODE-1", "CODE-5") == {
                        request: answer
                        for request, answer in expected.items()
                        if request.endswith((" CODE-1", " CODE-5"))
                    }
        assert await where_is(place) == end
        assert dies_after > 3
    assert await settings_apart(place) == held
    assert await drift(place) == {}


async def test_what_changes_a_code_brings_its_book_back(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """A rollback, an unassignment, a switch and an upload are refused at first, and work when the book is back."""
    monkeypatch.setattr(code_rows, "RETURN_S", 0.0)
    redemption = await place.pool.fetchval("SELECT redemption_id FROM redemptions WHERE code = 'CODE-5'")
    about = (place.pool, place.caller.workspace, 0)
    requests = (
        lambda: place.do(rollback.ROLLBACK, str(redemption)),
        lambda: place.do(unassign.UNASSIGN, "CODE-1"),
        lambda: patch_coupon(*about, "CODE-50", {"active": False}),
        lambda: add_codes(*about, 1, [CodeLine("LATE-1")]),
    )
    await end_book(place, 31)
    for request in requests:
        await place.pool.execute("UPDATE books SET returned_at = NULL")
        assert await move(place) == "retired"
        with pytest.raises(Refusal, match="unavailable"):
            await request()
        assert await where_is(place) == "returning"
        assert await move(place) is None
        await request()
        await place.record()
        await place.reopen()
    assert await place.refusal(rollback.ROLLBACK, str(redemption)) == "already_rolled_back"
    assert await drift(place) == {}


async def test_a_change_waits_for_its_book(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a worker brings the book back in time, the change is not refused."""
    monkeypatch.setattr(code_rows, "RETURN_S", 60.0)
    await end_book(place, 31)
    assert await move(place) == "retired"
    adding = asyncio.create_task(add_codes(place.pool, place.caller.workspace, 0, 1, [CodeLine("LATE-1")]))

    async def is_ordered() -> bool:
        return await where_is(place) == "returning"

    await wait_until(is_ordered)
    assert await move(place) is None
    _, (row,) = await adding
    assert row.code == "LATE-1"


async def test_an_order_is_forgotten_with_its_book(place: Place) -> None:
    """After its book has left, an order may take a coupon of another book; both stand when the book is back."""
    await end_book(place, 31)
    await move(place)
    await place.do(redeem.REDEEM, "MANY-1", userId="zoe", orderId="o5")
    await place.record()
    assert await place.pool.fetchval("SELECT count(*) FROM quarantine") == 0
    await end_book(place, -1)
    await move(place)
    assert await drift(place) == {}
    held = await settings_apart(place)
    await place.rebuild()
    assert await settings_apart(place) == held


@pytest.mark.parametrize("returns", [False, True])
async def test_a_lost_move_is_found(place: Place, returns: bool) -> None:
    """If Redis loses a retirement, or a return, it is rebuilt: it holds what Postgres says."""
    await end_book(place, 31)
    if returns:
        await move(place)
        await end_book(place, -1)
    before = await place.snapshot()
    await move(place)
    held = await settings_apart(place)
    await place.put_back(before)
    await place.reopen()
    assert await place.pool.fetchval("SELECT reason FROM recoveries ORDER BY epoch DESC LIMIT 1") == (
        "it has other books than Postgres says"
    )
    assert await settings_apart(place) == held
    assert await drift(place) == {}


@pytest.mark.parametrize("step", ["configure", "restore_retired", "restore_orders_since"])
async def test_a_return_is_ordered_during_a_rebuild(place: Place, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    """A book whose return is ordered before a rebuild reads codes, counters or facts stays out of that rebuild. No fact
    of it is quarantined, and the worker returns it afterwards as it was."""
    held = await settings_apart(place)
    await end_book(place, 31)
    assert await move(place) == "retired"
    take = getattr(Restorer, step)

    async def order_and_take(*args: Any, **options: Any) -> None:
        await order_return(place.pool, place.caller.workspace, 1)
        await take(*args, **options)

    monkeypatch.setattr(Restorer, step, order_and_take)
    await place.rebuild()
    assert await place.pool.fetchval("SELECT count(*) FROM quarantine") == 0
    assert await where_is(place) == "returning"
    assert await move(place) is None
    assert await settings_apart(place) == held
    assert await drift(place) == {}


async def test_what_must_stay_stays(place: Place) -> None:
    """A book that ended later, one with a locked code and one with an order's gift stay in Redis as they are."""
    await place.do(lock.LOCK, "CODE-60", userId="zoe")
    await end_book(place, 29)
    assert await move(place) is None
    await end_book(place, 31)
    await end_book(place, 32, 3)
    held = await settings_apart(place)
    for book in (3, 1):
        assert await where_is(place, book) is None
        async with retiring(place) as retirer:
            assert not await retirer.move_next()
            assert await where_is(place, book) == "returning"
            assert await retirer.move_next()
        assert await where_is(place, book) is None
    assert await settings_apart(place) == held


async def test_a_book_that_differs_stays(place: Place) -> None:
    """A book of which Redis holds other than Postgres records stays in Redis, for comparing to find that."""
    await end_book(place, 31)
    w, code = place.caller.prefix, "CODE-5"
    await place.redis.hset(key_names.directory(w, key_names.bucket(code)), code, "1!1-999")
    held = await settings_apart(place)
    async with retiring(place) as retirer:
        assert not await retirer.move_next()
    assert await where_is(place) == "returning"
    assert await move(place) is None
    assert await settings_apart(place) == held


async def test_an_end_that_moves_stops_a_retirement(place: Place) -> None:
    """A book whose end moves to the future while it leaves comes back at once."""
    held = await settings_apart(place)
    await end_book(place, 31)
    with pytest.raises(Broken):
        await move(place, dies_after=9)
    assert await where_is(place) == "leaving"
    assert names_codes(await settings_apart(place)) != names_codes(held)
    await end_book(place, -1)
    assert await where_is(place) == "returning"
    assert await move(place) is None
    assert await settings_apart(place) == held


async def test_unknown_codes_are_asked_for_once(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """A code that no book has is looked up once in some seconds, and not at all while no book is retired."""
    assert await place.refusal(lock.LOCK, "UNKNOWN-1", userId="zoe") == "coupon_not_found"
    assert not place.decider.missing_codes.is_unknown(place.caller.workspace, "UNKNOWN-1")
    await end_book(place, 31)
    await move(place)
    assert await place.refusal(lock.LOCK, "UNKNOWN-1", userId="zoe") == "coupon_not_found"
    assert place.decider.missing_codes.is_unknown(place.caller.workspace, "UNKNOWN-1")
    monkeypatch.setattr("service.api.recall.records_of", None)
    assert await place.refusal(lock.LOCK, "UNKNOWN-1", userId="zoe") == "coupon_not_found"

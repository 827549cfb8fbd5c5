"""Months of facts leave Postgres for files, and return; archived codes are answered as before."""

import asyncio
import gzip
from collections import Counter
from datetime import UTC, date, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import asyncpg
import pytest
import pytest_asyncio

from service.domain.book_requests import PatchBook
from service.domain.code_requests import CodeLine
from service.domain.configuration import WorkspaceRow
from service.domain.decoding import convert
from service.domain.errors import Refusal
from service.domain.times import from_ms
from service.formats.month_archive import MANIFEST, DamagedArchive, month_name
from service.hot.connection import Broken
from service.operations import rollback, unassign
from service.record.config.archived_books import read_archived_to
from service.record.config.book_rows import patch_book
from service.record.config.code_pages import FIRST, page_codes
from service.record.config.code_rows import add_codes, patch_coupon
from service.record.config.job_rows import create_generation
from service.record.facts import history_pages, month_archiver
from service.record.facts.month_archiver import Kept, with_locks
from service.record.facts.timeline_queries import events_of
from service.record.facts.user_deletion import begin_erasure, erase_facts, finish_erasure, pending_erasures
from service.record.partitions.moves import order_move
from service.record.partitions.partition_rows import read_partition
from tests.commands import scrip
from tests.integration.archiving_fixtures import TABLES, archive, make_old, read_tables, restore, retire
from tests.integration.opening_fixtures import Place
from tests.integration.record_fixtures import make_book
from tests.integration.retiring_fixtures import CODES, answers, end_book, read_book_row, where_is
from tests.integration.test_retiring import drift
from tests.service_fixture import Service, new_code, new_id, ok, refused

ALL_CODES = (*CODES, "MANY-1", "MINE-1", "FEW-0", "FEW-1", "UNKNOWN-1")
ANOTHER = "another `scrip archive` is running"


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest_asyncio.fixture
async def month(place: Place) -> date:
    """The month in which all facts happened; all books are still in use."""
    return await make_old(place)


@pytest_asyncio.fixture
async def name(place: Place, month: date) -> str:
    """The same, with all books retired."""
    await retire(place)
    return month_name(month)


async def coupons_of(place: Place, *users: str) -> list[list[Any]]:
    about = (place.pool, place.caller.workspace)
    return [(await history_pages.coupons_of_user(*about, user, 100, None)).items for user in users]


async def test_a_month_leaves_and_returns(place: Place, month: date, database_url: str, tmp_path: Path) -> None:
    """A month whose books are retired leaves Postgres; its codes get the same answers, also after a rebuild, and Redis
    agrees with Postgres. A restore brings back every row."""
    assert await drift(place) == {}
    await retire(place)
    expected, tables = await answers(place, *ALL_CODES), await read_tables(place.pool)
    counters, coupons = await place.values("*:n:*"), await coupons_of(place, "ann", "bob", "eve")
    assert [len(held) for held in coupons] == [1, 4, 0]
    assert (await archive(database_url, tmp_path))[month_name(month)] == ""
    assert (await read_tables(place.pool))["redemptions"] == []
    assert await answers(place, *ALL_CODES) == expected
    assert await drift(place) == {}
    await place.rebuild()
    assert await answers(place, *ALL_CODES) == expected
    assert await place.values("*:n:*") == counters
    assert await coupons_of(place, "ann", "bob", "eve") == coupons
    assert await drift(place) == {}
    assert await restore(database_url, tmp_path) == [month_name(month)]
    assert await read_tables(place.pool) == tables
    assert await answers(place, *ALL_CODES) == expected
    await end_book(place, -1)
    assert await where_is(place) == "returning"


async def test_requests_go_on_meanwhile(place: Place, name: str, database_url: str, tmp_path: Path) -> None:
    """While a month leaves and returns, codes get the same answers, and a list is whole or refused."""
    codes = ("CODE-1", "CODE-5", "CODE-50", "MANY-1")
    expected = await answers(place, *codes)
    w, has_ended = place.caller.workspace, asyncio.Event()
    whole = await history_pages.redemptions_of_book(place.pool, w, 1, 100, None)
    seen = Counter[str]()

    async def ask() -> None:
        while not has_ended.is_set():
            for request, answer in (await answers(place, *codes)).items():
                assert answer in (expected[request], "unavailable")
            seen["answers"] += 1

    async def read() -> None:
        while not has_ended.is_set():
            try:
                assert await history_pages.redemptions_of_book(place.pool, w, 1, 100, None) == whole
                seen["whole"] += 1
            except Refusal as refusal:
                seen[refusal.code] += 1

    async with asyncio.TaskGroup() as tasks:
        for work in (ask, ask, read, read):
            tasks.create_task(work())
        for turn in range(3):
            folder = tmp_path / str(turn)
            assert (await archive(database_url, folder))[name] == ""
            assert await restore(database_url, folder) == [name]
        has_ended.set()
    assert seen.keys() == {"answers", "whole", "book_archived"}


async def test_a_stranger_can_read_the_files(place: Place, name: str, database_url: str, tmp_path: Path) -> None:
    """The files are gzipped CSV with a header, and name their books."""
    codes = await place.pool.fetch("SELECT code FROM redemptions ORDER BY redemption_id")
    await archive(database_url, tmp_path)
    rows = gzip.decompress((tmp_path / name / "redemptions.csv.gz").read_bytes()).decode().splitlines()
    assert rows[0].startswith("partition,epoch,seq,workspace,book,code,user_id,order_id,redemption_id,")
    assert sorted(row.split(",")[5] for row in rows[1:]) == sorted(row["code"] for row in codes)
    books = gzip.decompress((tmp_path / name / "books.csv.gz").read_bytes()).decode()
    assert str((await read_book_row(place)).book_id) in books


async def test_archiving_may_die_at_any_command(place: Place, name: str, database_url: str, tmp_path: Path) -> None:
    """Commands that die one after another, each a statement later, archive the month once and restore it once: it is
    in Postgres whole, or in files."""
    tables = await read_tables(place.pool)
    for run, done in ((archive, []), (restore, tables["redemptions"])):
        dies_after = 0
        while True:
            try:
                if ANOTHER in str(await run(database_url, tmp_path, dies_after)):
                    continue  # Postgres has not ended the transaction of the last one yet
                break
            except Kept:
                continue
            except (Broken, asyncpg.InterfaceError):
                dies_after += 1
            is_listed = bool(await place.pool.fetchval("SELECT count(*) FROM archived_months"))
            redemptions = await place.pool.fetchval("SELECT count(*) FROM redemptions")
            assert redemptions == (0 if is_listed else len(tables["redemptions"]))
        assert dies_after > 20
        assert (await read_tables(place.pool))["redemptions"] == done
    assert await read_tables(place.pool) == tables


async def test_a_command_that_died_after_its_commit(
    place: Place, name: str, database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files that a command could not give their name are found by the next archive, and by a restore."""
    tables = await read_tables(place.pool)

    def fail(*_: Any) -> None:
        raise Broken

    for again in (archive, restore):
        with monkeypatch.context() as broken:
            broken.setattr(Path, "rename", fail)
            with pytest.raises(Broken):
                await archive(database_url, tmp_path)
        assert not (tmp_path / name).exists()
        assert name in await again(database_url, tmp_path)
        assert (tmp_path / name / MANIFEST).exists()
        if again is archive:
            await restore(database_url, tmp_path)
            (tmp_path / name).rename(tmp_path / "elsewhere")
    assert await read_tables(place.pool) == tables


@pytest.mark.parametrize("file", [MANIFEST, "redemptions.csv.gz", "open"])
async def test_a_damaged_archive_changes_nothing(
    place: Place, name: str, database_url: str, tmp_path: Path, file: str
) -> None:
    """A restore refuses a manifest or a file that was changed or is missing, and changes nothing."""
    await archive(database_url, tmp_path)
    archived = await read_tables(place.pool)
    path = tmp_path / name / ("rollbacks.csv.gz" if file == "open" else file)
    content = path.read_bytes()
    if file == "open":
        path.unlink()
    else:
        path.write_bytes(content[:-9] + bytes([content[-9] ^ 1]) + content[-8:])
    with pytest.raises(DamagedArchive):
        await restore(database_url, tmp_path)
    assert await read_tables(place.pool) == archived
    path.write_bytes(content)
    await place.pool.execute("UPDATE archived_months SET manifest = sha256('other')")
    with pytest.raises(DamagedArchive, match="another database"):
        await restore(database_url, tmp_path)


async def test_what_is_in_use_stays(place: Place, month: date, database_url: str, tmp_path: Path) -> None:
    """A month stays while a book of it is in use, and the reason names the book; also while its facts are young, while
    an order has its gift, and if a book is unknown."""
    name = month_name(month)

    async def reason() -> str:
        return (await archive(database_url, tmp_path))[name]

    assert "books in use: b (shop), m (shop), f (shop). A book leaves SCRIP_RETIRE_DAYS" in await reason()
    await retire(place, 1, 3)
    assert "books in use: m (shop). " in await reason()
    await retire(place, 2)
    days = "interval '80 days'"
    for change, undo, expected in (
        ("workspaces SET orders_since = NULL", "workspaces SET orders_since = now()", "orders that still have"),
        (f"rollbacks SET rolled_back_at = rolled_back_at + {days}",
         f"rollbacks SET rolled_back_at = rolled_back_at - {days}", "facts younger than 30 days"),
        ("workspaces SET idempotency_hours = 2400", "workspaces SET idempotency_hours = 24", "Idempotency-Keys"),
        ("stock_notices SET book = 9", "stock_notices SET book = 3", "number 9 of workspace shop"),
    ):  # fmt: skip
        await place.pool.execute(f"UPDATE {change}")
        assert expected in await reason()
        await place.pool.execute(f"UPDATE {undo}")
    assert names_in(tmp_path) == []
    assert await reason() == ""


async def test_at_most_ten_books_are_named(
    place: Place, workspace: WorkspaceRow, month: date, database_url: str, tmp_path: Path
) -> None:
    """The reason names ten books, and says how many more there are; a single coupon's code is masked."""
    notice = """INSERT INTO stock_notices SELECT partition, epoch, seq + $1, workspace, $1, notice, what, remaining,
        noticed_at FROM stock_notices WHERE book = 3 LIMIT 1"""
    for _ in range(9):
        made = await make_book(place.pool, workspace, name="Coupon SECRET-CODE-1")
        await place.pool.execute(notice, made.book)
    reason = (await archive(database_url, tmp_path))[month_name(month)]
    assert reason.count("(shop)") == 10
    assert " and 2 more. " in reason
    assert "SECRET" not in reason


async def test_tables_in_use_keep_a_month(
    place: Place, name: str, database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While a transaction reads facts, a month stays whole; afterwards it leaves, and returns."""
    monkeypatch.setattr(month_archiver, "LOCK_TRIES", 1)
    monkeypatch.setattr(month_archiver, "LOCK_PAUSE_S", 0)
    tables = await read_tables(place.pool)
    async with place.pool.acquire() as connection, connection.transaction():
        await connection.execute("SELECT FROM redemptions")
        assert "are in use" in (await archive(database_url, tmp_path))[name]
    assert await read_tables(place.pool) == tables
    assert names_in(tmp_path) == []
    assert (await archive(database_url, tmp_path))[name] == ""
    archived = await read_tables(place.pool)
    async with place.pool.acquire() as connection, connection.transaction():
        await connection.execute("SELECT FROM redemptions")
        with pytest.raises(Kept, match="are in use"):
            await restore(database_url, tmp_path)
    assert await read_tables(place.pool) == archived


async def test_what_changes_meanwhile_keeps_a_month(
    place: Place, name: str, database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fact that changes, or a book that is to return, after the files were written keeps the month in Postgres."""
    changes = "UPDATE redemptions SET ip = '192.0.2.9'", "UPDATE books SET retirement = 'returning' WHERE book = 2"
    for change in changes:

        async def change_and_lock(*args: Any, change: str = change) -> None:
            await place.pool.execute(change)
            await with_locks(*args)

        monkeypatch.setattr(month_archiver, "with_locks", change_and_lock)
        assert (await archive(database_url, tmp_path))[name] != ""
        assert names_in(tmp_path) == []


async def test_requests_that_need_the_facts_are_refused(
    place: Place, name: str, database_url: str, tmp_path: Path
) -> None:
    """What needs archived facts is refused with `book_archived`, whose detail names the months and the command; before,
    it is not."""
    redemption = await place.pool.fetchval("SELECT redemption_id FROM redemptions WHERE code = 'CODE-5'")
    w = place.caller.workspace
    book = await read_book_row(place)
    end = convert({"validUntil": from_ms(book.created_ms + 86_400_000)}, PatchBook)

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
    assert await read_archived_to(place.pool, w) is None
    assert (await history_pages.redemptions_of_book(place.pool, w, 1, 10, None)).items
    await archive(database_url, tmp_path)
    before = await read_tables(place.pool)
    for what, request in requests.items():
        with pytest.raises(Refusal) as caught:
            await request()
        assert (what, caught.value.code) == (what, "book_archived")
        assert name in caught.value.detail
        assert "scrip archive --restore DIR" in caught.value.detail
    assert await read_tables(place.pool) == before
    assert await read_archived_to(place.pool, w) == name
    assert (await history_pages.redemptions_of_user(place.pool, w, "ann", 10, None)).items == []
    with pytest.raises(Refusal, match="redemption_not_found"):
        await place.do(rollback.ROLLBACK, "019aa0b2-6f0c-4b52-8a0e-5d1f3d1f9c11")
    await restore(database_url, tmp_path)
    with pytest.raises(Refusal, match="unavailable"):
        await requests["rollback"]()


async def test_a_deleted_user_stays_deleted(place: Place, name: str, database_url: str, tmp_path: Path) -> None:
    """A deletion covers what is kept of archived months; a restore replaces the user in what the files have, and not a
    later user of the same name. Then Postgres has no digest of the id."""
    await archive(database_url, tmp_path)
    row = await read_partition(place.pool, 0)
    pseudonym = await begin_erasure(place.pool, place.caller.workspace, 0, "ann", row.cursor)
    (erasure,) = await pending_erasures(place.pool, 0, 10)
    with pytest.raises(Kept, match="are being deleted"):
        await restore(database_url, tmp_path)
    await erase_facts(place.pool, erasure, row.cursor)
    assert await finish_erasure(place.pool, erasure, row.cursor)
    users = "SELECT DISTINCT user_id FROM {} ORDER BY 1"
    kept = [user for (user,) in await place.pool.fetch(users.format("archived_codes"))]
    assert pseudonym in kept
    assert "ann" not in kept
    assert (await answers(place, "CODE-5"))["read CODE-5"].find(b"ann") < 0
    await restore(database_url, tmp_path)
    for table in ("assignments", "unassignments", "redemptions", "rollbacks"):
        seen = {user for (user,) in await place.pool.fetch(users.format(table))}
        assert pseudonym in seen
        assert "ann" not in seen
    assert await place.pool.fetchval("SELECT count(*) FROM erasures WHERE user_digest IS NOT NULL") == 0
    assert (
        await place.pool.fetchval("SELECT count(*) FROM redemptions WHERE user_id = $1 AND ip IS NOT NULL", pseudonym)
        == 0
    )


async def test_a_workspace_has_moved_meanwhile(place: Place, name: str, database_url: str, tmp_path: Path) -> None:
    """Restored facts are in the partition in which their workspace is then. While it moves, nothing is restored."""
    await archive(database_url, tmp_path)
    await place.pool.execute("INSERT INTO partitions (id) VALUES (1)")
    assert await order_move(place.pool, place.caller.workspace, 0, 1)
    with pytest.raises(Kept, match="are being moved"):
        await restore(database_url, tmp_path)
    await place.pool.execute("UPDATE moves SET state = 'done'")
    await place.pool.execute("UPDATE workspaces SET partition = 1")
    assert await restore(database_url, tmp_path) == [name]
    for table in TABLES:
        assert {row[0] for row in await place.pool.fetch(f"SELECT DISTINCT partition FROM {table}")} <= {1}
    assert await place.pool.fetchval("SELECT count(*) FROM redemptions")


async def test_facts_with_a_wrong_time_join_their_month(
    place: Place, name: str, month: date, database_url: str, tmp_path: Path
) -> None:
    """A fact that is recorded with a time of an archived month is kept apart, and joins the month when it returns."""
    await archive(database_url, tmp_path)
    notice = "INSERT INTO stock_notices VALUES (0, 1, 1000, 1, 3, 'low', 'uses', 1, $1)"
    await place.pool.execute(notice, month + timedelta(days=14))
    assert await place.pool.fetchval("SELECT count(*) FROM stock_notices_default") == 1
    await restore(database_url, tmp_path)
    assert await place.pool.fetchval("SELECT count(*) FROM stock_notices_default") == 0
    assert await place.pool.fetchval(f"SELECT count(*) FROM stock_notices_{month:%Y_%m} WHERE seq = 1000") == 1


async def test_the_command(place: Place, month: date, database_url: str, valkey_url: str, tmp_path: Path) -> None:
    """`scrip archive` says what it moved, and why a month stays; it exits with 1 for a month that stays, and with 2 for
    a damaged file. `scrip doctor` names the newest month in files."""
    name, servers = month_name(month), {"DATABASE_URL": database_url, "REDIS_URL": valkey_url}
    stays = scrip("archive", "--to", str(tmp_path), **servers)
    assert (stays.exit_code, f"{name}: stays in Postgres: books in use: b (shop)" in stays.output) == (1, True)
    assert scrip("archive", "--to", str(tmp_path), "--before", name, **servers).exit_code == 0
    await retire(place)
    done = scrip("archive", "--to", str(tmp_path), **servers)
    facts = sum(len(rows) for table, rows in (await read_tables(place.pool)).items() if table in TABLES)
    assert (done.exit_code, facts, f"{name}: archived, " in done.output) == (0, 0, True)
    assert f"; 1 in files, the newest {name}" in scrip("doctor", **servers).output
    path = tmp_path / name / "redemptions.csv.gz"
    content = path.read_bytes()
    path.write_bytes(content[:-1])
    damaged = scrip("archive", "--restore", str(tmp_path), **servers)
    assert (damaged.exit_code, "redemptions.csv.gz is damaged" in damaged.output) == (2, True)
    path.write_bytes(content)
    for expected in ("restored, ", "is in Postgres already"):
        restored = scrip("archive", "--restore", str(tmp_path / name), **servers)
        assert (restored.exit_code, f"{name}: {expected}" in restored.output) == (0, True)
    exists = scrip("archive", "--to", str(tmp_path), **servers)
    assert (exists.exit_code, "Move it away" in exists.output) == (1, True)
    for wrong in ((), ("--before", "2025-13", "--to", "x"), ("--to", "x", "--restore", str(tmp_path))):
        assert scrip("archive", *wrong, **servers).exit_code == 2


async def test_refusals_over_http(service: Service) -> None:
    """A refusal names the months and the command. A list over all books names the newest month that it leaves out."""
    code, user = new_code(), new_id()
    book = service.book(code)
    body = {"userId": user}
    redeemed = ok(service.checkout.post(f"/v1/coupons/redeem/{code}", json=body), 201)["redemptionId"]
    service.recorded()
    mark = "UPDATE books SET retirement = {}, retired_counts = '{{}}', archived_months = {} WHERE book_id = '{}'"
    await service.fetch(mark.format("'retired'", "'{2020-02-01,2020-01-01}'", book))
    try:
        for path in ("redemptions", "codes", "notices", "redemptions.csv", "codes.csv"):
            problem = refused(service.manage.get(f"/v1/books/{book}/{path}"), 409, "book_archived")
            assert "files, of 2020-01, 2020-02. An operator restores them with" in problem["detail"]
        refused(service.manage.get(f"/v1/coupons/{code}/redemptions"), 409, "book_archived")
        listed = service.manage.get(f"/v1/users/{user}/redemptions")
        assert listed.headers["Scrip-Archived-To"] == "2020-02"
        old = f"0170{redeemed[4:]}"
        (month,) = (datetime.fromtimestamp(int(old[:13].replace("-", ""), 16) / 1000, UTC),)
        await service.fetch(mark.format("'retired'", f"'{{{month:%Y-%m}-01}}'", book))
        rolled = refused(service.manage.post(f"/v1/redemptions/{old}/rollback", json={}), 409, "book_archived")
        assert f"{month:%Y-%m}" in rolled["detail"]
        lists = service.manage.get("/console/data/redemptions")
        assert lists.headers["Scrip-Archived-To"] == f"{month:%Y-%m}"
    finally:
        await service.fetch(mark.format("NULL", "NULL", book))
    assert "Scrip-Archived-To" not in service.manage.get(f"/v1/users/{user}/redemptions").headers

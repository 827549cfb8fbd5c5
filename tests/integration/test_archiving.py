"""Months of facts leave Postgres for files, and return; archived codes are answered as before."""

import asyncio
import gzip
from collections import Counter
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from service.domain.configuration import WorkspaceRow
from service.domain.errors import Refusal
from service.formats.month_archive import MANIFEST, DamagedArchive, month_name
from service.hot.connection import Broken
from service.record.facts import history_pages, month_archiver
from service.record.facts.month_archiver import Kept, with_locks
from service.record.partitions.moves import order_move
from tests.commands import scrip
from tests.integration.archiving_fixtures import TABLES, archive, read_tables, restore, retire
from tests.integration.opening_fixtures import Place
from tests.integration.record_fixtures import make_book
from tests.integration.retiring_fixtures import CODES, answers, end_book, read_book_row, where_is
from tests.integration.test_retiring import drift

ALL_CODES = (*CODES, "MANY-1", "MINE-1", "FEW-0", "FEW-1", "UNKNOWN-1")
ANOTHER = "another `scrip archive` is running"


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


async def coupons_of(place: Place, *users: str) -> list[list[Any]]:
    about = (place.pool, place.caller.workspace)
    return [(await history_pages.coupons_of_user(*about, user, 100, None)).items for user in users]


async def test_a_month_leaves_and_returns(place: Place, old_month: date, database_url: str, tmp_path: Path) -> None:
    """A month whose books are retired leaves Postgres; its codes get the same answers, also after a rebuild, and Redis
    agrees with Postgres. A restore brings back every row."""
    assert await drift(place) == {}
    await retire(place)
    expected, tables = await answers(place, *ALL_CODES), await read_tables(place.pool)
    counters, coupons = await place.values("*:n:*"), await coupons_of(place, "ann", "bob", "eve")
    assert [len(held) for held in coupons] == [1, 4, 0]
    assert (await archive(database_url, tmp_path))[month_name(old_month)] == ""
    assert (await read_tables(place.pool))["redemptions"] == []
    assert await answers(place, *ALL_CODES) == expected
    assert await drift(place) == {}
    await place.rebuild()
    assert await answers(place, *ALL_CODES) == expected
    assert await place.values("*:n:*") == counters
    assert await coupons_of(place, "ann", "bob", "eve") == coupons
    assert await drift(place) == {}
    assert await restore(database_url, tmp_path) == [month_name(old_month)]
    assert await read_tables(place.pool) == tables
    assert await answers(place, *ALL_CODES) == expected
    await end_book(place, -1)
    assert await where_is(place) == "returning"


async def test_requests_go_on_meanwhile(place: Place, retired_month: str, database_url: str, tmp_path: Path) -> None:
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
            assert (await archive(database_url, folder))[retired_month] == ""
            assert await restore(database_url, folder) == [retired_month]
        has_ended.set()
    assert seen.keys() == {"answers", "whole", "book_archived"}


async def test_a_stranger_can_read_the_files(
    place: Place, retired_month: str, database_url: str, tmp_path: Path
) -> None:
    """The files are gzipped CSV with a header, and name their books."""
    codes = await place.pool.fetch("SELECT code FROM redemptions ORDER BY redemption_id")
    await archive(database_url, tmp_path)
    rows = gzip.decompress((tmp_path / retired_month / "redemptions.csv.gz").read_bytes()).decode().splitlines()
    assert rows[0].startswith("partition,epoch,seq,workspace,book,code,user_id,order_id,redemption_id,")
    assert sorted(row.split(",")[5] for row in rows[1:]) == sorted(row["code"] for row in codes)
    books = gzip.decompress((tmp_path / retired_month / "books.csv.gz").read_bytes()).decode()
    assert str((await read_book_row(place)).book_id) in books


async def test_archiving_may_die_at_any_command(
    place: Place, retired_month: str, database_url: str, tmp_path: Path
) -> None:
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
    place: Place, retired_month: str, database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
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
        assert not (tmp_path / retired_month).exists()
        assert retired_month in await again(database_url, tmp_path)
        assert (tmp_path / retired_month / MANIFEST).exists()
        if again is archive:
            await restore(database_url, tmp_path)
            (tmp_path / retired_month).rename(tmp_path / "elsewhere")
    assert await read_tables(place.pool) == tables


@pytest.mark.parametrize("file", [MANIFEST, "redemptions.csv.gz", "open"])
async def test_a_damaged_archive_changes_nothing(
    place: Place, retired_month: str, database_url: str, tmp_path: Path, file: str
) -> None:
    """A restore refuses a manifest or a file that was changed or is missing, and changes nothing."""
    await archive(database_url, tmp_path)
    archived = await read_tables(place.pool)
    path = tmp_path / retired_month / ("rollbacks.csv.gz" if file == "open" else file)
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


async def test_what_is_in_use_stays(place: Place, old_month: date, database_url: str, tmp_path: Path) -> None:
    """A month stays while a book of it is in use, and the reason names the book; also while its facts are young, while
    an order has its gift, and if a book is unknown."""
    name = month_name(old_month)

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
    place: Place, workspace: WorkspaceRow, old_month: date, database_url: str, tmp_path: Path
) -> None:
    """The reason names ten books, and says how many more there are; a single coupon's code is masked."""
    notice = """INSERT INTO stock_notices SELECT partition, epoch, seq + $1, workspace, $1, notice, what, remaining,
        noticed_at FROM stock_notices WHERE book = 3 LIMIT 1"""
    for _ in range(9):
        made = await make_book(place.pool, workspace, name="Coupon SECRET-CODE-1")
        await place.pool.execute(notice, made.book)
    reason = (await archive(database_url, tmp_path))[month_name(old_month)]
    assert reason.count("(shop)") == 10
    assert " and 2 more. " in reason
    assert "SECRET" not in reason


async def test_tables_in_use_keep_a_month(
    place: Place, retired_month: str, database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While a transaction reads facts, a month stays whole; afterwards it leaves, and returns."""
    monkeypatch.setattr(month_archiver, "LOCK_TRIES", 1)
    monkeypatch.setattr(month_archiver, "LOCK_PAUSE_S", 0)
    tables = await read_tables(place.pool)
    async with place.pool.acquire() as connection, connection.transaction():
        await connection.execute("SELECT FROM redemptions")
        assert "are in use" in (await archive(database_url, tmp_path))[retired_month]
    assert await read_tables(place.pool) == tables
    assert names_in(tmp_path) == []
    assert (await archive(database_url, tmp_path))[retired_month] == ""
    archived = await read_tables(place.pool)
    async with place.pool.acquire() as connection, connection.transaction():
        await connection.execute("SELECT FROM redemptions")
        with pytest.raises(Kept, match="are in use"):
            await restore(database_url, tmp_path)
    assert await read_tables(place.pool) == archived


async def test_what_changes_meanwhile_keeps_a_month(
    place: Place, retired_month: str, database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fact that changes, or a book that is to return, after the files were written keeps the month in Postgres."""
    changes = "UPDATE redemptions SET ip = '192.0.2.9'", "UPDATE books SET retirement = 'returning' WHERE book = 2"
    for change in changes:

        async def change_and_lock(*args: Any, change: str = change) -> None:
            await place.pool.execute(change)
            await with_locks(*args)

        monkeypatch.setattr(month_archiver, "with_locks", change_and_lock)
        assert (await archive(database_url, tmp_path))[retired_month] != ""
        assert names_in(tmp_path) == []


async def test_a_workspace_has_moved_meanwhile(
    place: Place, retired_month: str, database_url: str, tmp_path: Path
) -> None:
    """Restored facts are in the partition in which their workspace is then. While it moves, nothing is restored."""
    await archive(database_url, tmp_path)
    await place.pool.execute("INSERT INTO partitions (id) VALUES (1)")
    await place.pool.execute("UPDATE settings SET partitions = 2")
    assert await order_move(place.pool, place.caller.workspace, 0, 1)
    with pytest.raises(Kept, match="are being moved"):
        await restore(database_url, tmp_path)
    await place.pool.execute("UPDATE moves SET state = 'done'")
    await place.pool.execute("UPDATE workspaces SET partition = 1")
    assert await restore(database_url, tmp_path) == [retired_month]
    for table in TABLES:
        assert {row[0] for row in await place.pool.fetch(f"SELECT DISTINCT partition FROM {table}")} <= {1}
    assert await place.pool.fetchval("SELECT count(*) FROM redemptions")


async def test_facts_with_a_wrong_time_join_their_month(
    place: Place, retired_month: str, old_month: date, database_url: str, tmp_path: Path
) -> None:
    """A fact that is recorded with a time of an archived month is kept apart, and joins the month when it returns."""
    await archive(database_url, tmp_path)
    notice = "INSERT INTO stock_notices VALUES (0, 1, 1000, 1, 3, 'low', 'uses', 1, $1)"
    await place.pool.execute(notice, old_month + timedelta(days=14))
    assert await place.pool.fetchval("SELECT count(*) FROM stock_notices_default") == 1
    await restore(database_url, tmp_path)
    assert await place.pool.fetchval("SELECT count(*) FROM stock_notices_default") == 0
    assert await place.pool.fetchval(f"SELECT count(*) FROM stock_notices_{old_month:%Y_%m} WHERE seq = 1000") == 1


async def test_the_command(place: Place, old_month: date, database_url: str, valkey_url: str, tmp_path: Path) -> None:
    """`scrip archive` says what it moved, and why a month stays; it exits with 1 for a month that stays, and with 2 for
    a damaged file. `scrip doctor` names the newest month in files."""
    name, servers = month_name(old_month), {"DATABASE_URL": database_url, "REDIS_URL": valkey_url}
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

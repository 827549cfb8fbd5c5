"""Migrations, on a real Postgres."""

import asyncio
import re
import time
from datetime import UTC, datetime
from pathlib import Path

import asyncpg
import pytest

from service.common.resources import SQL_DIR
from service.engine.formats.events import StockNotice
from service.engine.record import migrations
from service.engine.record.migrations import MigrationError, read_migrations
from tests.harness.running import migrate
from tests.harness.service_fixture import database
from tests.integration.recording.record_fixtures import (
    Record,
    assigned,
    balance_changed,
    make_workspace,
    redeemed,
    rolled_back,
    unassigned,
)


async def test_all_migrations_apply_once(new_database):
    """Of five processes that migrate an empty database at once, one applies each file; a later run applies nothing."""
    url = await new_database()
    applied = await asyncio.gather(*(migrate(url) for _ in range(5)))
    names = [name for each in applied for name in each]
    assert sorted(names) == [migration.name for migration in read_migrations(SQL_DIR / "migrations")]
    assert await migrate(url) == []


async def test_a_changed_file_is_an_error(new_database, tmp_path: Path):
    """A file that was changed after it was applied stops the run before any change; the message says what to do."""
    url = await new_database()
    first = tmp_path / "0001_one.sql"
    first.write_text("CREATE TABLE one (id int)")
    assert await migrate(url, tmp_path) == ["0001_one"]
    first.write_text("CREATE TABLE one (id bigint)")
    (tmp_path / "0002_two.sql").write_text("CREATE TABLE two (id int)")
    with pytest.raises(
        MigrationError,
        match=r"has 0001_one, made from another file .* Use an empty database, or the version that made it",
    ):
        await migrate(url, tmp_path)
    assert await _tables(url) == ["migrations", "one"]


async def test_an_order_takes_at_most_a_hundred(pool: asyncpg.Pool):
    """Postgres rejects a couponsPerOrder that a script can't handle."""
    await make_workspace(pool)
    update = "UPDATE workspaces SET coupons_per_order = $1"
    for outside in (0, 101):
        with pytest.raises(asyncpg.CheckViolationError):
            await pool.execute(update, outside)
    await pool.execute(update, 100)


async def test_a_failing_file_leaves_nothing(new_database, tmp_path: Path):
    """A file that fails is rolled back whole; the files before it stay."""
    url = await new_database()
    (tmp_path / "0001_one.sql").write_text("CREATE TABLE one (id int)")
    (tmp_path / "0002_two.sql").write_text("CREATE TABLE two (id int); SELECT 1 / 0")
    with pytest.raises(asyncpg.DivisionByZeroError):
        await migrate(url, tmp_path)
    assert await _tables(url) == ["migrations", "one"]


async def test_a_lock_names_who_has_it(new_database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A migration that can't get a lock names the session that has it, since when, and its query."""
    monkeypatch.setattr(migrations, "_LOCK_TIMEOUT", "SET LOCAL lock_timeout = '2s'")
    url = await new_database()
    (tmp_path / "0001_one.sql").write_text("CREATE TABLE one (id int)")
    await migrate(url, tmp_path)
    (tmp_path / "0002_two.sql").write_text("ALTER TABLE one ADD two int")
    connection = await asyncpg.connect(url, server_settings={"application_name": "a report"})
    async with connection.transaction():
        query = "SELECT count(*),\n  'a long text that nobody wants to read in full' FROM one"
        await connection.execute(query)
        with pytest.raises(MigrationError) as refused:
            await migrate(url, tmp_path)
    pid = connection.get_server_pid()
    await connection.close()
    shown = " ".join(query.split())[:60]
    assert re.fullmatch(
        "0002_two waited too long for a lock, and changed nothing. Blocked by "
        rf"pid {pid} \(a report, user postgres, in a transaction since [\d-]+ [\d:]+ UTC\): {re.escape(shown)}\. "
        rf"Wait until they end, or end them as an administrator \(SELECT pg_terminate_backend\({pid}\)\)",
        str(refused.value),
    )
    assert await migrate(url, tmp_path) == ["0002_two"]


@pytest.mark.parametrize("names", ["0002_two", "0001_one 0003_three", "1_one", "0001_one 0001_two"])
def test_gaps_are_errors(tmp_path: Path, names: str):
    """Numbers go from 0001 without gaps, each once."""
    for name in names.split():
        (tmp_path / f"{name}.sql").write_text("SELECT 1")
    with pytest.raises(MigrationError):
        read_migrations(tmp_path)


async def test_months_are_made_ahead(kept: Record):
    """Each month gets one partition of each table, and a fact goes to its month's; a rollback to its redemption's."""
    pool, now_ms = kept.pool, int(time.time() * 1000)
    use = redeemed("CODE", at_ms=now_ms)
    assert await pool.fetchval("SELECT ensure_fact_partitions(14)") == 12 * 6
    assert await pool.fetchval("SELECT ensure_fact_partitions(14)") == 0
    later = now_ms + 40 * 86_400_000
    notice = StockNotice(epoch=0, seq=0, workspace=1, book=2, notice="low", what="codes", left=1, at_ms=now_ms)
    await kept.write(
        assigned("A", at_ms=now_ms),
        assigned("B", at_ms=later),
        unassigned("A", at_ms=later),
        use,
        rolled_back(use),
        notice,
        balance_changed(at_ms=now_ms),
        balance_changed(at_ms=later, kind="closed"),
    )
    this, that = (datetime.fromtimestamp(ms / 1000, UTC).strftime("_%Y_%m") for ms in (now_ms, later))
    assert await _placed(pool) == {
        *("assignments" + month for month in (this, that)), "unassignments" + that, "redemptions" + this,
        "rollbacks" + this, "stock_notices" + this, *("balance_changes" + month for month in (this, that)),
    }  # fmt: skip


async def test_facts_outside_of_all_months_move(kept: Record):
    """Facts of months without a partition are in the default one, and move when their month's partition is created."""
    now_ms = int(time.time() * 1000)
    later = now_ms + 400 * 86_400_000
    use = redeemed("CODE", at_ms=later, order="o")
    await kept.write(
        assigned(at_ms=now_ms),
        assigned("B", at_ms=later),
        unassigned("B", at_ms=later),
        use,
        rolled_back(use),
        balance_changed(at_ms=later),
    )
    tables = ("assignments", "unassignments", "redemptions", "rollbacks", "balance_changes")
    assert {f"{table}_default" for table in tables} < await _placed(kept.pool)
    facts = await kept.facts()
    async with kept.pool.acquire() as connection, connection.transaction():
        await connection.execute("SELECT FROM rollbacks_default")
        made = await kept.pool.fetchval("SELECT ensure_fact_partitions(14)")
    assert made < 6
    assert "rollbacks_default" in await _placed(kept.pool)
    assert await kept.pool.fetchval("SELECT ensure_fact_partitions(14)") == 12 * 6 - made
    month = datetime.fromtimestamp(later / 1000, UTC).strftime("_%Y_%m")
    assert {table + month for table in tables} <= await _placed(kept.pool)
    assert not any(name.endswith("_default") for name in await _placed(kept.pool))
    assert await kept.facts() == facts


async def _placed(pool: asyncpg.Pool) -> set[str]:
    """The tables' partitions that have facts."""
    tables = ("assignments", "unassignments", "redemptions", "rollbacks", "stock_notices", "balance_changes")
    rows = await pool.fetch(" UNION ".join(f"SELECT tableoid::regclass::text FROM {table}" for table in tables))
    return {name for (name,) in rows}


async def _tables(url: str) -> list[str]:
    async with database(url) as connection:
        rows = await connection.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public' ORDER BY 1")
        return [row[0] for row in rows]

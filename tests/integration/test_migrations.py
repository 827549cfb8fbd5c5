"""Migrations, on a real Postgres."""

import asyncio
from pathlib import Path

import asyncpg
import pytest

from service.common.resources import SQL_DIR
from service.record.migrations import MigrationError, migrate, read_migrations
from tests.integration.record_fixtures import make_workspace
from tests.service_fixture import database


async def test_all_migrations_apply_once(new_database):
    """Of five processes that migrate an empty database at the same moment, one applies each file; a later run applies
    nothing."""
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


async def test_a_newer_database_is_an_error(new_database, tmp_path: Path):
    """A database with a migration that this version doesn't have is an error."""
    url = await new_database()
    (tmp_path / "0001_one.sql").write_text("CREATE TABLE one (id int)")
    (tmp_path / "0002_two.sql").write_text("CREATE TABLE two (id int)")
    await migrate(url, tmp_path)
    (tmp_path / "0002_two.sql").unlink()
    with pytest.raises(MigrationError, match="0002_two, which this version doesn't know"):
        await migrate(url, tmp_path)


async def test_a_failing_file_leaves_nothing(new_database, tmp_path: Path):
    """A file that fails is rolled back whole; the files before it stay."""
    url = await new_database()
    (tmp_path / "0001_one.sql").write_text("CREATE TABLE one (id int)")
    (tmp_path / "0002_two.sql").write_text("CREATE TABLE two (id int); SELECT 1 / 0")
    with pytest.raises(asyncpg.DivisionByZeroError):
        await migrate(url, tmp_path)
    assert await _tables(url) == ["migrations", "one"]


@pytest.mark.parametrize("names", ["0002_two", "0001_one 0003_three", "1_one", "0001_one 0001_two"])
def test_gaps_are_errors(tmp_path: Path, names: str):
    """Numbers go from 0001 without gaps, each once."""
    for name in names.split():
        (tmp_path / f"{name}.sql").write_text("SELECT 1")
    with pytest.raises(MigrationError):
        read_migrations(tmp_path)


async def test_months_are_made_ahead(pool: asyncpg.Pool):
    """Each month gets one partition, and a redemption goes to its month's."""
    assert await pool.fetchval("SELECT ensure_fact_partitions(14)") == 12
    assert await pool.fetchval("SELECT ensure_fact_partitions(14)") == 0
    await pool.execute("""
        INSERT INTO redemptions (partition, epoch, seq, workspace, book, code, user_id, redemption_id, digits,
                                 discount_amount, redeemed_at, slot, max_redemptions)
        VALUES (0, 1, 1, 1, 1, 'CODE', 'user', first_uuid7(now()), 2, 0, now(), 0, 1)""")
    month = await pool.fetchval("SELECT 'redemptions_' || to_char(now() AT TIME ZONE 'UTC', 'YYYY_MM')")
    assert await pool.fetchval("SELECT tableoid::regclass::text FROM redemptions") == month


async def _tables(url: str) -> list[str]:
    async with database(url) as connection:
        rows = await connection.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public' ORDER BY 1")
        return [row[0] for row in rows]

"""Migrations, on a real Postgres."""

import asyncio
from pathlib import Path

import asyncpg
import pytest

from service.common.resources import SQL_DIR
from service.record.migrations import MigrationError, migrate, read_migrations


async def test_all_migrations_apply_once(new_database):
    """An empty database gets all files in order, and a second run applies nothing."""
    url = await new_database()
    wanted = [migration.name for migration in read_migrations(SQL_DIR / "migrations")]
    assert wanted[0] == "0001_partitions"
    assert await migrate(url) == wanted
    assert await migrate(url) == []


async def test_processes_that_start_at_once(new_database):
    """Of five processes that migrate at the same moment, each file is applied by one."""
    url = await new_database()
    applied = await asyncio.gather(*(migrate(url) for _ in range(5)))
    names = sorted(name for each in applied for name in each)
    assert names == [migration.name for migration in read_migrations(SQL_DIR / "migrations")]


async def test_a_changed_file_is_an_error(new_database, tmp_path: Path):
    """A file that was changed after it was applied stops the run before anything happens."""
    url = await new_database()
    first = tmp_path / "0001_one.sql"
    first.write_text("CREATE TABLE one (id int)")
    assert await migrate(url, tmp_path) == ["0001_one"]
    first.write_text("CREATE TABLE one (id bigint)")
    (tmp_path / "0002_two.sql").write_text("CREATE TABLE two (id int)")
    with pytest.raises(MigrationError, match="has 0001_one, made from another file than this version's 0001_one"):
        await migrate(url, tmp_path)
    assert await _tables(url) == ["migrations", "one"]


async def test_other_files_database_is_an_error(new_database, tmp_path: Path):
    """A database made from 22 other files is refused as it is; the message names the first and says what to do."""
    url = await new_database()
    for number in range(1, 23):
        (tmp_path / f"{number:04d}_old.sql").write_text(f"CREATE TABLE old_{number} (id int)")
    await migrate(url, tmp_path)
    tables = await _tables(url)
    with pytest.raises(MigrationError, match=r"has 0001_old, .* Use an empty database, or the version that made it"):
        await migrate(url)
    assert await _tables(url) == tables


async def test_an_order_takes_at_most_a_hundred(database_url):
    """Nothing stores a workspace whose orders take more coupons than a script may handle."""
    connection = await asyncpg.connect(database_url)
    try:
        await connection.execute("INSERT INTO partitions (id) VALUES (0)")
        workspace = (
            "INSERT INTO workspaces (workspace_id, name, mode, partition, coupons_per_order, version) "
            "VALUES (gen_random_uuid(), 'shop', 'live', 0, $1, 0)"
        )
        for wrong in (0, 101):
            with pytest.raises(asyncpg.CheckViolationError):
                await connection.execute(workspace, wrong)
        await connection.execute(workspace, 100)
    finally:
        await connection.close()


async def test_a_newer_database_is_an_error(new_database, tmp_path: Path):
    """A program that is older than the database says so."""
    url = await new_database()
    (tmp_path / "0001_one.sql").write_text("CREATE TABLE one (id int)")
    (tmp_path / "0002_two.sql").write_text("CREATE TABLE two (id int)")
    await migrate(url, tmp_path)
    (tmp_path / "0002_two.sql").unlink()
    with pytest.raises(MigrationError, match="0002_two, which this version doesn't know"):
        await migrate(url, tmp_path)


async def test_a_failing_file_leaves_nothing(new_database, tmp_path: Path):
    """What a file did before it failed is taken back, and the files before it stay."""
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


async def test_months_are_made_ahead(database_url):
    """The months that are asked for get a partition once, and a redemption goes to its month's."""
    connection = await asyncpg.connect(database_url)
    try:
        assert await connection.fetchval("SELECT ensure_fact_partitions(14)") == 12
        assert await connection.fetchval("SELECT ensure_fact_partitions(14)") == 0
        await connection.execute("""
            INSERT INTO redemptions (partition, epoch, seq, workspace, book, code, user_id, redemption_id, digits,
                                     discount_amount, redeemed_at, slot, max_redemptions)
            VALUES (0, 1, 1, 1, 1, 'CODE', 'user', first_uuid7(now()), 2, 0, now(), 0, 1)""")
        month = await connection.fetchval("SELECT 'redemptions_' || to_char(now() AT TIME ZONE 'UTC', 'YYYY_MM')")
        assert await connection.fetchval("SELECT tableoid::regclass::text FROM redemptions") == month
    finally:
        await connection.close()


async def _tables(url: str) -> list[str]:
    connection = await asyncpg.connect(url)
    try:
        rows = await connection.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public' ORDER BY 1")
        return [row[0] for row in rows]
    finally:
        await connection.close()

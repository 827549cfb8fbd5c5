"""What the first start and the commands leave in Postgres."""

import asyncio

import asyncpg
import click
import pytest
from click.testing import CliRunner, Result

from service.cli import admin
from service.embedded import demo
from service.record.config import key_rows
from service.record.pool import connect


async def test_the_demo_is_seeded_once(database_url: str) -> None:
    """Seeding twice makes everything once, and the fixed keys work."""
    await demo.seed(database_url)
    pool = await connect(database_url)
    try:
        before = [
            tuple(row)
            for row in await pool.fetch(
                "SELECT version, (SELECT count(*) FROM codes), (SELECT count(*) FROM books) FROM config_versions"
            )
        ]
        await demo.seed(database_url)
        _, callers = await key_rows.read_callers(pool)
        assert callers[key_rows.digest("demo_admin")].scopes == {"public", "checkout", "manage", "operate"}
        assert callers[key_rows.digest("rival_manage")].workspace != callers[key_rows.digest("demo_manage")].workspace
        assert len(callers) == 7
        giving = await pool.fetch(
            "SELECT books.name, gifts.name AS gift FROM books JOIN books AS gifts ON gifts.book_id = books.gift_book_id"
        )
        assert {(row["name"], row["gift"]) for row in giving} == {
            ("Summer 2026", "Gift cards"),
            ("Flash sale", "Gift cards"),
        }
        after = await pool.fetch(
            "SELECT version, (SELECT count(*) FROM codes), (SELECT count(*) FROM books) FROM config_versions"
        )
        assert [tuple(row) for row in after] == before
    finally:
        await pool.close()


async def test_commands(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The commands make a workspace of a name once, and a key whose secret works."""
    monkeypatch.setenv("DATABASE_URL", database_url)

    async def run(group: click.Group, *words: str) -> Result:
        return await asyncio.to_thread(CliRunner().invoke, group, words)

    assert (await run(admin.workspaces, "create", "trial", "--test")).exit_code == 0
    again = await run(admin.workspaces, "create", "trial")
    assert (again.exit_code, again.output) == (1, "Error: There is a workspace trial already.\n")
    made = await run(admin.keys, "create", "trial", "shop", "--scope", "manage", "--scope", "operate")
    secret = made.output.strip()
    assert secret.startswith("scrip_test_")
    assert (await run(admin.keys, "create", "none", "shop", "--scope", "manage")).exit_code == 1
    connection = await asyncpg.connect(database_url)
    try:
        _, callers = await key_rows.read_callers(connection)
    finally:
        await connection.close()
    assert callers[key_rows.digest(secret)].scopes == {"manage", "operate"}
    assert callers[key_rows.digest(secret)].mode == "test"

"""The plans of the queries of hot requests, of rebuilds and of bulk changes: an index for any number of rows."""

from collections.abc import Iterator
from typing import Any
from uuid import UUID

import asyncpg
import msgspec
import pytest
import pytest_asyncio

from service.engine.record.pool import BY_INDEX, IN_ORDER, Connection, set_locally
from service.engine.record.queries import query
from service.server.in_postgres.audit_log import NEWEST_FIRST
from service.server.in_postgres.code_rows import BY_CODE
from service.server.in_postgres.workspace_rows import create_workspace
from tests.integration.recording.record_fixtures import make_workspace

ROWS, MONTHS = 20_000, 6
_LAST = UUID(int=(1 << 128) - 1)
_FILL = """
INSERT INTO redemptions (
  partition, epoch, seq, workspace, book, code, user_id, redemption_id, digits, discount_amount, redeemed_at, slot,
  max_redemptions
)
SELECT
  0, 1, n, 1, 1, 'CODE-' || n, 'user-' || n,
  overlay(first_uuid7(at)::text PLACING lpad(n::text, 12, '0') FROM 25)::uuid, 2, 0, at, 0, 1
FROM generate_series(0, $1 - 1) n, LATERAL (SELECT now() + make_interval(months => n * $2 / $1)) AS month (at)
"""

_MORE = """
INSERT INTO assignments (partition, epoch, seq, workspace, book, code, user_id, assigned_at)
SELECT partition, epoch, seq, workspace, book, code, user_id, redeemed_at FROM redemptions;
INSERT INTO rollbacks (partition, epoch, seq, workspace, book, code, user_id, redemption_id, rolled_back_at, restore)
SELECT partition, epoch, seq, workspace, book, code, user_id, redemption_id, redeemed_at, true FROM redemptions
WHERE seq % 10 = 0;
"""


@pytest_asyncio.fixture
async def filled(pool: asyncpg.Pool) -> asyncpg.Pool:
    """Redemptions over several months, with the statistics of autovacuum."""
    await pool.execute("SELECT ensure_fact_partitions($1)", MONTHS - 1)
    await pool.execute(_FILL, ROWS, MONTHS)
    tables = await pool.fetch("SELECT DISTINCT tableoid::regclass::text FROM redemptions")
    await pool.execute("VACUUM ANALYZE " + ", ".join(name for (name,) in tables))
    return pool


@pytest.mark.parametrize("mode", ["force_custom_plan", "force_generic_plan"])
async def test_a_recorded_redemption_is_looked_up_by_an_index(filled: asyncpg.Pool, mode: str) -> None:
    """A lookup of a recorded redemption is one index scan in each partition, and reads no other row."""
    async with filled.acquire() as connection, connection.transaction():
        await connection.execute(f"SET LOCAL plan_cache_mode = {mode}")
        await connection.execute(f"PREPARE looked (int, bigint, bigint) AS {query('redemption_by_event')}")
        nodes = await _explain(connection, f"EXECUTE looked (0, 1, {ROWS // 2})")
        await connection.execute("DEALLOCATE looked")
    scans = [node for node in nodes if node.get("Relation Name", "").startswith("redemptions")]
    conditions = [node.get("Index Cond", "") for node in scans]
    assert sum("(seq = " in condition for condition in conditions) == MONTHS + 1  # and the default one, which is empty
    assert all("seq" in condition for condition in conditions), conditions
    assert {node["Node Type"] for node in scans} == {"Index Scan"}
    assert [node["Actual Rows"] for node in scans if node["Actual Rows"]] == [1]
    assert not any(node.get("Rows Removed by Filter") for node in scans)


@pytest.mark.parametrize("mode", ["force_custom_plan", "force_generic_plan"])
@pytest.mark.parametrize("name", ["facts_in_order", "facts_to_redo"])
async def test_facts_in_order_are_merged_from_indexes(filled: asyncpg.Pool, name: str, mode: str) -> None:
    """Facts after an event are a merge of each month's index: nothing is sorted whole, and no earlier fact is read."""
    await filled.execute(_MORE)
    await filled.execute("ANALYZE assignments, rollbacks")
    async with filled.acquire() as connection, connection.transaction():
        await connection.execute(f"SET LOCAL plan_cache_mode = {mode}")
        await set_locally(connection, IN_ORDER)
        types, more = (", int[], int[]", ", '{}', '{}'") if name == "facts_to_redo" else ("", "")
        await connection.execute(f"PREPARE read (int, bigint, bigint{types}) AS {query(name)}")
        all_nodes, tail_nodes = [
            await _explain(connection, f"EXECUTE read (0, 1, {after}{more})") for after in (-1, ROWS - 100)
        ]
        await connection.execute("DEALLOCATE read")
    assert not {"Sort", "Hash", "Merge Join"} & {node["Node Type"] for node in all_nodes}
    facts = [node for node in tail_nodes if node.get("Relation Name", "books") != "books"]
    assert len(facts) >= 4 * (MONTHS + 1)
    assert {node["Node Type"] for node in facts if node["Actual Rows"]} == {"Index Scan"}
    assert sum(node["Actual Rows"] for node in facts if "seq" in node.get("Index Cond", "")) == 99 + 99 + 9
    assert not any(node.get("Rows Removed by Filter") for node in facts)


async def test_a_plan_is_made_anew_when_a_table_has_grown(pool: asyncpg.Pool) -> None:
    """A plan cached for a small table reads it whole until statistics are refreshed, once for each doubling."""
    fill = """INSERT INTO idempotency_keys (workspace, key, op, epoch, seq, at, entry)
    SELECT 1, 'key-' || n, 'r', 1, n, now(), 'x' FROM generate_series($1::int, $2) n"""
    refresh = (query("analyze_grown_tables"), 1 << 20, 4)
    async with pool.acquire() as connection, pool.acquire() as other:
        await connection.execute("ALTER TABLE idempotency_keys SET (autovacuum_enabled = off)")
        await connection.execute(fill, 1, 20)
        await connection.execute("ANALYZE idempotency_keys")
        await connection.execute("SET plan_cache_mode = force_generic_plan")
        await connection.execute(f"PREPARE looked (int[], text[]) AS {query('kept_entries')}")
        assert await _rows_read(connection) == 20
        await connection.execute(fill, 21, ROWS)
        assert await _rows_read(connection) == ROWS
        async with other.transaction():
            assert await other.fetchval(*refresh) == 1
            assert await connection.fetchval(*refresh) == 0
        assert await connection.fetchval(*refresh) == 0
        assert await _rows_read(connection) == 1
        await connection.execute(fill, ROWS + 1, 3 * ROWS)
        assert await connection.fetchval(*refresh) == 1
        await connection.execute("DEALLOCATE looked")
        await connection.execute("RESET plan_cache_mode")


async def _rows_read(connection: Connection) -> int:
    """How many rows of a table the prepared statement reads."""
    nodes = await _explain(connection, "EXECUTE looked (ARRAY[1], ARRAY['key-7'])")
    scans = [node for node in nodes if node.get("Relation Name")]
    return sum(node["Actual Rows"] + node.get("Rows Removed by Filter", 0) for node in scans)


@pytest.mark.parametrize("others", [1000, 55_000])
@pytest.mark.parametrize("name", ["change_codes", "find_known_codes"])
async def test_codes_are_looked_up_before_their_statistics_are_known(
    pool: asyncpg.Pool, name: str, others: int
) -> None:
    """A change or a check of codes that were just uploaded reads each by the primary key and no other row, though the
    planner expects none of this workspace. With so many codes of others the primary key has one level more than other
    indexes, so that these cost less."""
    fill = """INSERT INTO codes (workspace, book, partition, version, code)
    SELECT $1, $1, 0, 1, upper(substr(md5(n::text), 1, 12)) FROM generate_series(1, $2::int) n RETURNING code"""
    async with pool.acquire() as connection, connection.transaction():
        await connection.execute(fill, 1, others)
        await connection.execute("ANALYZE codes")
        codes = [code for (code,) in await connection.fetch(fill, 2, 1000)]
        await set_locally(connection, BY_CODE)
        args = (2, 2, codes, 2, False, False, None) if name == "change_codes" else (2, codes)
        nodes = await _explain(connection, query(name), *args)
        scans = [(node["Node Type"], node.get("Index Name")) for node in nodes if "Scan" in node["Node Type"]]
        assert not {"Seq Scan", "Bitmap Heap Scan"} & {kind for kind, _ in scans}
        assert {name for _, name in scans if name} == {"codes_pkey"}
        assert not any(key.startswith("Rows Removed") and node[key] for node in nodes for key in node)
        (read,) = (node for node in nodes if node.get("Index Name"))
        assert read["Actual Rows"] * read["Actual Loops"] == len(codes)
        updated = [node["Actual Rows"] for node in nodes if node["Node Type"] == "ModifyTable"]
        assert updated == [len(codes)] * (name == "change_codes")


@pytest.mark.parametrize("analyzed", [(), (500,), (500, 10_000)])
async def test_a_redemption_costs_the_same_whatever_its_user_did(pool: asyncpg.Pool, analyzed: tuple[int, ...]) -> None:
    """Roll-ups of 500 redemptions read as much if their user redeemed in 10,000 books before as if in 500."""
    known = "INSERT INTO report_users SELECT 1, 'user-1', n, now(), now() FROM generate_series($1::int, $2) n"
    costs = []
    async with pool.acquire() as connection, connection.transaction():
        await make_workspace(connection)
        await connection.execute(_FILL, 500, 1)
        await connection.execute("UPDATE redemptions SET user_id = 'user-1', book = 1 + seq")
        await set_locally(connection, BY_INDEX)
        events = "int, bigint, bigint, bigint, text, text"
        for first, last in ((0, 500), (501, 10_000)):
            await connection.execute(known, first, last)
            if last in analyzed:
                await connection.execute("ANALYZE redemptions, report_users, report_sums")
            await connection.execute(f"PREPARE counted ({events}) AS {query('report_redemptions')}")
            nodes = await _explain(connection, f"EXECUTE counted (0, 1, 0, 499, '{UUID(int=0)}', '{_LAST}')")
            await connection.execute("DEALLOCATE counted")
            scans = [
                node for node in nodes if node.get("Relation Name") == "report_users" and "Scan" in node["Node Type"]
            ]
            read = [(one["Actual Rows"] + one.get("Rows Removed by Filter", 0)) * one["Actual Loops"] for one in scans]
            costs.append((sum(read), nodes[0]["Shared Hit Blocks"] + nodes[0]["Shared Read Blocks"]))
    (rows, blocks), (rows_of_many, blocks_of_many) = costs
    assert rows == rows_of_many <= 2 * 500
    assert blocks_of_many < 2 * blocks


async def test_a_deletion_sorts_only_what_a_new_user_redeemed(pool: asyncpg.Pool) -> None:
    """While nothing is recorded, a deletion reads the deleted user's redemptions once, and orders only those that a new
    user of this name made since."""
    async with pool.acquire() as connection, connection.transaction():
        await make_workspace(connection)
        await connection.execute(_FILL, 2000, 1)
        await connection.execute(
            "UPDATE redemptions SET user_id = CASE WHEN seq < 1990 THEN 'deleted-1' ELSE 'user' END"
        )
        nodes = await _explain(connection, query("recount_new_user"), 1, "user", "deleted-1")
    ordered = [node["Actual Rows"] for node in nodes if node["Node Type"] == "WindowAgg"]
    assert ordered
    assert set(ordered) == {10}


async def test_the_first_delivery_of_a_subject(pool: asyncpg.Pool) -> None:
    """Which of a coupon's deliveries is due is one step in an index, also if most of all webhooks' are of one coupon:
    else each is looked for among all, from the oldest on."""
    await make_workspace(pool)
    fence = await pool.fetchval("SELECT fence FROM partitions WHERE id = 0")
    await pool.execute(
        "INSERT INTO webhooks (workspace, partition, url, events, description, secret, epoch, seq) "
        "SELECT 1, 0, 'https://shop.example/', '{coupon.assigned}', '', 'x', 0, 0 FROM generate_series(1, 2)"
    )
    await pool.execute(
        "INSERT INTO webhook_deliveries (webhook, event_id, event, happened_at, epoch, seq, subject) "
        "SELECT 1 + n / 2000, 'evt_' || n, 'coupon.assigned', now(), 1, n, 'CODE' FROM generate_series(0, 3999) n"
    )
    await pool.execute("ANALYZE webhook_deliveries")
    async with pool.acquire() as connection:
        nodes = await _explain(connection, query("due_deliveries"), [2], [8], [], 0, fence)
    (first,) = [node for node in nodes if node.get("Alias") == "earlier"]
    assert (first["Actual Loops"], first["Actual Rows"]) == (2000, 1)
    assert not first.get("Rows Removed by Filter")
    assert nodes[0]["Actual Rows"] == 1


@pytest.mark.parametrize("workspaces", ["NULL", "'{1}'", "'{2}'"])
async def test_only_valid_keys_are_read(pool: asyncpg.Pool, workspaces: str) -> None:
    """Every API process reads the keys after each change of one, within 2 s: no revoked or expired key is read, of
    which a tenant can make any number; also once Postgres may use a plan for any workspaces."""
    async with pool.acquire() as connection:
        for name in ("one", "other"):
            await create_workspace(connection, name)
    await pool.execute(
        "INSERT INTO keys (key_id, workspace, name, prefix, secret_hash, scopes, expires_at, revoked_at) "
        "SELECT new_uuid7(), 1 + n % 2, 'k', 'k', sha256(n::text::bytea), '{public}', "
        "CASE WHEN n % 3 = 0 THEN now() - interval '1 s' END, CASE WHEN n % 3 = 1 THEN now() END "
        "FROM generate_series(1, $1) n WHERE n % 3 < 2 OR n <= 12",
        ROWS,
    )
    await pool.execute("VACUUM ANALYZE keys")
    async with pool.acquire() as connection, connection.transaction():
        await connection.execute(f"PREPARE callers (int[]) AS {query('read_callers')}")
        for _ in range(10):
            nodes = await _explain(connection, f"EXECUTE callers ({workspaces})")
        await connection.execute("DEALLOCATE callers")
    read = [node for node in nodes if node.get("Relation Name") == "keys"]
    assert sum(node["Actual Rows"] for node in read) == (4 if workspaces == "NULL" else 2)
    assert not any(node.get("Rows Removed by Filter") for node in read)


async def test_the_audit_is_read_from_its_end(pool: asyncpg.Pool) -> None:
    """A page of the audit reads its own rows alone: not those of other workspaces, nor an upload's later parts."""
    async with pool.acquire() as connection:
        other, workspace = [(await create_workspace(connection, name)).workspace for name in ("other", "audited")]
    fill = """INSERT INTO audit (workspace, actor, action, subject, after)
    SELECT $1, 'service', 'codes.added', 'x', jsonb_build_object('count', 1, $2::text, 'u')
    FROM generate_series(1, $3::int)"""
    for whose, part, rows in (
        (other, "partOf", ROWS),
        (workspace, "earlier", ROWS),
        (workspace, "upload", 1),
        (workspace, "partOf", 5000),
    ):
        await pool.execute(fill, whose, part, rows)
    await pool.execute("ANALYZE audit")
    async with pool.acquire() as connection, connection.transaction():
        await connection.execute("SET LOCAL plan_cache_mode = force_generic_plan")
        await set_locally(connection, NEWEST_FIRST)
        newest = await connection.fetchrow(query("page_audit"), workspace, None, 1, *[None] * 6)
        assert newest
        assert newest["after"] == '{"count": 5001}'
        types = "int, bigint, bigint, text, text, uuid, timestamptz, timestamptz, text"
        await connection.execute(f"PREPARE page ({types}) AS {query('page_audit')}")
        nodes = await _explain(connection, f"EXECUTE page ({workspace}, NULL, 10{', NULL' * 6})")
        await connection.execute("DEALLOCATE page")
    pages = [node for node in nodes if node.get("Alias") == "audit"]
    assert [(node["Node Type"], node["Index Name"]) for node in pages] == [("Index Scan", "audit_of_workspace")]
    assert [node["Actual Rows"] for node in pages] == [10]
    assert not any(node.get("Rows Removed by Filter") for node in nodes)


@pytest.mark.parametrize("mode", ["force_custom_plan", "force_generic_plan"])
async def test_a_report_of_cards_reads_its_books_alone(pool: asyncpg.Pool, mode: str) -> None:
    """What is outstanding is a sum of all earlier days: of one book it reads that book's alone, by the index, and of
    all books each day twice at most."""
    books, days = 100, 400
    await make_workspace(pool)
    fill = """INSERT INTO books (workspace, book, book_id, name, description, status, require_assignment, require_lock,
    lock_seconds, max_lock_seconds, code_pattern, charset, tags, metadata, version)
    SELECT 1, 2 + n, new_uuid7(), 'b', '', 'active', false, false, 300, 3600, '####', 'AB', '{}', '{}', 1
    FROM generate_series(1, $1::int) n"""
    await pool.execute(fill, books - 1)
    sums = """INSERT INTO card_sums
    SELECT 1, 1 + book, '2020-01-01'::timestamptz + make_interval(days => day), 'spent', 1
    FROM generate_series(1, $1::int) book, generate_series(1, $2::int) day"""
    await pool.execute(sums, books, days)
    await pool.execute("VACUUM ANALYZE card_sums, books")
    book_id = await pool.fetchval("SELECT book_id::text FROM books WHERE book = 7")
    for only, expected in ((f"'{book_id}'", days), ("NULL", books * days)):
        async with pool.acquire() as connection, connection.transaction():
            await connection.execute(f"SET LOCAL plan_cache_mode = {mode}")
            types = "int, timestamptz, timestamptz, text, uuid, int"
            await connection.execute(f"PREPARE report ({types}) AS {query('read_liability')}")
            span = "'2020-12-31 UTC', '2022-01-01 UTC', 'UTC'"
            nodes = await _explain(connection, f"EXECUTE report (1, {span}, {only}, 5000)")
            await connection.execute("DEALLOCATE report")
        read = [node for node in nodes if node.get("Relation Name") == "card_sums"]
        seen = sum(
            (node["Actual Rows"] + node.get("Rows Removed by Filter", 0)) * node["Actual Loops"] for node in read
        )
        assert seen <= expected * 2 if only == "NULL" else seen == expected, read


async def _explain(connection: Connection, statement: str, *args: Any) -> list[dict[str, Any]]:
    """Run a statement; return the nodes of its plan."""
    plan = await connection.fetchval(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {statement}", *args)
    assert plan
    return list(_nodes(msgspec.json.decode(plan)[0]["Plan"]))


def _nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for below in plan.get("Plans", []):
        yield from _nodes(below)

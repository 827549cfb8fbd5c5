"""The service through PgBouncer 1.18 with transaction pooling: each transaction may be in another session."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import pytest

from service.engine.record.partitions.partition_rows import read_partitions, renew_leases
from service.engine.record.pool import UnboundSession, connect, connect_once, is_away, is_pooled
from service.engine.record.processes import name_session
from service.engine.record.sessions import BOUNDS_S
from tests.harness.commands import scrip, succeeded
from tests.harness.pgbouncer import POOL_SIZE
from tests.harness.restricted import Restricted, restricted
from tests.harness.running import migrate
from tests.harness.service_fixture import Service, database, new_code, new_id, ok
from tests.harness.waiting import PATIENCE_S, until


@pytest.fixture(scope="module")
def run() -> Iterator[Restricted]:
    with restricted(pooled=True) as started:
        yield started


@pytest.fixture(scope="module")
def pooled(run: Restricted) -> Iterator[Service]:
    """A service whose API and worker have fewer sessions at Postgres than connections."""
    service = Service(run)
    yield service
    service.close()


def test_everything_is_recorded_and_compared(run: Restricted, pooled: Service) -> None:
    """Redemptions are recorded; histories, exports and the console are read; Redis and Postgres are equal."""
    codes = [new_code() for _ in range(40)]
    book = pooled.book(*codes)
    user = new_id()
    for code in codes[:30]:
        ok(pooled.checkout.post(f"/v1/coupons/redeem/{code}", json={"userId": user}), 201)
    last = pooled.checkout.post(
        f"/v1/coupons/redeem/{codes[30]}", json={"userId": user}, headers={"Prefer": "durability=recorded, wait=10"}
    )
    assert ok(last, 201)["durability"] == "recorded"
    job = ok(pooled.manage.post(f"/v1/books/{book}/codes/generate", json={"count": 500}), 202)["jobId"]
    until(lambda: ok(pooled.manage.get(f"/v1/jobs/{job}"))["status"] == "done")
    assert len(ok(pooled.manage.get(f"/v1/books/{book}/redemptions", params={"limit": 100}))["items"]) == 31
    assert len(pooled.manage.get(f"/v1/books/{book}/redemptions.csv").text.splitlines()) == 32
    assert ok(pooled.operate.get("/v1/audit"))["items"]
    assert ok(pooled.operate.get("/console/data/overview"))
    pooled.recorded()
    compared = succeeded(scrip("reconcile", **run.urls["worker"]))
    assert "Nothing differs" in compared.stdout


async def test_no_statement_stays_in_a_session(run: Restricted, pooled: Service) -> None:
    """Comparisons and reports, which read by cursors, leave none that another process would meet."""
    ok(pooled.manage.get("/v1/reports/redemptions"))
    ok(pooled.manage.get("/v1/reports/funnel"))
    for command in ("reports", "reconcile"):
        succeeded(scrip(command, **run.urls["worker"]))

    async def ask(process: str) -> list[str]:
        connection = await connect_once(run.urls[process]["DATABASE_URL"])
        names = "SELECT array_agg(name) FILTER (WHERE name <> '') FROM pg_prepared_statements, pg_sleep(0.2)"
        try:
            return await connection.fetchval(names) or []
        finally:
            await connection.close()

    asked = [ask(process) for process in ("api", "worker") for _ in range(4 * POOL_SIZE)]
    assert [name for names in await asyncio.gather(*asked) for name in names] == []


async def test_leases_end_with_no_session(run: Restricted) -> None:
    """The sessions are the pooler's: a worker's name names none, and another worker leaves it its leases."""
    async with await connect(run.urls["worker"]["DATABASE_URL"]) as pool:
        (holder,) = {row.lease_holder for row in await read_partitions(pool)}
        assert holder
        assert name_session(holder) == "scrip-worker"
        assert holder in (await renew_leases(pool, "tests", 1, "v1")).workers


def test_a_lost_redis_is_rebuilt(pooled: Service) -> None:
    """Cursors over the facts work, and an emptied Redis holds the redemptions again."""
    code, user = new_code(), new_id()
    pooled.book(code)
    ok(pooled.checkout.post(f"/v1/coupons/redeem/{code}", json={"userId": user}), 201)
    pooled.recorded()
    with pooled.redis() as client:
        client.flushall()
    until(lambda: pooled.checkout.post(f"/v1/coupons/redeem/{code}", json={"userId": user}).status_code == 409)
    pooled.recorded()


@pytest.mark.parametrize("named", [True, False], ids=["named", "not-named"])
async def test_the_doctor_changes_no_session(run: Restricted, named: bool) -> None:
    """The doctor, which reads only, makes no session read-only that the worker then writes in."""
    url = run.urls["worker"]["DATABASE_URL"]
    given = url if named else url.removesuffix("?pgbouncer=true")
    for _ in range(3):
        examined = scrip("doctor", **run.urls["worker"] | {"DATABASE_URL": given})
        assert "unreachable" not in examined.stdout, examined.stdout

    async def ask() -> str | None:
        connection = await connect_once(run.urls["worker"]["DATABASE_URL"])
        setting = "SELECT current_setting('default_transaction_read_only') FROM pg_sleep(0.2)"
        try:
            return await connection.fetchval(setting)
        finally:
            await connection.close()

    assert set(await asyncio.gather(*(ask() for _ in range(4 * POOL_SIZE)))) == {"off"}


async def test_a_session_keeps_no_names(run: Restricted) -> None:
    """Many connections that share three sessions run the same statements at once, within transactions and without."""
    url = run.urls["worker"]["DATABASE_URL"]
    assert is_pooled(url)
    async with await connect(url, min_size=8) as pool:

        async def ask() -> None:
            for number in range(20):
                assert await pool.fetchval("SELECT $1::int", number) == number
                async with pool.acquire() as connection, connection.transaction():
                    statement = await connection.prepare("SELECT n FROM generate_series(1, $1::int) AS n")
                    cursor = await statement.cursor(25)
                    pages = [len(await cursor.fetch(10)) for _ in range(3)]
                    assert pages == [10, 10, 5]

        await asyncio.gather(*(ask() for _ in range(8)))


async def test_a_pooler_that_the_url_does_not_name(run: Restricted) -> None:
    """A process refuses to start, because statements would fail one by one, and says what to add to the URL."""
    url = run.urls["worker"]["DATABASE_URL"].removesuffix("?pgbouncer=true")
    with pytest.raises(UnboundSession, match="pgbouncer=true"):
        await connect(url, min_size=1)
    command, env = [sys.executable, "-m", "service", "worker"], os.environ | run.urls["worker"] | {"DATABASE_URL": url}
    refused = await asyncio.to_thread(
        subprocess.run, command, env=env, stderr=subprocess.PIPE, text=True, timeout=PATIENCE_S
    )
    assert refused.returncode == 2
    assert "Error: unfit: A pooler answers at DATABASE_URL: add pgbouncer=true" in refused.stderr


async def test_a_password_from_a_file(run: Restricted, tmp_path: Path) -> None:
    """Each new connection reads the file again, so that a process goes on after a rotation without a restart."""
    url = urlsplit(run.urls["worker"]["DATABASE_URL"])
    file = tmp_path / "worker.pgpass"

    def write(password: str | None) -> None:
        file.write_text(f"*:*:*:{url.username}:{password}\n")
        file.chmod(0o600)

    host = url.netloc.rpartition("@")[2]
    named = urlunsplit(url._replace(netloc=f"{url.username}@{host}", query=f"{url.query}&passfile={file}"))
    write(url.password)
    async with await connect(named, min_size=1, max_size=2) as pool, pool.acquire():
        write("changed")
        with pytest.raises(asyncpg.PostgresError) as refused:
            await pool.fetchval("SELECT 1")
        assert is_away(refused.value)
        write(url.password)
        assert await pool.fetchval("SELECT 1") == 1


@pytest.mark.parametrize("setting", BOUNDS_S)
async def test_a_session_without_bounds(new_database: Callable[..., Awaitable[str]], setting: str) -> None:
    """A role without a bound can't start, and the error's statement repairs it; `migrate` leaves a stricter one."""
    url = await new_database()
    await migrate(url)
    async with database(url) as owner:
        name = await owner.fetchval("SELECT current_database()")
        await owner.execute(f"ALTER ROLE postgres IN DATABASE {name} SET {setting} = 0")
        with pytest.raises(UnboundSession) as refused:
            await connect(url)
        text = str(refused.value)
        assert text.startswith(f"{setting} is off for the role postgres")
        await owner.execute(text[text.index("ALTER ROLE") : text.index(";")])
        await (await connect(url)).close()
        await owner.execute(f"ALTER ROLE postgres IN DATABASE {name} SET {setting} = '700ms'")
    await migrate(url)
    async with await connect(url) as pool:
        assert await pool.fetchval("SELECT current_setting($1)", setting) == "700ms"


async def test_an_owner_who_may_not_bound_others(run: Restricted, new_database: Callable[..., Awaitable[str]]) -> None:
    """`scrip migrate` without rights over a role prints the statement to run as that role."""
    url = await new_database()
    async with database(url) as admin:
        name = await admin.fetchval("SELECT current_database()")
        await admin.execute(f"CREATE ROLE scrip_api; CREATE ROLE owner_of_{name} LOGIN")
        await admin.execute(f"GRANT CREATE ON SCHEMA public TO owner_of_{name}")
    try:
        owned = url.replace("postgres@", f"owner_of_{name}@")
        migrated = succeeded(scrip("migrate", **run.urls["worker"] | {"DATABASE_URL": owned}))
        expected = f"ALTER ROLE scrip_api IN DATABASE {name} SET statement_timeout = '30s';"
        assert expected in migrated.output
    finally:
        async with database(url) as admin:
            await admin.execute(f"DROP OWNED BY owner_of_{name} CASCADE; DROP ROLE scrip_api, owner_of_{name}")

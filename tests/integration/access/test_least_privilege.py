"""Each process's Redis user and Postgres role has the rights that the process needs, and no more."""

import asyncio
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import asyncpg
import pytest
import redis

from service.engine.hot import scripts
from service.engine.hot.connection import connect
from service.engine.record import pool as postgres
from service.engine.record.login_roles import find_missing_rights, list_rights
from service.engine.record.partitions.partition_rows import renew_leases
from service.engine.record.processes import end_process, name_process, name_session
from service.engine.record.queries import query
from service.server.in_redis import key_messages
from tests.harness.canaries import Canaries
from tests.harness.commands import scrip, succeeded
from tests.harness.plugin import require
from tests.harness.restricted import PASSWORDS, ROOT, Restricted, acl_lines, restricted
from tests.harness.servers import free_port, started
from tests.harness.service_fixture import Service, database, new_id, ok
from tests.harness.tls import Authority, door
from tests.harness.waiting import PATIENCE_S, until, wait_until

_API = [*scripts.SERVING, *scripts.PROJECTION]
_RUN = {
    "api": _API,
    "worker": [
        *(*_API, *scripts.MENDING, *scripts.ERASING, *scripts.RECONCILING, *scripts.STORING),
        *("drop_wrong", "fence", "set_gate"),
    ],
}
"""The scripts that each process runs."""
_SENT = {
    "api": set(
        "evalsha script|exists client|setname cluster|nodes config|get info ping publish subscribe time get "
        "xlen xrange xrevrange".split()
    ),
    "worker": set(
        "exists evalsha script|exists script|load eval client|setname cluster|nodes config|get info ping get mget scan "
        "xrange xrevrange xread xtrim xlen bgrewriteaof client|tracking time type hget hgetall hscan "
        "zrange zscore dbsize".split()
    ),
}
"""The commands that each process sends itself; commands use the worker's user, too."""
_CHANNELS = {"api": [f"&{key_messages.CHANNEL}"], "worker": []}
_TABLE = re.compile(r"\b[a-z_]+\b")


@pytest.fixture(scope="module")
def run() -> Iterator[Restricted]:
    """Processes with these users and roles, TLS and passwords."""
    with restricted() as started:
        yield started


def _client(run: Restricted, name: str) -> Any:
    address = run.facts["redisUrl"].rpartition("@")[2]
    user = name if name == "tests" else f"scrip-{name}"
    return redis.Redis.from_url(f"redis://{user}:{PASSWORDS[name]}@{address}", decode_responses=True)


def _commands(run: Restricted) -> dict[str, int]:
    """The smallest number of words of each command and subcommand of the server."""
    arities: dict[str, int] = {}
    with _client(run, "tests") as client:
        infos = client.execute_command("COMMAND INFO", *client.execute_command("COMMAND LIST"))
        for name, arity, *more in infos:
            if not more[7]:
                arities[name] = abs(arity)
            arities |= {sub[0]: abs(sub[1]) for sub in more[7]}
    return arities


def test_a_restart_keeps_what_scripts_wrote(tmp_path: Path) -> None:
    """Redis 7.0 reads the changes of a script from its disk with the rights of `default`, who can't authenticate."""
    users = tmp_path / "users.acl"
    users.write_text("\n".join(acl_lines()) + "\n")
    options = ("--aclfile", str(users), "--appendonly", "yes", "--appendfsync", "always")
    server = Path(require("redis-server"))
    login = f"//tests:{PASSWORDS['tests']}@"
    with started(server, tmp_path, *options) as url, redis.Redis.from_url(url.replace("//", login)) as client:
        client.eval("redis.call('SET', 'a', '1'); redis.call('SET', 'b', '2')", 0)
    with started(server, tmp_path, *options) as url:
        with redis.Redis.from_url(url.replace("//", login), decode_responses=True) as client:
            assert client.mget("a", "b") == ["1", "2"]
        with redis.Redis.from_url(url) as client, pytest.raises(redis.AuthenticationError):
            client.get("a")


@pytest.mark.parametrize("name", ["api", "worker"])
def test_commands(run: Restricted, name: str) -> None:
    """A user has the commands of its scripts and its process; Redis rejects every other command that it has."""
    called = {
        command.lower() for script in _RUN[name] for command in re.findall(r"call\('(\w+)'", scripts._body(script))
    }
    with _client(run, "tests") as client:
        user = client.acl_getuser(f"scrip-{name}")
    allowed = {command.removeprefix("+") for command in user["commands"] if command.startswith("+")}
    assert allowed == (called | {"xadd"} | _SENT[name])
    assert (user["keys"], user["channels"]) == (["~{p*}:*"], _CHANNELS[name])

    arities = _commands(run)
    refused = arities.keys() - allowed - {"auth", "hello", "quit", "reset"}  # any user may send the last four
    with _client(run, name) as client:
        for command in sorted(refused):
            arguments = ["x"] * (arities[command] - 1 - command.count("|"))
            with pytest.raises(redis.ResponseError, match=r"(?i)no permissions"):
                client.execute_command(*command.split("|"), *arguments)
    assert len(refused) >= 300
    harmful = (
        "flushall flushdb keys config|set debug|segfault shutdown acl|setuser migrate restore monitor replicaof save"
    )
    assert set(harmful.split()) - refused <= {"debug|segfault", "restore" if name == "worker" else ""}
    assert name == "worker" or {"eval", "script|load", "script|flush", "scan", "function|load"} <= refused


def test_the_administrator(run: Restricted) -> None:
    """The administrator has the commands that deploy.md lists, with each that a runbook names, and reads no key."""
    with _client(run, "tests") as client:
        user = client.acl_getuser("scrip-admin")
    allowed = {command.removeprefix("+") for command in user["commands"] if command.startswith("+")}
    text = (ROOT / "docs" / "deploy.md").read_text()
    (listed,) = re.findall(r"^`scrip-admin` is for people:(.+?) It has no ", text, re.DOTALL | re.MULTILINE)
    assert allowed == {name.lower() for name in re.findall(r"`([A-Z]+)`", listed)}
    assert (user["keys"], user["channels"]) == ([], [])

    known = {name.partition("|")[0].upper() for name in _commands(run)} - {"SELECT", "COPY"}  # which are SQL's, too
    pages = [(ROOT / "docs" / f"{name}.md").read_text() for name in ("operations", "restore", "upgrading")]
    named = [words for page in pages for words in re.findall(r"`([A-Z]+)(?: (?!/)[^`]*)?`", page) if words in known]
    assert len(named) >= 8
    assert {name.lower() for name in named} <= allowed
    with _client(run, "admin") as client:
        assert client.config_set("latency-monitor-threshold", 0)
        for command in ("GET {p0}:gate", "DEL {p0}:gate", "FLUSHALL", "SCAN 0", "EVAL x 0", "DEBUG SLEEP 0"):
            with pytest.raises(redis.ResponseError, match=r"(?i)no permissions"):
                client.execute_command(*command.split())


@pytest.mark.parametrize("name", ["api", "worker"])
def test_keys_of_others(run: Restricted, name: str) -> None:
    """A user may use no key outside the partitions."""
    with _client(run, name) as client:
        assert client.get("{p0}:gate").endswith(" open")
        for key in ("other", "p0:gate", "{q0}:gate", "", "session:1"):
            for command in (("GET", key), ("SET", key, "x"), ("DEL", key)):
                with pytest.raises(redis.ResponseError, match=r"(?i)no permissions"):
                    client.execute_command(*command)


_FORBIDDEN = {
    "api": (
        "INSERT INTO redemptions (redemption_id) VALUES (gen_random_uuid())", "UPDATE redemptions SET order_value = 1",
        "DELETE FROM redemptions", "UPDATE assignments SET user_id = 'x'", "DELETE FROM rollbacks",
        "INSERT INTO single_uses VALUES (1, 'x', gen_random_uuid())", "DELETE FROM order_uses",
        "UPDATE partitions SET cursor_seq = 0", "UPDATE partitions SET state = 'open'", "DELETE FROM idempotency_keys",
        "UPDATE keys SET scopes = '{operate}'", "UPDATE keys SET secret_hash = ''", "DELETE FROM keys",
        "INSERT INTO workspaces (name) VALUES ('x')", "DELETE FROM books", "DELETE FROM codes",
        "TRUNCATE redemptions", "DROP TABLE books", "ALTER TABLE books ADD x int", "CREATE TABLE x (y int)",
        "SELECT ensure_fact_partitions(1)", "SELECT nextval('epochs')", "DELETE FROM migrations",
        "SELECT analyze_grown_tables(0, 1)", "SELECT pg_read_file('/etc/passwd')", "COPY books TO PROGRAM 'id'",
        "CREATE ROLE x", "SET ROLE postgres",
        "ALTER ROLE scrip_api SUPERUSER", "SELECT pg_ls_dir('/')", "UPDATE script_versions SET templates = '{}'",
        "INSERT INTO script_versions VALUES ('x', '{}')", "UPDATE formats SET number = 2",
        "INSERT INTO fact_months VALUES ('2025-01-01')", "SELECT drop_old_months(1)",
    ),
    "worker": (
        "SELECT * FROM keys", "UPDATE keys SET scopes = '{operate}'", "INSERT INTO keys (name) VALUES ('x')",
        "UPDATE keys_version SET version = 0", "SELECT * FROM sessions", "DELETE FROM sessions",
        "UPDATE redemptions SET order_value = 1", "UPDATE redemptions SET discount_amount = 0",
        "DELETE FROM redemptions",
        "DELETE FROM rollbacks", "DELETE FROM assignments", "UPDATE books SET discount = NULL", "DELETE FROM books",
        "UPDATE assignments SET code = 'x'", "UPDATE open_assignments SET code = 'x'",
        "UPDATE codes SET code = 'x'", "UPDATE codes SET max_redemptions = 9", "DELETE FROM codes",
        "UPDATE workspaces SET currency = 'EUR'", "INSERT INTO workspaces (name) VALUES ('x')",
        "DELETE FROM quarantine", "TRUNCATE redemptions", "DROP TABLE redemptions", "CREATE TABLE x (y int)",
        "ALTER TABLE redemptions DISABLE TRIGGER ALL", "DELETE FROM migrations", "COPY keys TO PROGRAM 'id'",
        "SET ROLE scrip_api", "CREATE ROLE x", "DELETE FROM fact_months",
        "ALTER TABLE redemptions DETACH PARTITION redemptions_default",
        "UPDATE settings SET partitions = 2", "UPDATE settings SET facts_from = now()",
        "INSERT INTO partitions (id) VALUES (1)",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", ["api", "worker"])
async def test_statements_that_are_refused(run: Restricted, name: str) -> None:
    """The API can't change facts, the worker no keys nor most configuration, and neither creates or drops tables."""
    async with database(run.urls[name]["DATABASE_URL"]) as connection:
        for statement in _FORBIDDEN[name]:
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await connection.execute(statement)


async def test_a_worker_drops_old_months(run: Restricted) -> None:
    """The worker's role drops months of facts, which only their owner may do; there is none yet."""
    async with database(run.urls["worker"]["DATABASE_URL"]) as connection:
        assert await connection.fetch(query("drop_old_months"), 1) == []


async def test_a_worker_refreshes_statistics(run: Restricted) -> None:
    """The worker's role refreshes the statistics of grown tables, which only their owner may do."""
    async with database(run.urls["worker"]["DATABASE_URL"]) as connection:
        assert await connection.fetchval(query("analyze_grown_tables"), 8192, 2) == 2


async def test_every_table_is_named(run: Restricted) -> None:
    """deploy/postgres-roles.sql revokes all rights on every table and view, then grants the right to read it."""
    async with database(run.facts["databaseUrl"]) as connection:
        rows = await connection.fetch(
            "SELECT relname FROM pg_class WHERE relkind IN ('r', 'p', 'v') AND NOT relispartition "
            "AND relnamespace = 'public'::regnamespace"
        )
    own = {row["relname"] for row in rows}
    revoked = re.search(r"REVOKE ALL ON\n(.*)\n  FROM", (ROOT / "deploy" / "postgres-roles.sql").read_text(), re.DOTALL)
    assert revoked
    assert set(_TABLE.findall(revoked[1])) == own
    assert {right.table for right in list_rights("scrip_api") if right.name == "SELECT"} == own


def test_everything_works(run: Restricted) -> None:
    """Every route, a key's limits, a generation, the deletion of a user, a rebuild and a recovery work with these
    rights."""
    with closing(Service(run)) as service:
        canaries = Canaries(service, 200)
        canaries._upload()
        canaries._every_route()
        canaries._live(canaries.codes[100:])
        key = ok(service.operate.post("/v1/keys", json={"name": "k", "scopes": ["checkout"]}), 201)["keyId"]
        ok(service.operate.patch(f"/v1/keys/{key}", json={"limits": {"requestsPerMinute": 60}}))
        book = service.book(totalCodes=20, keepFree=30, codePattern="LEAST-########")
        until(lambda: service.stats(book)["available"] == 30)
        user = new_id()
        ok(service.checkout.post("/v1/coupons/assign", json={"bookId": book, "userId": user}), 201)
        assert service.manage.delete(f"/v1/users/{user}").status_code == 204
        erased = "SELECT count(*) AS n FROM erasures WHERE finished_at IS NULL"
        until(lambda: asyncio.run(service.fetch(erased))[0]["n"] == 0)
        with _client(run, "tests") as client:
            client.flushall()
            until(lambda: client.get("{p0}:gate"))
        until(lambda: service.checkout.get("/v1/users/nobody").is_success)
        assert ok(service.checkout.get(f"/v1/coupons/{canaries.codes[-1]}"))["redemptions"] == 1
        succeeded(scrip("recover", "--apply", "--partition", str(service.partition), **run.urls["worker"]))
        until(lambda: service.checkout.get("/v1/users/nobody").is_success)
        assert canaries.bodies == []
    log = run.output.read_text()  # it has each refusal that a process receives
    assert re.findall("InsufficientPrivilege|postgres_right_missing.*", log) == []
    assert "NOPERM" not in log


def _line(process: str, **env: str) -> str:
    """The line with which a process that can't start ends."""
    command = [sys.executable, "-m", "service", process]
    env = os.environ | env | {"SCRIP_PORT": str(free_port())}
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    (line,) = done.stderr.splitlines()
    assert (done.returncode, done.stdout) == (2, "")
    return line


async def test_rights_that_are_missing(run: Restricted) -> None:
    """The doctor names each, and a process does not start without one; `scrip migrate --roles` grants it again."""
    async with database(run.facts["databaseUrl"]) as connection:
        await connection.execute("REVOKE INSERT ON books FROM scrip_api; REVOKE UPDATE ON quarantine FROM scrip_worker")
    owner = {"DATABASE_URL": run.facts["databaseUrl"], "REDIS_URL": run.urls["worker"]["REDIS_URL"]}
    with closing(Service(run)) as service:
        assert service.manage.post("/v1/books", json={"name": "unwritable"}).status_code == 503
    assert '"reason": "permission denied for table books", "event": "postgres_right_missing"' in run.output.read_text()
    said = " ".join(scrip("doctor", **owner).output.split())
    assert "scrip_api lacks INSERT on books; scrip_worker lacks UPDATE on quarantine" in said
    for process, lacks in (("api", "INSERT on books"), ("worker", "UPDATE on quarantine")):
        assert f"Error: wrong_role: the role scrip_{process} lacks {lacks}, " in _line(process, **run.urls[process])
    async with database(run.facts["databaseUrl"]) as connection:
        await connection.execute("CREATE TABLE of_another (x int)")
        await connection.execute("CREATE ROLE another")
        await connection.execute("ALTER TABLE of_another OWNER TO another")
        try:
            succeeded(scrip("migrate", "--roles", **owner))
            assert await find_missing_rights(connection, "scrip_api", "scrip_api") == []
            assert not await connection.fetchval("SELECT has_table_privilege('scrip_api', 'of_another', 'SELECT')")
        finally:
            await connection.execute("DROP TABLE of_another")
            await connection.execute("DROP ROLE another")


async def test_a_worker_sees_the_sessions_of_others(run: Restricted) -> None:
    """The worker's role reads that a worker has the session with which its leases end; without it they end."""
    database_url = run.urls["worker"]["DATABASE_URL"]
    reader, other = (name_process(has_session=True) for _ in range(2))
    async with await postgres.connect(database_url, max_size=1) as connection:
        await renew_leases(connection, reader, 2000, "v1")
        renewed = (
            "SELECT count(*) FROM processes, pg_stat_activity "
            "WHERE pid = pg_backend_pid() AND kind = 'worker' AND id <> $1 "
            "AND alive_until - interval '2 s' > backend_start"
        )
        await wait_until(lambda: connection.fetchval(renewed, reader), "the worker's next renewal")
        await renew_leases(connection, other, 60_000, "v1")  # has no such session
        living = (await renew_leases(connection, reader, 2000, "v1")).workers.keys()
        assert other not in living
        assert [holder for holder in living - {reader} if name_session(holder) != "scrip-worker"]
        await end_process(connection, reader)


@pytest.mark.parametrize(
    ("process", "setting", "code"),
    [
        ("api", "DATABASE_URL", "wrong_role"),
        ("worker", "DATABASE_URL", "wrong_role"),
        ("api", "REDIS_URL", "unavailable"),
        ("worker", "REDIS_URL", "unavailable"),
    ],
)
def test_the_login_of_the_other_process(run: Restricted, process: str, setting: str, code: str) -> None:
    """A process with the other's login ends with one line that names the setting."""
    other = {"api": "worker", "worker": "api"}[process]
    line = _line(process, **run.urls[process] | {setting: run.urls[other][setting]})
    assert line.startswith(f"Error: {code}: ")
    assert setting in line


@pytest.mark.parametrize("command", ["doctor", "reconcile"])
def test_the_worker_s_commands_with_the_api_s_login(run: Restricted, command: str) -> None:
    """A command that needs the worker's user of Redis says so."""
    env = {"DATABASE_URL": run.urls["worker"]["DATABASE_URL"], "REDIS_URL": run.urls["api"]["REDIS_URL"]}
    ended = scrip(command, **env)
    assert ended.exit_code == 2
    assert re.search("no permissions.*Log in as .* in REDIS_URL", " ".join(ended.output.split()))


async def test_the_doctor_s_advice_on_rights(run: Restricted) -> None:
    """A login that is right, but lacks a right, is not taken for a server that is away."""
    urls = run.urls["worker"]
    async with database(run.facts["databaseUrl"]) as connection:
        await connection.execute(f"CREATE ROLE stranger LOGIN PASSWORD '{PASSWORDS['worker']}'")
        try:
            cases = {
                "end REDIS_URL with /0": {"REDIS_URL": urls["REDIS_URL"].replace("/0", "/99")},
                "Log in as scrip_worker": {"DATABASE_URL": urls["DATABASE_URL"].replace("scrip_worker", "stranger")},
            }
            for advice, changed in cases.items():
                assert changed.items() - urls.items()
                ended = scrip("doctor", **urls | changed)
                assert ended.exit_code == 2
                assert advice in " ".join(ended.output.split())
                assert "Check that it runs" not in ended.output
        finally:
            await connection.execute("DROP ROLE stranger")


async def test_tls_and_passwords_are_checked(run: Restricted, tmp_path: Path) -> None:
    """Clients reject a server with another name, another authority's certificate, or no TLS; servers reject clients
    without the right password."""
    url, database = run.urls["api"]["REDIS_URL"], run.urls["api"]["DATABASE_URL"]
    (connection := await connect(url, "test")).close()
    assert connection is not None
    other = Authority(tmp_path / "other")
    plain = run.facts["redisUrl"].rpartition(":")[2].partition("/")[0]
    with door(other, int(plain)) as port:
        theirs = re.sub(r"localhost:\d+", f"localhost:{port}", url)
        for bad in (
            theirs,
            url.replace("localhost", "127.0.0.1"),
            url.partition("?")[0],
            url.replace(PASSWORDS["api"], "wrong"),
            re.sub(r"//[^@]+@", "//", url),
        ):
            with pytest.raises(OSError):  # noqa: PT011, of many kinds
                await connect(bad, "test")
    for bad in (
        database.replace("localhost", "127.0.0.1"),
        database.replace(PASSWORDS["api"], "wrong"),
        re.sub(r"sslrootcert=.*", f"sslrootcert={other.file}", database),
        database.partition("?")[0] + "?sslmode=disable",
    ):
        with pytest.raises((OSError, asyncpg.PostgresError)):
            await asyncpg.connect(bad, timeout=5)

"""`scrip doctor`: its checks of a healthy service, of each fault, and that it changes nothing."""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import asyncpg
import msgspec
import pytest

from service.engine.formats import key_names
from service.engine.record.partitions.failing_tasks import FailingTask
from service.engine.record.partitions.partition_rows import Partition, read_partitions
from service.engine.record.pool import Database
from service.engine.worker.partition_worker import CONNECTIONS
from service.server.doctor import checks, verdicts
from service.server.doctor.report import Check, Report
from service.server.in_postgres import report_rollups
from service.serving.connection_bound import bound_connections
from service.serving.wiring import MAX_CONNECTIONS
from tests.harness.commands import scrip, succeeded
from tests.harness.comparing import compare
from tests.harness.running import Run, data_folder
from tests.harness.servers import free_port
from tests.harness.service_fixture import Service, is_well, new_code, ok
from tests.harness.waiting import until, wait_until

_ROOT = Path(__file__).parents[3]
_NOWHERE = "127.0.0.1:1"
_READS = set(
    "client|setname info config|get eval exists get mget scan type xlen xrange xrevrange script|exists".split()
)
"""`eval`: a script that reads a key."""
_ONCE = (
    "settings,postgres,postgres logs,migrations,partitions,rights,months,locks,connections,client connections,archive,"
    "redis,durability,memory,replicas,computed keys,redis logs,clocks"
).split(",")
_EACH = "epoch lease quarantine recovery tasks drift gate scripts anchor outbox lag config types reports".split()
_EACH.insert(5, "set aside")


class Diagnosis(NamedTuple):
    """A doctor's exit code, its output, and its checks by name."""

    code: int
    text: str
    checks: dict[str, dict[str, Any]]

    def bad(self) -> set[str]:
        return {name for name, check in self.checks.items() if check["state"] == "bad"}


def _doctor(service: Service, **env: str) -> Diagnosis:
    done = scrip("doctor", "--json", **service.urls | env)
    assert "Traceback" not in done.output, done.output
    document = json.loads(done.stdout)
    return Diagnosis(done.exit_code, done.output, {check["name"]: check for check in document["checks"]})


@pytest.fixture(scope="module")
def patient() -> Iterator[Service]:
    with data_folder() as folder:
        service = Service(Run(folder / "data", free_port()).until_ready())
        yield service
        service.close()
        service.run.end()


@pytest.fixture(autouse=True)
def well(patient: Service) -> Iterator[None]:
    """Each test leaves the service well."""
    yield
    until(lambda: is_well(patient) and _doctor(patient).code == 0)


def test_all_is_well(patient: Service) -> None:
    """Of a healthy service every check is ok, in the JSON as in the table, and the exit code is 0."""
    report = until(lambda: None if (found := _doctor(patient)).bad() else found, "the end of the service's start")
    assert (report.code, list(report.checks)) == (0, _ONCE + _EACH)
    assert "Valkey 9" in report.checks["redis"]["says"]
    ((version,),) = asyncio.run(patient.fetch("SHOW server_version"))
    assert report.checks["postgres"]["says"].startswith(f"PostgreSQL {version.partition(' ')[0]} at ")
    assert "first start" in report.checks["recovery"]["says"]
    assert '"event": "rebuilding", "level": "warning"' not in patient.run.output.read_text()
    document = json.loads(report.text)
    assert (document["state"], document["unreachable"]) == ("ok", [])
    for check in document["checks"]:
        partition = 0 if check["name"] in _EACH else None
        assert check == {
            "name": check["name"],
            "state": "ok",
            "says": check["says"],
            "next": "",
            "partition": partition,
        }
    command, env = [sys.executable, "-m", "service", "doctor"], os.environ | patient.urls
    table = subprocess.run(command, cwd=_ROOT, env=env, capture_output=True, text=True, check=True).stdout
    assert [line.split("  ")[0].strip() for line in table.splitlines()] == ["ok"] * len(report.checks)


def test_a_slow_postgres(patient: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """Answers that take longer than the bound are a warning with their time."""
    monkeypatch.setattr(checks, "SLOW_S", 0.0)
    check = _doctor(patient).checks["postgres"]
    assert (check["state"], check["says"].endswith(" ms")) == ("warning", True)


def test_few_locks_a_transaction(patient: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """A Postgres whose transactions may have fewer locks than a query over many months needs is a warning."""
    monkeypatch.setattr(checks, "ENOUGH_LOCKS", 257)
    check = _doctor(patient).checks["locks"]
    assert (check["state"], check["next"].partition(" or more")[0]) == ("warning", "Set it to 257")


async def test_what_processes_store_of_themselves(patient: Service) -> None:
    """API and worker store their clocks and connections. One whose clock is wrong, or that may open more than Postgres
    has, or that accepts few clients, is a warning with its name."""

    async def are_described() -> bool:
        return await patient.fetch("SELECT FROM processes WHERE clock_ahead_s IS NULL OR connections IS NULL") == []

    await wait_until(are_described)
    rows = await patient.fetch("SELECT kind, connections, clients FROM processes ORDER BY kind")
    api, worker = map(tuple, rows)
    assert (api, worker) == (("api", MAX_CONNECTIONS, bound_connections()), ("worker", CONNECTIONS + 1, None))
    checks = _doctor(patient).checks
    assert "5 clocks differ by at most " in checks["clocks"]["says"]
    assert checks["connections"]["says"].endswith(f"may open {MAX_CONNECTIONS + CONNECTIONS + 1}")
    other = "'shop-9:4:ef', 'api', 'v1', number, clock_timestamp() + interval '1 minute', -7.5, 900, 824 FROM formats"
    columns = "id, kind, version, number, alive_until, clock_ahead_s, connections, clients"
    await patient.fetch(f"INSERT INTO processes ({columns}) SELECT {other}")
    report = _doctor(patient)
    await patient.fetch("DELETE FROM processes WHERE id = 'shop-9:4:ef'")
    warned = {name: check["says"] for name, check in report.checks.items() if check["state"] == "warning"}
    assert (report.code, warned.keys()) == (0, {"clocks", "connections", "client connections"})
    assert warned["clocks"].startswith("api shop-9:4:ef is 7.")
    assert "shop-9:4:ef accepts 824 of 10,000" in warned["client connections"]


def test_sentinels_that_are_away(patient: Service) -> None:
    """Sentinels of which none answers are bad, as is Redis, which none of them names."""
    report = _doctor(patient, REDIS_URL=f"redis+sentinel://{_NOWHERE},127.0.0.1:2/shop")
    assert (report.code, report.bad()) == (2, {"sentinels", "redis"})
    assert report.checks["sentinels"]["says"].startswith("0 of 2 answer; a failover needs 2 of 2; silent: ")


async def test_differences_that_are_left(patient: Service) -> None:
    """What the last comparison left is bad, until one leaves nothing."""
    succeeded(scrip("reconcile", **patient.urls))
    one = "workspace = (SELECT min(workspace) FROM reconciled)"
    assert await patient.fetch(f"UPDATE reconciled SET left_over = '{{\"orders\": 2}}' WHERE {one} RETURNING 1")
    report = _doctor(patient)
    assert report.bad() == {"drift"}
    assert report.checks["drift"]["says"] == "the last comparisons left differences: orders 2"
    succeeded(scrip("reconcile", **patient.urls))
    assert _doctor(patient).checks["drift"]["says"].startswith("none; ")


async def test_a_workspace_without_settings(patient: Service) -> None:
    """A workspace whose settings are missing in Redis is bad, until a repair writes them."""
    ((workspace, partition),) = await patient.fetch("SELECT workspace, partition FROM workspaces LIMIT 1")
    with patient.redis() as client:
        assert client.delete(key_names.settings(key_names.prefix(partition, workspace)))
    report = _doctor(patient)
    assert (report.bad(), "settings of 1 workspace," in report.checks["config"]["says"]) == ({"config"}, True)
    scrip("reconcile", "--repair", **patient.urls)
    assert _doctor(patient).checks["config"]["state"] == "ok"


async def test_reports_that_differ(patient: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """An hour of a book that differs from its facts is a warning, until `scrip reports --repair`; so is one that is
    missing. Hours with too many redemptions are left out."""
    succeeded(scrip("reports", "--repair", **patient.urls))
    codes = [new_code() for _ in range(3)]
    book = patient.book(*codes, maxRedemptionsPerCode=2)
    body = {"userId": "ann", "orderValue": 5}
    made = [ok(patient.checkout.post(f"/v1/coupons/redeem/{code}", json=body), 201) for code in (*codes, *codes)]
    ok(patient.manage.post(f"/v1/redemptions/{made[-1]['redemptionId']}/rollback", json={}))
    ok(patient.manage.get("/v1/reports/redemptions"))
    assert _doctor(patient).checks["reports"]["state"] == "ok"
    hour = f"step = 'hour' AND (workspace, book) IN (SELECT workspace, book FROM books WHERE book_id = '{book}')"
    for spoil in (
        "UPDATE report_sums SET order_value = order_value + 0.01",
        "UPDATE report_sums SET rolled_back = 0",
        "DELETE FROM report_sums",
    ):
        assert await patient.fetch(f"{spoil} WHERE {hour} RETURNING 1")
        check = _doctor(patient).checks["reports"]
        assert (check["state"], "1 differ from" in check["says"]) == ("warning", True)
        assert "scrip reports --repair" in check["next"]
        succeeded(scrip("reports", "--repair", **patient.urls))
        assert _doctor(patient).checks["reports"]["state"] == "ok"
    monkeypatch.setattr(report_rollups, "MOST_OF_HOUR", 0)
    assert _doctor(patient).checks["reports"]["says"].startswith("0 hours ")
    monkeypatch.setattr(checks, "REPORTS_S", -1.0)
    assert "not compared in time" in _doctor(patient).checks["reports"]["says"]


def test_a_running_service_is_examined(patient: Service) -> None:
    """Without URLs doctor and other commands use the `scrip run` of the data folder; without that, settings are bad."""
    urls = {"REDIS_URL": "", "DATABASE_URL": "", "SCRIP_DATA_DIR": str(patient.run.data_dir)}
    assert _doctor(patient, **urls).code == 0
    for words in ("workspaces list", "keys list demo", "reconcile", "rebuild --cancel", "migrate"):
        succeeded(scrip(*words.split(), **urls))
    urls["SCRIP_DATA_DIR"] += "/none"
    assert (
        "Start `scrip run`, set its SCRIP_DATA_DIR, or set DATABASE_URL" in scrip("workspaces", "list", **urls).stderr
    )
    report = _doctor(patient, **urls)
    assert (report.code, report.bad()) == (2, {"settings"})


async def test_it_changes_nothing(patient: Service) -> None:
    """The doctor sends Redis commands that read alone, and changes no key and no row of Postgres."""
    with patient.run.asleep("api", "worker"), patient.redis() as client:
        until(lambda: client.info("clients")["blocked_clients"] == 0)  # the worker's read
        redis_before, rows_before = _keys(client), await _rows(patient)
        client.config_resetstat()
        assert _doctor(patient).bad() <= {"lease"}  # it expires while the worker sleeps
        asked = {name.removeprefix("cmdstat_") for name in client.info("commandstats")}
        assert asked - {"config|resetstat"} <= _READS
        assert {"xrange", "script|exists"} <= asked
        assert _keys(client) == redis_before
        assert await _rows(patient) == rows_before


def _keys(client: Any) -> dict[str, Any]:
    """All keys of Redis that never expire: none changes while API and worker are stopped."""
    readers = {
        "string": client.get,
        "hash": client.hgetall,
        "zset": lambda name: client.zrange(name, 0, -1, withscores=True),
        "stream": client.xrange,
    }
    names = [name for name in client.scan_iter(count=1000) if client.ttl(name) == -1]
    return {name: readers[client.type(name)](name) for name in names}


async def _rows(service: Service) -> dict[str, list[str]]:
    tables = await service.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
    sequences = await service.fetch("SELECT sequencename, last_value::text FROM pg_sequences")
    rows = {name: [value] for name, value in sequences}
    for (name,) in tables:
        rows[name] = sorted(row[0] for row in await service.fetch(f'SELECT t::text FROM "{name}" t'))
    return rows


def test_an_emptied_redis(patient: Service) -> None:
    """With the worker stopped and Redis emptied, gate and anchor are bad, and the advice names the worker."""
    with patient.run.asleep("worker"):
        patient.redis().flushall()
        report = _doctor(patient)
        assert report.code == 1
        assert report.bad() == {"gate", "anchor"}
        assert "emptied" in report.checks["gate"]["says"]
        assert "worker" in report.checks["gate"]["next"]
    until(lambda: patient.redis().get("{p0}:gate"))
    until(lambda: is_well(patient))
    assert "whole" in _doctor(patient).checks["recovery"]["says"]


def test_gates(patient: Service) -> None:
    """Each text of the gate is explained, compared with Postgres's epoch."""
    with patient.redis() as client, patient.run.asleep("worker"):
        gate = client.get("{p0}:gate")
        epoch = int(gate.split()[0])
        for text, state, part in [
            (f"{epoch} closed", "bad", "recovering"),
            (f"{epoch} behind", "bad", "reads only"),
            (f"{epoch} full", "warning", "no locks"),
            (f"{epoch + 1} open", "bad", "Postgres is older"),
            (f"{epoch - 1} open", "bad", "not the one that was opened last"),
            ("nonsense", "bad", "never writes"),
        ]:
            client.set("{p0}:gate", text)
            check = _doctor(patient).checks["gate"]
            assert (check["state"], part in check["says"], check["next"] != "") == (state, True, True), check
        client.set("{p0}:gate", gate)


def test_an_opening_that_begins_meanwhile(patient: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """A gate whose epoch began after Postgres was read is not one of another Postgres."""
    looks: list[list[Partition]] = []

    async def read(database: Database) -> list[Partition]:
        rows = await read_partitions(database)
        looks.append(rows)
        return rows if len(looks) > 1 else [msgspec.structs.replace(row, epoch=row.epoch - 1) for row in rows]

    monkeypatch.setattr(checks, "read_partitions", read)
    assert _doctor(patient).checks["gate"]["state"] == "ok"
    assert len(looks) > 1


def test_a_redis_that_restarted(patient: Service) -> None:
    """Of a Redis without scripts that kept its data, scripts are bad alone."""
    with patient.run.asleep("worker"):
        patient.redis().script_flush()
        report = _doctor(patient)
        assert (report.code, report.bad()) == (1, {"scripts"})


def test_another_redis(patient: Service) -> None:
    """If the outbox's entry differs from the recorded one, the anchor is bad; no code is printed."""
    patient.book(code := new_code(), new_code())
    ok(patient.checkout.post(f"/v1/coupons/assign/{code}", json={"userId": "ann"}), 201)
    until(lambda: is_well(patient))
    with patient.redis() as client, patient.run.asleep("worker"):
        ((entry, fields),) = client.xrevrange("{p0}:outbox", count=1)
        kept = client.xrange("{p0}:outbox")
        client.delete("{p0}:outbox")
        other = {"e": fields["e"].replace("ann", "eve")}
        for at, had in kept:
            client.xadd("{p0}:outbox", other if at == entry else had, id=at)
        report = _doctor(patient)
        assert report.bad() == {"anchor"}
        assert "not the entry that was recorded" in report.checks["anchor"]["says"]
        assert code not in report.text


def test_keys_of_another_type(patient: Service) -> None:
    """A key of another type is bad, with the command that repairs it: of a coupon, and of the partition."""
    patient.book(code := new_code())
    ok(patient.checkout.post(f"/v1/coupons/assign/{code}", json={"userId": "ann"}), 201)
    until(lambda: is_well(patient))
    with patient.redis() as client:
        (record,) = client.keys(f"*:c:{code}")
        client.delete(record)
        client.lpush(record, "x")
        report = _doctor(patient)
        assert (report.code, report.bad(), code in report.text) == (1, {"types"}, False)
        assert "a list where c: is a string" in report.checks["types"]["says"]
        assert "scrip reconcile --repair" in report.checks["types"]["next"]
        assert compare(patient, repair=True)[0].differing == {"wrong_type": 1}
        assert _doctor(patient).code == 0
        with patient.run.asleep("worker"):
            client.delete("{p0}:outbox")
            client.set("{p0}:outbox", "x")
            report = _doctor(patient)
            assert (report.code, {"types", "anchor"} <= report.bad()) == (1, True)
            assert "outbox" in report.checks["types"]["says"]
    until(lambda: "whole" in _doctor(patient).checks["recovery"]["says"] and is_well(patient))


def test_a_stopped_worker(patient: Service) -> None:
    """With the worker stopped, lag and outbox count unrecorded events, and the lease ends."""
    patient.book(code := new_code(), new_code())
    with patient.run.asleep("worker"):
        ok(patient.checkout.post(f"/v1/coupons/assign/{code}", json={"userId": "ann"}), 201)
        report = _doctor(patient)
        assert "lag" in report.bad()
        assert "1 event not recorded" in report.checks["lag"]["says"]
        assert "1 of them unrecorded" in report.checks["outbox"]["says"]
        until(lambda: "lease" in _doctor(patient).bad())


async def test_an_event_in_quarantine(patient: Service) -> None:
    """A quarantined event is bad, with its id and reason but without its text."""
    code = new_code()
    with patient.redis() as client:
        epoch = client.get("{p0}:gate").split()[0]
        entry = client.xadd("{p0}:outbox", {"e": f"Z 1 1 {code} ann\n{{}}"}, id=f"{epoch}-*")
        until(lambda: "quarantine" in _doctor(patient).bad())
    report = _doctor(patient)
    assert (report.code, report.bad()) == (1, {"quarantine"})
    assert f"{entry} (MalformedEvent" in report.checks["quarantine"]["says"]
    assert code not in report.text
    for cause, says in (
        ("refused", "1 event that Postgres refused to record"),
        ("not_redone", "1 event that Redis could not apply again"),
        ("unrecorded", "1 event not recorded before Redis was rebuilt"),
    ):
        await patient.fetch("UPDATE quarantine SET cause = $1", cause)
        assert says in _doctor(patient).checks["quarantine"]["says"]
    await patient.fetch("DELETE FROM quarantine")


async def test_a_task_that_fails(patient: Service) -> None:
    """A failing task is bad, with number, time and reason; `/v1/ops/consistency` has the same."""
    await patient.fetch("INSERT INTO failing_tasks VALUES (0, 'erasing', 12, 'ScriptFailed look WRONGTYPE')")
    report = _doctor(patient)
    assert (report.code, report.bad()) == (1, {"tasks"})
    assert "erasing has failed 12 times since " in report.checks["tasks"]["says"]
    assert report.checks["tasks"]["says"].endswith("last because of ScriptFailed look WRONGTYPE")
    (failing,) = ok(patient.operate.get("/v1/ops/consistency"))["failing"]
    assert (failing["task"], failing["failures"], failing["reason"]) == ("erasing", 12, "ScriptFailed look WRONGTYPE")
    await patient.fetch("DELETE FROM failing_tasks")
    assert ok(patient.operate.get("/v1/ops/consistency"))["failing"] == []


async def test_a_thing_that_is_set_aside(patient: Service) -> None:
    """It is bad, with its workspace's name; `/v1/ops/consistency` shows it to this workspace alone."""
    insert = """INSERT INTO failing_tasks (partition, task, failures, reason, thing, workspace, next_try_at)
        VALUES ($1, 'retaining', 3, 'KeyError', 'book 7', $2, now() + interval '1 minute')"""
    await patient.fetch(insert, patient.partition, patient.number)
    await patient.fetch(insert.replace("book 7", "book 8"), patient.partition, 10**6)
    report = _doctor(patient)
    assert (report.code, report.bad()) == (1, {"set aside"})
    says = report.checks["set aside"]["says"]
    assert "2 things that failed" in says
    assert f"retaining, book 7 of {patient.workspace}: 3 times since " in says
    (failing,) = ok(patient.operate.get("/v1/ops/consistency"))["failing"]
    assert (failing["task"], failing["thing"], failing["failures"]) == ("retaining", "book 7", 3)
    await patient.fetch("DELETE FROM failing_tasks")


def test_the_advice_on_a_failing_opening() -> None:
    """While the opening fails, no check advises to wait for the worker."""
    at = datetime(2026, 11, 20, 10, tzinfo=UTC)
    checks = [Check("gate", "bad", "closed", verdicts._WAIT), Check("lag", "bad", "much", "See that a worker runs.")]
    other = FailingTask("erasing", 3, "ValueError", at)
    assert verdicts.replace_advice(checks, [other]) == checks
    opening = FailingTask("opening", 12, "ScriptFailed apply_events ERR", at)
    gate, lag = verdicts.replace_advice(checks, [other, opening])
    assert gate.next.startswith("Opening has failed 12 times since 2026-11-20 10:00:00 UTC, last because of ")
    assert "ScriptFailed apply_events ERR" in gate.next
    assert lag == checks[1]


async def test_a_month_without_tables(patient: Service) -> None:
    """A table that the next month lacks is a warning."""
    table = (datetime.now(UTC).replace(day=1) + timedelta(days=31)).strftime("stock_notices_%Y_%m")
    await patient.fetch(f"DROP TABLE {table}")
    try:
        report = _doctor(patient)
        assert (report.checks["months"]["state"], report.checks["months"]["says"]) == ("warning", f"missing: {table}")
    finally:
        await patient.fetch("SELECT ensure_fact_partitions(2)")


def test_the_replica_for_reads(patient: Service) -> None:
    """DATABASE_READ_URL must name the same data; a server that is away, or another database, is bad."""
    url = patient.urls["DATABASE_URL"]
    assert _doctor(patient, DATABASE_READ_URL=url).checks["read replica"]["state"] == "ok"
    away = f"postgresql://scrip:hunter2@{_NOWHERE}/scrip"
    other = url.replace("/postgres?", "/template1?")
    for bad, says in ((away, "unreachable"), (other, "no copy")):
        report = _doctor(patient, DATABASE_READ_URL=bad)
        assert (report.code, report.bad()) == (1, {"read replica"})
        assert says in report.checks["read replica"]["says"]
        assert "hunter" not in report.text


@pytest.mark.parametrize(
    ("setting", "url", "bad"),
    [
        ("DATABASE_URL", f"postgresql://scrip:hunter2@{_NOWHERE}/scrip?password=hunter3", "postgres"),
        ("REDIS_URL", f"redis://scrip:hunter2@{_NOWHERE}/0", "redis"),
        ("REDIS_URL", "redis://nobody:hunter2@{redis}", "redis"),
    ],
    ids=["no Postgres there", "no Redis there", "unknown user of Redis"],
)
def test_servers_that_are_away(patient: Service, setting: str, url: str, bad: str) -> None:
    """The other server is examined, the one that is away is named without its password, and the exit code is 2."""
    redis = patient.run.facts["redisUrl"].removeprefix("redis://")
    report = _doctor(patient, **{setting: url.replace("{redis}", redis)})
    assert (report.code, report.bad()) == (2, {bad})
    others = {"redis"} if bad == "postgres" else {"epoch", "lease", "quarantine"}
    assert {report.checks[name]["state"] for name in others} == {"ok"}
    assert "hunter" not in report.text


async def test_migrations_that_are_missing(
    patient: Service, new_database: Callable[..., Awaitable[str]], template: str
) -> None:
    """Missing and changed migrations are named, and the tables are not read."""
    url = await new_database(template)
    connection = await asyncpg.connect(url)
    name = await connection.fetchval(
        "DELETE FROM migrations WHERE number = (SELECT max(number) FROM migrations) RETURNING name"
    )
    report = _doctor(patient, DATABASE_URL=url)
    assert (report.code, report.bad()) == (1, {"migrations"})
    assert report.checks["migrations"]["says"] == f"missing: {name}"
    assert report.checks["migrations"]["next"] == "Run `scrip migrate`."
    await connection.execute("UPDATE migrations SET sha256 = 'x' WHERE number = 1")
    await connection.close()
    assert "made from another file" in _doctor(patient, DATABASE_URL=url).checks["migrations"]["says"]
    report = _doctor(patient, DATABASE_URL=await new_database())
    assert (report.code, report.bad()) == (1, {"migrations"})
    assert "0001_partitions" in report.checks["migrations"]["says"]


def test_settings_that_do_not_fit(patient: Service) -> None:
    """Settings that can't be used are bad."""
    wrong = {"SCRIP_PORT": "0", "SCRIP_STANDBYS": "none", "REDIS_URL": "redis://:hunter2@127.0.0.1:hunter3/0"}
    report = _doctor(patient, **wrong)
    assert (report.code, report.bad()) == (2, {"settings"})
    assert all(name in report.text for name in wrong)
    assert "hunter" not in report.text


async def test_servers_that_are_unfit(patient: Service) -> None:
    """Unsafe settings of Redis and Postgres are bad, with the setting to change; less durable ones are a warning."""
    with patient.redis() as client:
        limit = client.config_get("maxmemory")["maxmemory"]
        client.config_set("maxmemory", "1gb")
        client.config_set("maxmemory-policy", "allkeys-lru")
        until(lambda: client.get("{p0}:gate").endswith("closed"))
        report = _doctor(patient)
        assert {"redis", "gate"} <= report.bad()
        assert "noeviction" in report.checks["redis"]["next"]
        client.config_set("maxmemory-policy", "noeviction")
        until(lambda: is_well(patient))  # until then a worker writes, and memory grows
        client.config_set("maxmemory", str(int(client.info("memory")["used_memory"] * 1.15)))
        assert _doctor(patient).checks["memory"]["state"] == "warning"
        client.config_set("maxmemory", "0")
        memory = _doctor(patient).checks["memory"]
        assert (memory["state"], "no limit" in memory["says"]) == ("warning", True)
        client.config_set("maxmemory", limit)
        client.config_set("appendfsync", "everysec")
        assert _doctor(patient).checks["durability"]["state"] == "warning"
        client.config_set("appendfsync", "always")
    await patient.fetch("ALTER SYSTEM SET full_page_writes = off")
    await patient.fetch("SELECT pg_reload_conf()")
    until(lambda: "postgres" in _doctor(patient).bad())
    assert "full_page_writes" in _doctor(patient).checks["postgres"]["next"]
    await patient.fetch("ALTER SYSTEM RESET full_page_writes")
    await patient.fetch("SELECT pg_reload_conf()")
    until(lambda: "postgres" not in _doctor(patient).bad())


def test_a_table_of_many_partitions() -> None:
    """The table has one line for each finding that is not ok, and none for the others; the JSON has all."""
    checks = [Check("settings", "ok", "")] + [
        Check("gate", "bad" if p == 3 else "ok", "x", partition=p) for p in range(9)
    ]
    report = Report(checks)
    assert [line.split() for line in report.render_table().splitlines()] == [
        ["ok", "settings"],
        ["bad", "p3", "gate", "x"],
        "ok all checks of 8 other partitions".split(),
    ]
    assert len(json.loads(report.render_json())["checks"]) == 10
    assert "all checks" not in msgspec.structs.replace(report, unreachable=["redis"]).render_table()
    many = [Check("gate", "bad" if p != 3 else "warning", f"epoch {p + 1}", partition=p) for p in range(9)]
    many += [Check("gate", "bad", "missing", partition=p) for p in range(2)]
    assert [line.split() for line in Report(many).render_table().splitlines()] == [
        "bad p0, p1, p2 and 5 more gate epoch 1".split(),
        "warning p3 gate epoch 4".split(),
        "bad p0, p1 gate missing".split(),
    ]
    assert Report([Check("gate", "ok", "x", partition=p) for p in range(9)]).render_table().endswith("of 9 partitions")
    assert (report.exit_code, Report(checks, ["redis"]).exit_code, Report(checks[:3]).exit_code) == (1, 2, 0)

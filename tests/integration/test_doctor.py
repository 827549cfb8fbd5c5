"""`scrip doctor`: what it says of a service that is well and of what is wrong; and that it changes nothing."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import asyncpg
import pytest

from loadtests.harness.running import Run, data_folder
from loadtests.harness.servers import free_port
from service.doctor import verdicts
from service.doctor.report import Check, Report
from service.record.partitions.failing_tasks import Failing
from tests.commands import scrip
from tests.drifts.comparing import compare
from tests.service_fixture import Service, new_code, ok, until

_ROOT = Path(__file__).parents[2]
_NOWHERE = f"127.0.0.1:{free_port()}"
_READS = set("client|setname info config|get get mget scan type xlen xrange xrevrange script|exists".split())
_EVERYWHERE = "settings,postgres,postgres logs,migrations,partitions,redis,durability,memory,replicas,redis logs".split(
    ","
)
_EACH = "epoch lease quarantine recovery tasks gate scripts anchor outbox lag config types".split()


class Said(NamedTuple):
    """What a doctor said: its exit code, its output, and its checks by name."""

    code: int
    text: str
    checks: dict[str, dict[str, Any]]

    def bad(self) -> set[str]:
        """The names of what is bad."""
        return {name for name, check in self.checks.items() if check["state"] == "bad"}


def _urls(service: Service) -> dict[str, str]:
    facts = service.run.facts
    return {"REDIS_URL": facts["redisUrl"], "DATABASE_URL": facts["databaseUrl"]}


def _doctor(service: Service, **env: str) -> Said:
    done = scrip("doctor", "--json", **_urls(service) | env)
    assert "Traceback" not in done.output, done.output
    report = json.loads(done.stdout)
    return Said(done.exit_code, done.output, {check["name"]: check for check in report["checks"]})


@pytest.fixture(scope="module")
def patient() -> Iterator[Service]:
    """The service that is examined here; each test leaves it whole."""
    with data_folder() as folder:
        service = Service(Run(folder / "data", free_port()).until_ready())
        yield service
        service.close()
        service.run.end()


@pytest.fixture(autouse=True)
def well(patient: Service) -> Iterator[None]:
    """Each test leaves the service well."""
    yield
    until(lambda: _settled(patient) and _doctor(patient).code == 0)


def _settled(service: Service) -> bool:
    if not service.run.ready():
        return False
    told = ok(service.operate.get("/v1/ops/consistency"))
    return (told["state"], told["lagEvents"]) == ("open", 0)


@contextmanager
def _asleep(service: Service, *parts: str) -> Iterator[None]:
    """Stop processes, for so long."""
    pids = [pid for part in parts for pid in service.run.facts["pids"][part]]
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


def test_all_is_well(patient: Service) -> None:
    """Every check is there and ok, in the JSON as in the table, and it ends with 0."""
    said = _doctor(patient)
    assert (said.code, list(said.checks)) == (0, _EVERYWHERE + _EACH)
    assert {check["state"] for check in said.checks.values()} == {"ok"}
    assert {check["next"] for check in said.checks.values()} == {""}
    report = json.loads(scrip("doctor", "--json", **_urls(patient)).stdout)
    assert {name: report[name] for name in ("state", "unreachable")} == {"state": "ok", "unreachable": []}
    for check in report["checks"]:
        assert set(check) == {"name", "state", "says", "next", "partition"}
        assert check["partition"] == (0 if check["name"] in _EACH else None)
    command, env = [sys.executable, "-m", "service", "doctor"], os.environ | _urls(patient)
    table = subprocess.run(command, cwd=_ROOT, env=env, capture_output=True, text=True, check=False)
    assert table.returncode == 0
    lines = table.stdout.splitlines()
    assert [line.split("  ")[0].strip() for line in lines] == ["ok"] * len(said.checks)
    assert "Valkey 9" in said.checks["redis"]["says"]
    assert "PostgreSQL 18" in said.checks["postgres"]["says"]


def test_a_running_service_is_found(patient: Service) -> None:
    """Without URLs it examines the `scrip run` of the data folder; without that, it says what is missing."""
    urls = {"REDIS_URL": "", "DATABASE_URL": ""}
    assert _doctor(patient, **urls, SCRIP_DATA_DIR=str(patient.run.data_dir)).code == 0
    said = _doctor(patient, **urls, SCRIP_DATA_DIR=str(patient.run.data_dir / "none"))
    assert (said.code, said.bad()) == (1, {"settings"})


async def test_it_changes_nothing(patient: Service) -> None:
    """While nobody else is at work, Redis gets nothing but commands that read, and every row of Postgres stays."""
    with _asleep(patient, "api", "worker"), patient.redis() as client:
        until(lambda: client.info("clients")["blocked_clients"] == 0)  # the worker's read
        redis_before, rows_before = patient.held(), await _rows(patient)
        client.config_resetstat()
        assert _doctor(patient).code == 0
        asked = {name.removeprefix("cmdstat_") for name in client.info("commandstats")}
        assert asked - {"config|resetstat"} <= _READS
        assert {"xrange", "script|exists"} <= asked
        assert patient.held() == redis_before
        assert await _rows(patient) == rows_before


async def _rows(service: Service) -> dict[str, list[str]]:
    tables = await service.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
    sequences = await service.fetch("SELECT sequencename, last_value::text FROM pg_sequences")
    found = {name: [value] for name, value in sequences}
    for (name,) in tables:
        found[name] = sorted(row[0] for row in await service.fetch(f'SELECT t::text FROM "{name}" t'))
    return found


def test_an_emptied_redis(patient: Service) -> None:
    """With the worker asleep and Redis emptied, gate and anchor are gone, and it says who mends that."""
    with _asleep(patient, "worker"):
        patient.redis().flushall()
        said = _doctor(patient)
        assert said.code == 1
        assert said.bad() == {"gate", "anchor"}
        assert "emptied" in said.checks["gate"]["says"]
        assert "worker" in said.checks["gate"]["next"]
    until(lambda: patient.redis().get("{p0}:gate"))
    until(lambda: _settled(patient))
    assert "whole" in _doctor(patient).checks["recovery"]["says"]


def test_gates(patient: Service) -> None:
    """Each text of the gate is said in words, beside Postgres's epoch."""
    with patient.redis() as client, _asleep(patient, "worker"):
        gate = client.get("{p0}:gate")
        epoch = int(gate.split()[0])
        for text, state, words in [
            (f"{epoch} closed", "bad", "recovering"),
            (f"{epoch} behind", "bad", "reads only"),
            (f"{epoch} full", "warning", "no locks"),
            (f"{epoch + 1} open", "bad", "Postgres is older"),
            (f"{epoch - 1} open", "bad", "not the one that was opened last"),
            ("nonsense", "bad", "never writes"),
        ]:
            client.set("{p0}:gate", text)
            check = _doctor(patient).checks["gate"]
            assert (check["state"], words in check["says"], check["next"] != "") == (state, True, True), check
        client.set("{p0}:gate", gate)


def test_a_redis_that_restarted(patient: Service) -> None:
    """A Redis that forgot the scripts is told from one that lost its data."""
    with _asleep(patient, "worker"):
        patient.redis().script_flush()
        said = _doctor(patient)
        assert (said.code, said.bad()) == (1, {"scripts"})


def test_another_redis(patient: Service) -> None:
    """An entry that is not the recorded one, byte for byte, is no anchor."""
    patient.book(code := new_code(), new_code())
    ok(patient.checkout.post(f"/v1/coupons/assign/{code}", json={"userId": "ann"}), 201)
    until(lambda: _settled(patient))
    with patient.redis() as client, _asleep(patient, "worker"):
        ((entry, fields),) = client.xrevrange("{p0}:outbox", count=1)
        kept = client.xrange("{p0}:outbox")
        client.delete("{p0}:outbox")
        other = fields | {"d": fields["d"].replace("ann", "eve")}
        for at, had in kept:
            client.xadd("{p0}:outbox", other if at == entry else had, id=at)
        said = _doctor(patient)
        assert said.bad() == {"anchor"}
        assert "not the entry that was recorded" in said.checks["anchor"]["says"]
        assert code not in said.text


def test_keys_of_another_type(patient: Service) -> None:
    """A record that is a list is a fault, and it says what sets it right; so is a mark of the partition's own."""
    patient.book(code := new_code())
    ok(patient.checkout.post(f"/v1/coupons/assign/{code}", json={"userId": "ann"}), 201)
    until(lambda: _settled(patient))
    with patient.redis() as client:
        (record,) = client.keys(f"*:c:{code}")
        client.delete(record)
        client.lpush(record, "x")
        said = _doctor(patient)
        assert (said.code, said.bad(), code in said.text) == (1, {"types"}, False)
        assert "a list where c: is a string" in said.checks["types"]["says"]
        assert "scrip reconcile --repair" in said.checks["types"]["next"]
        assert compare(patient, repair=True)[0].found == {"wrong_type": 1}
        assert _doctor(patient).code == 0
        with _asleep(patient, "worker"):
            client.delete("{p0}:outbox")
            client.set("{p0}:outbox", "x")
            said = _doctor(patient)
            assert (said.code, {"types", "anchor"} <= said.bad()) == (1, True)
            assert "outbox" in said.checks["types"]["says"]
    until(lambda: "whole" in _doctor(patient).checks["recovery"]["says"] and _settled(patient))


def test_a_worker_that_stands_still(patient: Service) -> None:
    """What nobody records is counted, and after its time the lease is said to be over."""
    patient.book(code := new_code(), new_code())
    with _asleep(patient, "worker"):
        ok(patient.checkout.post(f"/v1/coupons/assign/{code}", json={"userId": "ann"}), 201)
        said = _doctor(patient)
        assert "lag" in said.bad()
        assert "1 events wait" in said.checks["lag"]["says"]
        assert "1 of them unrecorded" in said.checks["outbox"]["says"]
        until(lambda: "lease" in _doctor(patient).bad())


async def test_an_event_in_quarantine(patient: Service) -> None:
    """Its id and the reason are said, and not what it says; so is what was set aside."""
    code = new_code()
    with patient.redis() as client:
        epoch = client.get("{p0}:gate").split()[0]
        entry = client.xadd("{p0}:outbox", {"d": f"Z 1 1 {code} ann", "r": "{}"}, id=f"{epoch}-*")
        until(lambda: "quarantine" in _doctor(patient).bad())
    said = _doctor(patient)
    assert (said.code, said.bad()) == (1, {"quarantine"})
    assert f"{entry} (MalformedEvent" in said.checks["quarantine"]["says"]
    assert code not in said.text
    await patient.fetch("UPDATE quarantine SET reason = 'lost with its Redis: never recorded'")
    said = _doctor(patient)
    assert (said.code, said.checks["set aside"]["state"]) == (0, "warning")
    await patient.fetch("DELETE FROM quarantine")


async def test_a_task_that_fails(patient: Service) -> None:
    """How often it failed, since when and why is said, by the doctor and by the consistency of a workspace."""
    await patient.fetch("INSERT INTO failing_tasks VALUES (0, 'erasing', 12, 'ScriptFailed look WRONGTYPE')")
    said = _doctor(patient)
    assert (said.code, said.bad()) == (1, {"tasks"})
    assert "erasing has failed 12 times since " in said.checks["tasks"]["says"]
    assert said.checks["tasks"]["says"].endswith("last because of ScriptFailed look WRONGTYPE")
    (told,) = ok(patient.operate.get("/v1/ops/consistency"))["failing"]
    assert (told["task"], told["failures"], told["reason"]) == ("erasing", 12, "ScriptFailed look WRONGTYPE")
    await patient.fetch("DELETE FROM failing_tasks")
    assert ok(patient.operate.get("/v1/ops/consistency"))["failing"] == []


def test_an_opening_that_fails_is_not_said_to_mend_itself() -> None:
    """Where the opening fails, no check says that a worker opens the partition by itself."""
    at = datetime(2026, 11, 20, 10, tzinfo=UTC)
    checks = [Check("gate", "bad", "closed", verdicts._WAIT), Check("lag", "bad", "much", "See that a worker runs.")]
    other = Failing("erasing", 3, "ValueError", at, at)
    assert verdicts.replace_advice(checks, [other]) == checks
    gate, lag = verdicts.replace_advice(checks, [other, Failing("opening", 12, "ScriptFailed redo ERR", at, at)])
    assert gate.next.startswith("Opening has failed 12 times since 2026-11-20 10:00:00 UTC, last because of ")
    assert "ScriptFailed redo ERR" in gate.next
    assert lag == checks[1]


def test_servers_that_are_away(patient: Service) -> None:
    """What can be asked is asked, the other is named without its password, and it ends with 2."""
    said = _doctor(patient, DATABASE_URL=f"postgresql://scrip:hunter2@{_NOWHERE}/scrip?password=hunter3")
    assert (said.code, said.bad()) == (2, {"postgres"})
    assert said.checks["redis"]["state"] == "ok"
    assert "hunter" not in said.text
    said = _doctor(patient, REDIS_URL=f"redis://scrip:hunter2@{_NOWHERE}/0")
    assert (said.code, said.bad()) == (2, {"redis"})
    assert {"epoch", "lease", "quarantine"} < set(said.checks)
    assert "hunter" not in said.text
    wrong = patient.run.facts["redisUrl"].replace("://", "://nobody:hunter2@")
    said = _doctor(patient, REDIS_URL=wrong)
    assert (said.code, said.bad()) == (2, {"redis"})
    assert "hunter" not in said.text
    said = _doctor(patient, REDIS_URL="redis://:hunter2@127.0.0.1:hunter3/0")
    assert (said.code, said.bad()) == (2, {"redis"})
    assert "hunter" not in said.text


async def test_migrations_that_are_missing(
    patient: Service, new_database: Callable[..., Awaitable[str]], template: str
) -> None:
    """They are named, and the rest of the schema is not asked."""
    url = await new_database(template)
    connection = await asyncpg.connect(url)
    name = await connection.fetchval(
        "DELETE FROM migrations WHERE number = (SELECT max(number) FROM migrations) RETURNING name"
    )
    said = _doctor(patient, DATABASE_URL=url)
    assert (said.code, said.bad()) == (1, {"migrations"})
    assert said.checks["migrations"]["says"] == f"missing: {name}"
    assert said.checks["migrations"]["next"] == "Run `scrip migrate`."
    await connection.execute("UPDATE migrations SET sha256 = 'x' WHERE number = 1")
    await connection.close()
    assert "made from another file" in _doctor(patient, DATABASE_URL=url).checks["migrations"]["says"]
    assert "0001_partitions" in _doctor(patient, DATABASE_URL=await new_database()).checks["migrations"]["says"]


def test_settings_that_do_not_fit(patient: Service) -> None:
    """Another number of partitions than the database's, and settings that can't be used."""
    said = _doctor(patient, SCRIP_PARTITIONS="2")
    assert (said.code, said.bad()) == (2, {"partitions"})
    assert said.checks["partitions"]["says"].startswith("wrong_partitions: ")
    assert "SCRIP_PARTITIONS=1" in said.checks["partitions"]["next"]
    said = _doctor(patient, SCRIP_PORT="0", SCRIP_PARTITIONS="none")
    assert (said.code, said.bad()) == (1, {"settings"})
    assert "SCRIP_PORT" in said.text
    assert "SCRIP_PARTITIONS" in said.text


async def test_servers_that_are_unfit(patient: Service) -> None:
    """What they must be set to is said, and what an answer promises."""
    with patient.redis() as client:
        client.config_set("maxmemory", "1gb")
        client.config_set("maxmemory-policy", "allkeys-lru")
        until(lambda: client.get("{p0}:gate").endswith("closed"))
        said = _doctor(patient)
        assert {"redis", "gate"} <= said.bad()
        assert "noeviction" in said.checks["redis"]["next"]
        client.config_set("maxmemory-policy", "noeviction")
        until(lambda: _settled(patient))  # until then a worker writes, and memory grows
        client.config_set("maxmemory", str(int(client.info("memory")["used_memory"] * 1.15)))
        assert _doctor(patient).checks["memory"]["state"] == "warning"
        client.config_set("maxmemory", "0")
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
    """Only what is not in order is shown of each; the JSON has everything."""
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
    assert (report.exit_code, Report(checks, ["redis"]).exit_code, Report(checks[:3]).exit_code) == (1, 2, 0)

"""Failures of real processes, which Prometheus watches with the shipped rules, and of which Alertmanager sends what the
shipped routes send: which page or ticket comes, and when.

It prints for each failure how long its page or ticket took, which others came, and how long until its alert had ended.
It needs Debian's `prometheus` and `prometheus-alertmanager`; for a disk that is nearly full also
`prometheus-node-exporter`, and the right to mount. A failure takes a minute to forty: the rules wait before they wake
anybody."""

import argparse
import asyncio
import contextlib
import os
import re
import shutil
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import asyncpg
import httpx
from redis.asyncio import Redis

from loadtests import generator
from service.engine.formats import key_names
from service.engine.record.partitions.partition_rows import read_partitions
from tests.harness.running import HOME, data_folder
from tests.harness.tls import Authority, door
from tests.harness.waiting import cancel, elapse
from tests.lab.faults import burning, filling
from tests.lab.faults.deployment import Process
from tests.lab.faults.disk import Clock
from tests.lab.faults.nodes import wait_until
from tests.lab.faults.process_faults import REDEEM_AGAIN
from tests.lab.faults.proxy import Forwarder
from tests.lab.faults.restore_faults import until_trimmed
from tests.lab.faults.server_faults import filled
from tests.lab.faults.upgrading import make_next_version
from tests.lab.faults.watched import ALERTMANAGER, Plant, Undo, Watched, send_often

CALM_S = 60
"""Before a failure, and after its alert has come: no other one may come."""
PATIENCE_S = 2400

_WAITING = """CREATE OR REPLACE FUNCTION waiting() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN {} RETURN NEW; END $$"""
_LOSE_ONE = """DELETE FROM redemptions WHERE redemption_id =
(SELECT redemption_id FROM redemptions JOIN workspaces USING (workspace) WHERE name = 'drill' LIMIT 1)"""
_BOOK_FOR_SALE = """SELECT book_id FROM books JOIN workspaces USING (workspace)
WHERE workspaces.name = 'drill' AND books.name = 'Sale'"""
_SWITCH = "SELECT pg_switch_wal() FROM pg_logical_emit_message(true, 'lab', 'a segment that is not empty')"
_ARCHIVES = "SELECT last_archived_time IS NOT NULL FROM (SELECT pg_switch_wal()) AS s, pg_stat_archiver"
_SESSIONS = """SELECT (SELECT count(*) FROM pg_stat_activity WHERE datid IS NOT NULL AND usesysid IS NOT NULL)::int,
current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int"""


def _memory(share: float) -> Plant:
    """Redis uses this share of its memory; 0: it has no limit."""

    async def plant(deployment: Watched) -> Undo:
        client = deployment.primary.client
        before = (await client.config_get("maxmemory"))["maxmemory"]
        await client.setrange("ballast", 64 << 20, "x")  # then what others write is a small share
        used = (await client.info("memory"))["used_memory"]
        await client.config_set("maxmemory", int(used / share) if share else 0)

        async def make_room() -> None:
            await client.config_set("maxmemory", str(before))
            await client.delete("ballast")

        return make_room

    return plant


async def _redis_gone(deployment: Watched) -> Undo:
    await deployment.primary.kill()
    return deployment.heal


def _workers_dead(first: int) -> Plant:
    """Kill the workers from this one on."""

    async def plant(deployment: Watched) -> Undo:
        killed = deployment.workers[first:]
        for worker in killed:
            await worker.signal(signal.SIGKILL)

        async def start() -> None:
            for worker in killed:
                worker.start()

        return start

    return plant


def _apis_dead(first: int) -> Plant:
    """Kill the APIs from this one on."""

    async def plant(deployment: Watched) -> Undo:
        killed = deployment.apis[first:]
        for api in killed:
            await api.signal(signal.SIGKILL)

        async def start() -> None:
            for api in killed:
                api.start()

        return start

    return plant


async def _worker_stuck(deployment: Watched) -> Undo:
    await deployment.workers[1].signal(signal.SIGSTOP)
    return partial(deployment.workers[1].signal, signal.SIGCONT)


async def _postgres_slow(deployment: Watched) -> Undo:
    deployment.database.front.delay_s = 1.2
    return deployment.heal


async def _partition_slow(deployment: Watched) -> Undo:
    """What records one partition waits: Postgres needs half a second for each redemption of its workspace."""
    workspace = await deployment.pool.fetchval("SELECT workspace FROM workspaces WHERE name = 'drill'")
    slow = f"IF NEW.workspace = '{workspace}' THEN PERFORM pg_sleep(0.5); END IF;"
    await deployment.pool.execute(_WAITING.format(slow))
    await deployment.pool.execute(
        "CREATE TRIGGER waiting BEFORE INSERT ON redemptions FOR EACH ROW EXECUTE FUNCTION waiting()"
    )
    return partial(deployment.pool.execute, _WAITING.format(""))


async def _postgres_gone(deployment: Watched) -> Undo:
    await deployment.database.kill()
    return deployment.heal


async def _each_killed(deployment: Watched) -> Undo:
    """A worker, an API, Postgres and Redis are killed, and start at once, as by a supervisor: nobody must be woken."""
    for process in (deployment.workers[0], deployment.apis[0]):
        await process.signal(signal.SIGKILL)
        process.start()
        await elapse(CALM_S, "each by itself")
    await deployment.database.kill()
    await deployment.database.start_again()
    await elapse(CALM_S, "each by itself")
    await deployment.primary.kill()
    await deployment.primary.start()
    return _nothing


async def _ordinary(deployment: Watched) -> Undo:
    """Half an hour of work that wakes nobody: an upgrade with a migration, process by process; a failover by sentinels,
    whose old primary comes back; a rebuild of a partition. Each under load."""
    ends = time.monotonic() + 25 * 60
    new = make_next_version(deployment.folder / "next")
    await deployment.command("migrate", tree=new)
    for old in deployment.processes:
        process, url = deployment.start_beside(old, new)
        if url:
            await wait_until(partial(_is_ready, url), "the new API")
            deployment.urls[deployment.apis.index(old)] = url
        await elapse(CALM_S, "the new process takes over")
        await deployment.end_replaced(old, process)
        await deployment.forget(old)
    await elapse(CALM_S, "each by itself")
    epoch = (await deployment.row()).epoch
    await deployment.primary.kill()
    await deployment.until_replaced()
    await deployment.until_reopened(epoch)
    await elapse(CALM_S, "a primary that is started again")
    await deployment.heal()
    await elapse(CALM_S, "each by itself")
    await deployment.command("rebuild", "--partition", str(HOME), tree=new)
    await elapse(ends - time.monotonic(), "no alert may come")
    return _nothing


async def _is_ready(address: str) -> bool:
    async with httpx.AsyncClient(verify=False) as client:
        return (await client.get(f"{address}/health/ready")).json().get("failing") == []


async def _nothing() -> None:
    """It has ended by itself."""


def _archive(command: str) -> Plant:
    """Postgres archives by this command, which may end with a file, after one that works."""

    async def plant(deployment: Watched) -> Undo:
        stays = deployment.folder / "record" / "stays"
        stays.touch()
        await _archive_by(deployment, "true", archive_mode="on")
        await deployment.database.kill()
        await deployment.database.start_again()
        await wait_until(partial(deployment.pool.fetchval, _ARCHIVES), "a segment in the archive")
        await _archive_by(deployment, command.format(stays))
        for _ in range(2):
            await deployment.pool.fetchval(_SWITCH)

        async def repair() -> None:
            stays.unlink()
            await _archive_by(deployment, "true")

        return repair

    return plant


async def _archive_by(deployment: Watched, command: str, **more: str) -> None:
    connection = await asyncpg.connect(deployment.database.url)
    for name, value in {"archive_command": command, **more}.items():
        await connection.execute(f"ALTER SYSTEM SET {name} = '{value}'")
    await connection.execute("SELECT pg_reload_conf()")
    await connection.close()


def _connections(share: float) -> Plant:
    """This share of Postgres's connections is in use."""

    async def plant(deployment: Watched) -> Undo:
        used, most = await deployment.pool.fetchrow(_SESSIONS)
        opened = [await asyncpg.connect(deployment.database.url) for _ in range(int(most * share) + 1 - used)]

        async def close() -> None:
            for connection in opened:
                await connection.close()

        return close

    return plant


async def _replica_gone(deployment: Watched) -> Undo:
    await deployment.replica.kill()
    return deployment.heal


def _sentinels_hang(many: int) -> Plant:
    async def plant(deployment: Watched) -> Undo:
        pids: list[int] = []
        for host in deployment.named.partition("//")[2].partition("/")[0].split(",")[:many]:
            async with Redis(port=int(host.rpartition(":")[2]), decode_responses=True) as sentinel:
                pids.append((await sentinel.info("server"))["process_id"])
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)

        async def go_on() -> None:
            for pid in pids:
                os.kill(pid, signal.SIGCONT)

        return go_on

    return plant


async def _redis_refuses(deployment: Watched) -> Undo:
    """Redis's user may no longer append to the outbox."""
    await deployment.primary.client.execute_command("ACL", "SETUSER", "default", "-xadd")
    return partial(deployment.primary.client.execute_command, "ACL", "SETUSER", "default", "+@all")


async def _redis_slow(deployment: Watched) -> Undo:
    for front in (deployment.front, deployment.side):
        front.delay_s = 0.3
    return deployment.heal


async def _redis_cannot_save(deployment: Watched) -> Undo:
    """A folder stands where Redis puts its snapshot."""
    client, obstacle = deployment.primary.client, deployment.primary.folder / "dump.rdb"
    obstacle.mkdir()
    await client.bgsave()

    async def remove() -> None:
        obstacle.rmdir()
        await client.bgsave()

    return remove


async def _low_stock(deployment: Watched) -> Undo:
    """A book with a threshold of five codes has four left."""
    book = (await deployment.make("/v1/books", {"name": "Low", "lowStockThreshold": 5}))["bookId"]
    await deployment.ask("POST", f"/v1/books/{book}/codes", {"codes": [f"LOW-{number}" for number in range(5)]})
    await deployment.make("/v1/coupons/assign", {"bookId": book, "userId": "ann"})
    return partial(deployment.ask, "PATCH", f"/v1/books/{book}", {"status": "inactive"})


async def _book_unreadable(deployment: Watched) -> Undo:
    """A book has a discount that no worker of this version can read."""
    book = (await deployment.make("/v1/books", {"name": "Odd"}))["bookId"]
    change = "UPDATE books SET discount = $2 WHERE book_id = $1"
    await deployment.pool.execute(change, book, '{"type": "of a later version"}')
    await deployment.command("rebuild", "--partition", str(HOME))
    return partial(deployment.pool.execute, change, book, None)


async def _postgres_older(deployment: Watched) -> Undo:
    await deployment.database.back_up()
    await until_trimmed(deployment, PATIENCE_S)  # a worker keeps entries for two minutes
    await deployment.database.restore()
    return deployment.database.restore  # the newer one


async def _drift(deployment: Watched) -> Undo:
    await deployment.pool.execute(_LOSE_ONE)
    await deployment.ask("POST", "/v1/ops/reconcile", {"repair": False})
    return partial(deployment.ask, "POST", "/v1/ops/reconcile", {"repair": True})


async def _quarantined(deployment: Watched) -> Undo:
    following = f"{(await deployment.row()).epoch}-*"
    outbox = key_names.outbox(HOME)
    await deployment.primary.client.execute_command("XADD", outbox, "NOMKSTREAM", following, "e", "R 1 2 three\n{}")
    return partial(deployment.command, "quarantine", "settle", "--all", "--yes")


async def _sell_once(deployment: Watched) -> str:
    """Redeem a code that can be redeemed once; return it."""
    await deployment.add_codes("ONCE-1")
    await deployment.ask("POST", "/v1/coupons/redeem/ONCE-1", {"userId": "ann"})
    return "ONCE-1"


async def _blocked(deployment: Watched) -> Undo:
    """A code that can be redeemed once has a second redemption in the outbox."""
    await _sell_once(deployment)
    following = f"{(await deployment.row()).epoch}-*"
    redeem_again = partial(deployment.primary.client.eval, REDEEM_AGAIN, 1, key_names.outbox(HOME), following)
    await wait_until(redeem_again, "a redemption in the outbox")
    return partial(deployment.command, "quarantine", "release", "--all", "--yes")


def _certificate_ends(days: int) -> Plant:
    """An API reaches Redis by TLS, with a certificate that ends within so many days."""

    async def plant(deployment: Watched) -> Undo:
        stack = contextlib.ExitStack()
        authority = Authority(deployment.folder / "authority", days=days)
        port = stack.enter_context(door(authority, deployment.primary.port))
        api, _ = deployment.make_api(REDIS_URL=f"rediss://localhost:{port}/0?ssl_ca_certs={authority.file}")

        async def end() -> None:
            await deployment.forget(api)
            stack.close()

        return end

    return plant


def _locked(table: str) -> Plant:
    """A transaction locks a table of the record, and does not end."""
    return lambda deployment: deployment.lock_table(table)


async def _cannot_open(deployment: Watched) -> Undo:
    """Redis is emptied, and what a worker writes in Postgres to rebuild it waits."""
    undo = await deployment.lock_table("recoveries")
    await deployment.primary.client.flushall()
    return undo


async def _switched_off(deployment: Watched) -> Undo:
    """The merchant switches off the book that is for sale."""
    book = await deployment.pool.fetchval(_BOOK_FOR_SALE)
    await deployment.ask("PATCH", f"/v1/books/{book}", {"status": "inactive"})
    return partial(deployment.ask, "PATCH", f"/v1/books/{book}", {"status": "active"})


async def _not_compared(deployment: Watched) -> Undo:
    """The last comparison was 27 hours ago."""
    await deployment.ask("POST", "/v1/ops/reconcile", {"repair": False})
    earlier = "UPDATE reconciled SET at = at - interval '27 hours' WHERE partition = $1 RETURNING 1"
    await wait_until(partial(deployment.pool.fetchval, earlier, HOME), "a comparison")
    return partial(deployment.ask, "POST", "/v1/ops/reconcile", {"repair": False})


async def _counters_unreadable(deployment: Watched) -> Undo:
    """The counters of a book that is refilled have a wrong type in Redis. The runbook's command repairs them."""
    body = {"name": "Refilled", "keepFree": 5, "codePattern": "REFILLED-######"}
    book = (await deployment.make("/v1/books", body))["bookId"]
    row = await deployment.pool.fetchrow("SELECT workspace, book FROM books WHERE book_id = $1", book)
    key = key_names.counters(key_names.prefix(HOME, row["workspace"]), row["book"])
    client = deployment.primary.client
    await client.delete(key)
    await client.lpush(key, "x")
    return partial(deployment.command, "reconcile", "--repair")


async def _standby_gone(deployment: Watched) -> Undo:
    """The standby no longer reaches Postgres."""
    deployment.database.link.stop()
    return deployment.database.link.start


async def _tenfold(deployment: Watched) -> Undo:
    """More buyers than an API can serve want a code that is sold out."""
    code = await _sell_once(deployment)

    async def rush() -> None:
        while True:
            await generator.drive(
                deployment.urls[0], "drill_checkout", "opening", seconds=3600, connections=2000, code=code,
                refusal="coupon_exhausted", count=1_000_000, within_ms=1000,
            )  # fmt: skip

    return partial(cancel, asyncio.create_task(rush()))


async def _webhook_fails(deployment: Watched) -> Undo:
    hook = {"url": "https://receiver.invalid/hook", "events": ["coupon.redeemed"]}
    made = await deployment.make("/v1/webhooks", hook)
    return partial(deployment.ask, "DELETE", f"/v1/webhooks/{made['webhookId']}")


def _flood(rate: float, path: str, name: str, **limits: int) -> Plant:
    """A client that sends a request so many times a second."""

    async def plant(deployment: Watched) -> Undo:
        key = f"{name}_checkout"
        if limits:
            body = {"name": "runaway", "scopes": ["checkout"], "limits": limits}
            key = (await deployment.ask("POST", "/v1/keys", body, f"{name}_admin")).json()["secret"]

        async def send(client: httpx.AsyncClient, number: int) -> None:
            await client.post(f"{deployment.urls[0]}{path.format(number)}", json={"userId": f"u{number % 50}"})

        return partial(cancel, asyncio.create_task(send_often(rate, key, send)))

    return plant


async def _disk_full(deployment: Watched) -> Undo:
    filling = contextlib.ExitStack()
    filling.enter_context(filled(deployment.folder / "record"))

    async def empty() -> None:
        filling.close()
        await deployment.database.kill()  # it may have ended by itself
        await deployment.database.start_again()

    return empty


async def _api_cut(deployment: Watched) -> Undo:
    """An API no longer reaches Postgres, and others do: it counts as unrecorded what a worker records."""
    front = await Forwarder(deployment.database.front.port).start()
    url = deployment.database.front_url.replace(str(deployment.database.front.port), str(front.port))
    api, address = deployment.make_api(DATABASE_URL=url)
    await wait_until(partial(_is_live, address), "an API")
    front.stop()
    await elapse(330, "an event that is older than 300 s has a page")
    return partial(deployment.forget, api)


async def _is_live(address: str) -> bool:
    async with httpx.AsyncClient() as client:
        return (await client.get(f"{address}/health/live")).is_success


async def _wrong_setting(deployment: Watched) -> Undo:
    api, _ = deployment.make_api(REDIS_URL="redis://127.0.0.1:1/0")
    return partial(deployment.forget, api)


async def _worker_cut(deployment: Watched) -> Undo:
    """A worker that has leases no longer reaches Redis."""
    front = await Forwarder(deployment.primary.port).start()
    worker = await _make_worker(deployment, front)
    front.stop()
    return partial(_end, deployment, worker)


async def _worker_refused(deployment: Watched) -> Undo:
    """The password of a worker's user of Redis is changed, and its connections are ended."""
    client = deployment.primary.client
    await client.execute_command("ACL", "SETUSER", "worker", "on", ">right", "~*", "&*", "+@all")
    url = f"redis://worker:right@127.0.0.1:{deployment.primary.port}/0"
    worker = await _make_worker(deployment, deployment.front, REDIS_URL=url)
    await client.execute_command("ACL", "SETUSER", "worker", "resetpass", ">other")
    await client.execute_command("CLIENT", "KILL", "USER", "worker")
    return partial(_end, deployment, worker)


async def _make_worker(deployment: Watched, front: Forwarder, **env: str) -> Process:
    """One more worker, once it has leases."""
    worker = deployment.make_worker(front, **env)

    async def has_leases() -> bool:
        return any(f":{worker.pid}:" in (row.lease_holder or "") for row in await read_partitions(deployment.pool))

    await wait_until(has_leases, "leases of the worker")
    return worker


async def _end(deployment: Watched, process: Process) -> None:
    """It ends by SIGTERM."""
    await process.signal(signal.SIGTERM)
    await deployment.forget(process)


async def _redis_clock(deployment: Watched) -> Undo:
    return _step(deployment.primary.clock)


async def _api_clock(deployment: Watched) -> Undo:
    return _step(deployment.apis[1].clock)


def _step(clock: Clock) -> Undo:
    clock.set(30_000)

    async def correct() -> None:
        clock.set(0)

    return correct


class Failure:
    """A failure, what is sent for it, what may be sent beside it, and the deployment's options. Nothing sent: ''."""

    def __init__(self, plant: Plant, sends: str, *beside: str, **options: Any) -> None:
        self.plant, self.sends, self.beside, self.options = plant, sends, beside, options


FAILURES = {
    "Redis is full": Failure(_memory(1), "page ScripRedisMemory"),
    "Redis is nearly full": Failure(_memory(0.97), "page ScripRedisMemory"),
    "Redis uses 85 % of its memory": Failure(_memory(0.85), "ticket ScripRedisMemory"),
    "Redis has no limit of memory": Failure(_memory(0), "ticket ScripRedisUnlimited"),
    "Redis is gone": Failure(_redis_gone, "page ScripRedisDown"),
    "Redis is slow": Failure(_redis_slow, "page ScripLatency"),
    "Redis is emptied, and can't be rebuilt": Failure(_cannot_open, "page ScripPartitionClosed"),
    "Redis refuses a command": Failure(_redis_refuses, "page ScripErrors"),
    "Redis can't save": Failure(_redis_cannot_save, "page ScripRedisPersistence"),
    "each process is killed, and starts": Failure(_each_killed, ""),
    "one of two workers is dead": Failure(_workers_dead(1), "ticket ScripProcessMissing"),
    "all workers are dead": Failure(_workers_dead(0), "page ScripWorkerMissing", "ticket ScripProcessMissing"),
    "one of two APIs is dead": Failure(_apis_dead(1), "ticket ScripProcessMissing"),
    "all APIs are dead": Failure(_apis_dead(0), "page ScripProcessMissing", "ticket ScripProcessMissing"),
    "a worker is stuck": Failure(_worker_stuck, "ticket ScripProcessMissing"),
    "Postgres is slow": Failure(_postgres_slow, "page ScripPostgresDown"),
    "Postgres is slow for one partition": Failure(_partition_slow, f"page ScripRecordingSlow {HOME}"),
    "Postgres is gone": Failure(_postgres_gone, "page ScripPostgresDown"),
    "Postgres was restored, and is older": Failure(_postgres_older, "page ScripPostgresOlder"),
    "Postgres can't archive": Failure(_archive("false"), "ticket ScripArchive"),
    "Postgres's archive_command hangs": Failure(_archive("while test -e {}; do sleep 1; done"), "ticket ScripArchive"),
    "Postgres's connections are nearly all in use": Failure(_connections(0.95), "page ScripConnections"),
    "a table of the record is locked": Failure(
        _locked("redemptions"), "page ScripUnrecordedEventsOld", "page ScripRecordingSlow", "ticket ScripRecordingSlow"
    ),
    "a standby is gone": Failure(_standby_gone, "ticket ScripStandby", standbys=1),
    "a standby is gone from a great sale": Failure(
        filling.fill_outbox_of_standby, "page ScripStandby", "ticket ScripStandby", standbys=1
    ),
    "a great sale is not recorded": Failure(
        filling.fill_outbox, "page ScripUnrecordedEventsMany", "page ScripRecordingSlow"
    ),
    "a replica is gone": Failure(_replica_gone, "ticket ScripRedisReplica", replicated=True),
    "one of three sentinels hangs": Failure(_sentinels_hang(1), "ticket ScripSentinels", replicated=True, sentinels=3),
    "two of three sentinels hang": Failure(_sentinels_hang(2), "page ScripSentinels", replicated=True, sentinels=3),
    "an upgrade, a failover and a rebuild": Failure(_ordinary, "", replicated=True, sentinels=3),
    "Redis and Postgres differ": Failure(_drift, "ticket ScripDrift"),
    "Redis and Postgres were not compared": Failure(_not_compared, "ticket ScripNoComparison"),
    "an event is in quarantine": Failure(_quarantined, "page ScripQuarantine"),
    "codes are blocked": Failure(_blocked, "page ScripQuarantine"),
    "a book can't be read": Failure(_book_unreadable, "page ScripLeftOut"),
    "a book runs low": Failure(_low_stock, "ticket ScripLowStock"),
    "a book's counters can't be read": Failure(_counters_unreadable, "ticket ScripSetAside"),
    "the book for sale is switched off": Failure(_switched_off, "ticket ScripRefusals"),
    "a workspace fills its storage": Failure(filling.fill_storage, "ticket ScripStorage"),
    "a certificate ends tomorrow": Failure(_certificate_ends(2), "page ScripCertificate"),
    "a certificate ends in ten days": Failure(_certificate_ends(10), "ticket ScripCertificate"),
    "a receiver of webhooks fails": Failure(_webhook_fails, "ticket ScripWebhooks"),
    "a client runs away": Failure(
        _flood(40, "/v1/coupons/redeem/SALE-drill-000", "drill", requestsPerMinute=60),
        "ticket ScripRateLimited",
        "ticket ScripRefusals",
    ),
    "codes are guessed": Failure(_flood(20, "/v1/coupons/lock/GUESS-{}", "drill"), "ticket ScripGuessing"),
    "a sale is ten times the plan": Failure(_tenfold, "ticket ScripSaturation", "ticket ScripTenantFlood"),
    "a disk is full": Failure(_disk_full, "page ScripDisk", own_disks=True),
    "a disk is nearly full": Failure(filling.fill_disk, "ticket ScripDisk"),
    "an API has a wrong setting": Failure(_wrong_setting, "ticket ScripRedisDown"),
    "an API does not reach Postgres": Failure(_api_cut, "ticket ScripPostgresDown"),
    "a worker does not reach Redis": Failure(_worker_cut, "ticket ScripTaskFailing"),
    "a worker's password is refused": Failure(_worker_refused, "ticket ScripTaskFailing"),
    "Redis's clock is off": Failure(_redis_clock, "ticket ScripClock"),
    "an API's clock is off": Failure(_api_clock, "ticket ScripClock"),
    "an API has too many connections": Failure(filling.fill_connections, "page ScripSaturation"),
    "a few requests fail, after bad days": Failure(burning.fail_some, "ticket ScripErrors", worn=True),
    "Redis pauses often, after bad days": Failure(burning.delay_some, "ticket ScripLatency", worn=True),
    "recording stops for a moment, after bad days": Failure(
        burning.delay_recording, f"ticket ScripRecordingSlow {HOME}", worn=True
    ),
    "a tenant floods": Failure(
        _flood(150, "/v1/coupons/lock/FLOOD", "rival"), "ticket ScripTenantFlood", "ticket ScripGuessing"
    ),
}


@dataclass
class Seen:
    """What was sent for each failure by its name, and when; and what else."""

    sent_s: dict[str, float] = field(default_factory=dict)
    ended_s: dict[str, float] = field(default_factory=dict)
    beside: set[str] = field(default_factory=set)
    wrong: list[str] = field(default_factory=list)


async def watch(failures: Mapping[str, Failure], folder: Path) -> Seen:
    """Plant failures at once, wait until the alert of each is sent, undo all, and wait until none is left."""
    seen = Seen()
    options: dict[str, Any] = {}
    for failure in failures.values():
        options |= failure.options
    async with (
        Watched(folder, **options) as deployment,
        deployment.watching(),
        contextlib.AsyncExitStack() as planted,
    ):
        await elapse(CALM_S, "no alert may come")
        seen.wrong += [f"sent before: {name}" for name in sorted(deployment.sent)]
        deployment.sent.clear()
        began: dict[str, float] = {}
        for name, failure in failures.items():
            began[name] = time.monotonic()
            planted.push_async_callback(await failure.plant(deployment))
        expected = {name: failure.sends for name, failure in failures.items() if failure.sends}

        async def note_sent() -> bool:
            for name, sends in expected.items():
                times = [at for sent, at in deployment.sent.items() if sent.startswith(sends)]
                seen.sent_s |= {name: min(times) - began[name]} if times else {}
            return len(seen.sent_s) == len(expected)

        await _look(note_sent)
        await elapse(CALM_S, "no other alert may come")
        undone = time.monotonic()
        await planted.aclose()

        async def note_ended() -> bool:
            firing = await deployment.alerts()
            for name, sends in expected.items():
                if not _has(firing, sends):
                    seen.ended_s.setdefault(name, time.monotonic() - undone)
            return not firing

        if not await _look(note_ended):
            seen.wrong += [f"fires: {name}" for name in sorted(await deployment.alerts())]
        # Alertmanager sends what was silenced, and failures that send nothing have no alert to wait for.
        await elapse(CALM_S if expected else 5 * CALM_S, "no alert may come")
        seen.beside = {one for one in deployment.sent if not any(_has({one}, sends) for sends in expected.values())}
    allowed = tuple(sends for failure in failures.values() for sends in failure.beside)
    seen.wrong += [f"sent beside: {name}" for name in sorted(seen.beside) if not name.startswith(allowed)]
    seen.wrong += [f"not sent: {sends}" for name, sends in expected.items() if name not in seen.sent_s]
    return seen


def _has(names: Iterable[str], prefix: str) -> bool:
    return any(name.startswith(prefix) for name in names)


async def _look(reached: Callable[[], Awaitable[bool]]) -> bool:
    """Wait for this; False if it never comes."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        if await reached():
            return True
        await elapse(1, "Prometheus looks by itself")
    return False


async def watch_all(names: list[str], folder: Path, *, together: bool) -> bool:
    """Print a row for each failure; whether all were as expected."""
    good = True
    print("| failure | sends | after, s | ends after, s | beside | wrong |\n|---|---|---|---|---|---|", flush=True)
    for number, some in enumerate([names] if together else [[name] for name in names]):
        failures = {name: FAILURES[name] for name in some}
        seen = await watch(failures, folder / str(number))
        good = good and not seen.wrong
        beside, wrong = ", ".join(sorted(seen.beside)), "; ".join(seen.wrong)
        for name, failure in failures.items():
            times = _round(seen.sent_s.get(name)), _round(seen.ended_s.get(name))
            print(f"| {' | '.join([name, failure.sends or 'nothing', *times, beside, wrong])} |", flush=True)
    return good


def _round(seconds: float | None) -> str:
    return "–" if seconds is None else f"{seconds:.0f}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="failures whose name matches this")
    parser.add_argument("--together", action="store_true", help="all of these at once, in one deployment")
    asked = parser.parse_args()
    for program in ("prometheus", "promtool", ALERTMANAGER):
        if not shutil.which(program):
            sys.exit(f"{program} is not on the path: install Debian's prometheus and prometheus-alertmanager.")
    names = [name for name in FAILURES if re.search(asked.only, name)]
    with data_folder() as folder:
        return not asyncio.run(watch_all(names, folder, together=asked.together))

"""The failures that alarms.py plants in a watched deployment: each returns what undoes it."""

import asyncio
import contextlib
import os
import signal
import time
from functools import partial
from typing import Literal

import asyncpg
import httpx
from redis.asyncio import Redis

from loadtests import generator
from service.engine.formats import key_names
from service.engine.record.partitions.partition_rows import read_partitions
from tests.harness.running import HOME
from tests.harness.tls import Authority, door
from tests.harness.waiting import cancel, elapse
from tests.lab.faults.deployment import Process
from tests.lab.faults.disk import Clock
from tests.lab.faults.nodes import wait_until
from tests.lab.faults.process_faults import REDEEM_AGAIN
from tests.lab.faults.proxy import Forwarder
from tests.lab.faults.restore_faults import until_trimmed
from tests.lab.faults.server_faults import filled
from tests.lab.faults.upgrading import make_next_version
from tests.lab.faults.watched import CALM_S, PATIENCE_S, Plant, Undo, Watched, send_often

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


def memory(share: float) -> Plant:
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


async def redis_gone(deployment: Watched) -> Undo:
    await deployment.primary.kill()
    return deployment.heal


def dead(parts: Literal["apis", "workers"], first: int = 0) -> Plant:
    """Kill these processes from this one on."""

    async def plant(deployment: Watched) -> Undo:
        killed = getattr(deployment, parts)[first:]
        for process in killed:
            await process.signal(signal.SIGKILL)

        async def start() -> None:
            for process in killed:
                process.start()

        return start

    return plant


async def worker_stuck(deployment: Watched) -> Undo:
    await deployment.workers[1].signal(signal.SIGSTOP)
    return partial(deployment.workers[1].signal, signal.SIGCONT)


async def postgres_slow(deployment: Watched) -> Undo:
    deployment.database.front.delay_s = 1.2
    return deployment.heal


async def partition_slow(deployment: Watched) -> Undo:
    """What records one partition waits: Postgres needs half a second for each redemption of its workspace."""
    workspace = await deployment.pool.fetchval("SELECT workspace FROM workspaces WHERE name = 'drill'")
    slow = f"IF NEW.workspace = '{workspace}' THEN PERFORM pg_sleep(0.5); END IF;"
    await deployment.pool.execute(_WAITING.format(slow))
    await deployment.pool.execute(
        "CREATE TRIGGER waiting BEFORE INSERT ON redemptions FOR EACH ROW EXECUTE FUNCTION waiting()"
    )
    return partial(deployment.pool.execute, _WAITING.format(""))


async def postgres_gone(deployment: Watched) -> Undo:
    await deployment.database.kill()
    return deployment.heal


async def each_killed(deployment: Watched) -> Undo:
    """A worker, an API, Postgres and Redis are killed, and start at once, as by a supervisor: no page may be sent."""
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


async def ordinary(deployment: Watched) -> Undo:
    """Half an hour of work without a page: an upgrade with a migration, process by process; a failover by sentinels,
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


def archive(command: str) -> Plant:
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


def connections(share: float) -> Plant:
    """This share of Postgres's connections is in use, however the service's pools grow and shrink."""

    async def plant(deployment: Watched) -> Undo:
        opened: list[asyncpg.Connection] = []

        async def hold() -> None:
            while True:
                used, most = await deployment.pool.fetchrow(_SESSIONS)
                wanted = int(most * share) + 1 - (used - len(opened))
                while len(opened) < wanted:
                    opened.append(await asyncpg.connect(deployment.database.url))
                while len(opened) > max(wanted, 0):
                    await opened.pop().close()
                await elapse(5, "the pools change")

        holding = asyncio.create_task(hold())

        async def close() -> None:
            await cancel(holding)
            for connection in opened:
                await connection.close()

        return close

    return plant


async def replica_gone(deployment: Watched) -> Undo:
    await deployment.replica.kill()
    return deployment.heal


def sentinels_hang(many: int) -> Plant:
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


async def redis_refuses(deployment: Watched) -> Undo:
    """Redis's user may no longer append to the outbox."""
    await deployment.primary.client.execute_command("ACL", "SETUSER", "default", "-xadd")
    return partial(deployment.primary.client.execute_command, "ACL", "SETUSER", "default", "+@all")


async def redis_slow(deployment: Watched) -> Undo:
    for front in (deployment.front, deployment.side):
        front.delay_s = 0.3
    return deployment.heal


async def redis_cannot_save(deployment: Watched) -> Undo:
    """A folder stands where Redis puts its snapshot."""
    client, obstacle = deployment.primary.client, deployment.primary.folder / "dump.rdb"
    obstacle.mkdir()
    await client.bgsave()

    async def remove() -> None:
        obstacle.rmdir()
        await client.bgsave()

    return remove


async def low_stock(deployment: Watched) -> Undo:
    """A book with a threshold of five codes has four left."""
    book = (await deployment.make("/v1/books", {"name": "Low", "lowStockThreshold": 5}))["bookId"]
    await deployment.ask("POST", f"/v1/books/{book}/codes", {"codes": [f"LOW-{number}" for number in range(5)]})
    await deployment.make("/v1/coupons/assign", {"bookId": book, "userId": "ann"})
    return partial(deployment.ask, "PATCH", f"/v1/books/{book}", {"status": "inactive"})


async def book_unreadable(deployment: Watched) -> Undo:
    """A book has a discount that no worker of this version can read."""
    book = (await deployment.make("/v1/books", {"name": "Odd"}))["bookId"]
    change = "UPDATE books SET discount = $2 WHERE book_id = $1"
    await deployment.pool.execute(change, book, '{"type": "of a later version"}')
    await deployment.command("rebuild", "--partition", str(HOME))
    return partial(deployment.pool.execute, change, book, None)


async def postgres_older(deployment: Watched) -> Undo:
    await deployment.database.back_up()
    await until_trimmed(deployment, PATIENCE_S)  # a worker keeps entries for two minutes
    await deployment.database.restore()
    return deployment.database.restore  # the newer one


async def drift(deployment: Watched) -> Undo:
    await deployment.pool.execute(_LOSE_ONE)
    await deployment.ask("POST", "/v1/ops/reconcile", {"repair": False})
    return partial(deployment.ask, "POST", "/v1/ops/reconcile", {"repair": True})


async def quarantined(deployment: Watched) -> Undo:
    following = f"{(await deployment.row()).epoch}-*"
    outbox = key_names.outbox(HOME)
    await deployment.primary.client.execute_command("XADD", outbox, "NOMKSTREAM", following, "e", "R 1 2 three\n{}")
    return partial(deployment.command, "quarantine", "settle", "--all", "--yes")


async def _sell_once(deployment: Watched) -> str:
    """Redeem a code that can be redeemed once; return it."""
    await deployment.add_codes("ONCE-1")
    await deployment.ask("POST", "/v1/coupons/redeem/ONCE-1", {"userId": "ann"})
    return "ONCE-1"


async def blocked(deployment: Watched) -> Undo:
    """A code that can be redeemed once has a second redemption in the outbox."""
    await _sell_once(deployment)
    following = f"{(await deployment.row()).epoch}-*"
    redeem_again = partial(deployment.primary.client.eval, REDEEM_AGAIN, 1, key_names.outbox(HOME), following)
    await wait_until(redeem_again, "a redemption in the outbox")
    return partial(deployment.command, "quarantine", "release", "--all", "--yes")


def certificate_ends(days: int) -> Plant:
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


def locked(table: str) -> Plant:
    """A transaction locks a table of the record, and does not end."""
    return lambda deployment: deployment.lock_table(table)


async def cannot_open(deployment: Watched) -> Undo:
    """Redis is emptied, and what a worker writes in Postgres to rebuild it waits."""
    undo = await deployment.lock_table("recoveries")
    await deployment.primary.client.flushall()
    return undo


async def switched_off(deployment: Watched) -> Undo:
    """The merchant switches off the book that is for sale."""
    book = await deployment.pool.fetchval(_BOOK_FOR_SALE)
    await deployment.ask("PATCH", f"/v1/books/{book}", {"status": "inactive"})
    return partial(deployment.ask, "PATCH", f"/v1/books/{book}", {"status": "active"})


async def not_compared(deployment: Watched) -> Undo:
    """The last comparison was 27 hours ago."""
    await deployment.ask("POST", "/v1/ops/reconcile", {"repair": False})
    earlier = "UPDATE reconciled SET at = at - interval '27 hours' WHERE partition = $1 RETURNING 1"
    await wait_until(partial(deployment.pool.fetchval, earlier, HOME), "a comparison")
    return partial(deployment.ask, "POST", "/v1/ops/reconcile", {"repair": False})


async def counters_unreadable(deployment: Watched) -> Undo:
    """The counters of a book that is refilled have a wrong type in Redis. The runbook's command repairs them."""
    body = {"name": "Refilled", "keepFree": 5, "codePattern": "REFILLED-######"}
    book = (await deployment.make("/v1/books", body))["bookId"]
    row = await deployment.pool.fetchrow("SELECT workspace, book FROM books WHERE book_id = $1", book)
    key = key_names.counters(key_names.prefix(HOME, row["workspace"]), row["book"])
    client = deployment.primary.client
    await client.delete(key)
    await client.lpush(key, "x")
    return partial(deployment.command, "reconcile", "--repair")


async def standby_gone(deployment: Watched) -> Undo:
    """The standby no longer reaches Postgres."""
    deployment.database.link.stop()
    return deployment.database.link.start


async def api_overloaded(deployment: Watched) -> Undo:
    """A shop whose key was revoked sends an API more than it can serve. The API refuses that without Redis: where Redis
    decides, it waits for it, and may use half a core."""
    return _rush(deployment, "revoked", connections=1000, within_ms=1000)


async def tenant_floods(deployment: Watched) -> Undo:
    """A workspace sends 300 requests a second, for a code that there is not."""
    return _rush(deployment, "rival_checkout", connections=64, within_ms=3_333_333)


def _rush(deployment: Watched, key: str, *, connections: int, within_ms: int) -> Undo:
    """A million buyers come to the first API within this time, again and again."""

    async def rush() -> None:
        while True:
            await generator.drive(
                deployment.urls[0], key, "opening", seconds=3600, connections=connections, code="FLOOD",
                count=1_000_000, within_ms=within_ms,
            )  # fmt: skip

    return partial(cancel, asyncio.create_task(rush()))


async def webhook_fails(deployment: Watched) -> Undo:
    hook = {"url": "https://receiver.invalid/hook", "events": ["coupon.redeemed"]}
    made = await deployment.make("/v1/webhooks", hook)
    return partial(deployment.ask, "DELETE", f"/v1/webhooks/{made['webhookId']}")


def flood(rate: float, path: str, name: str, **limits: int) -> Plant:
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


async def disk_full(deployment: Watched) -> Undo:
    filling = contextlib.ExitStack()
    filling.enter_context(filled(deployment.folder / "record"))

    async def empty() -> None:
        filling.close()
        await deployment.database.kill()  # it may have ended by itself
        await deployment.database.start_again()

    return empty


async def api_cut(deployment: Watched) -> Undo:
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


async def wrong_setting(deployment: Watched) -> Undo:
    api, _ = deployment.make_api(REDIS_URL="redis://127.0.0.1:1/0")
    return partial(deployment.forget, api)


async def worker_cut(deployment: Watched) -> Undo:
    """A worker that has leases no longer reaches Redis."""
    front = await Forwarder(deployment.primary.port).start()
    worker = await _make_worker(deployment, front)
    front.stop()
    return partial(_end, deployment, worker)


async def worker_refused(deployment: Watched) -> Undo:
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


async def redis_clock(deployment: Watched) -> Undo:
    return _step(deployment.primary.clock)


async def api_clock(deployment: Watched) -> Undo:
    return _step(deployment.apis[1].clock)


def _step(clock: Clock) -> Undo:
    clock.set(30_000)

    async def correct() -> None:
        clock.set(0)

    return correct

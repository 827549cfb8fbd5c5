"""Failures of real processes, which Prometheus watches with the shipped rules: which alert fires, and when.

It prints for each failure how long its alert took, which others fired, and how long until all had ended. It needs
`prometheus` on the path. A failure takes a minute to ten: the rules wait before they wake anybody."""

import argparse
import asyncio
import contextlib
import json
import re
import shutil
import signal
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import httpx

from loadtests import generator
from service.engine.formats import key_names
from service.engine.record.partitions.partition_rows import read_partitions
from tests.harness.running import HOME, data_folder
from tests.harness.servers import VALKEY, free_port
from tests.harness.tls import Authority, door
from tests.harness.trees import ROOT
from tests.harness.waiting import cancel, elapse, running
from tests.harness.workspaces import make_workspace
from tests.lab.faults.deployment import KEY, Deployment, Process
from tests.lab.faults.nodes import wait_until
from tests.lab.faults.process_faults import REDEEM_AGAIN
from tests.lab.faults.proxy import Forwarder
from tests.lab.faults.restore_faults import until_trimmed
from tests.lab.faults.server_faults import filled

RULES = ROOT / "deploy" / "observability" / "rules.yaml"
INTERVAL_S = 15
"""The interval of scrapes, for which the rules are written."""
CALM_S = 60
"""Before a failure, and after its alert has fired: no other alert may fire."""
PATIENCE_S = 1200
RATES = {"drill": 5.0, "rival": 2.0}
"""Sales a second of each workspace. A sale is two requests."""

Undo = Callable[[], Awaitable[Any]]
Plant = Callable[["Watched"], Awaitable[Undo]]


class Watched(Deployment):
    """A deployment with two workers, two workspaces, sales in both, and a Prometheus that finds all its processes."""

    def __init__(self, folder: Path, **options: Any) -> None:
        super().__init__(VALKEY, folder, "always", replicated=False, **options)
        self._targets: dict[Process, tuple[str, int]] = {}
        """The job and the port of each process."""
        self._prometheus_port = free_port()

    def _process(self, command: str, tree: Path, front: Forwarder, **env: str) -> Process:
        port = free_port()
        process = super()._process(command, tree, front, **env, SCRIP_METRICS_PORT=str(port))
        self._targets[process] = f"scrip-{command}", port
        self._write_targets()
        return process

    async def leave(self, process: Process) -> None:
        """End a process, which Prometheus forgets."""
        await process.close()
        del self._targets[process]
        self._write_targets()

    def _write_targets(self) -> None:
        groups = [{"targets": [f"127.0.0.1:{port}"], "labels": {"job": job}} for job, port in self._targets.values()]
        (self.folder / "targets.json").write_text(json.dumps(groups))

    @asynccontextmanager
    async def watching(self) -> AsyncIterator[None]:
        """Start a second worker, the sales and Prometheus; all end with the block."""
        self.add_workers(2)
        async with self.pool.acquire() as connection:
            await make_workspace(connection, "rival", "live")
        for name in RATES:
            await wait_until(partial(self._make_book, name), f"a book of {name}")
        async with contextlib.AsyncExitStack() as stack:
            for name in RATES:
                await stack.enter_async_context(running(self.sell(name)))
            await stack.enter_async_context(self._prometheus())
            yield

    @asynccontextmanager
    async def _prometheus(self) -> AsyncIterator[None]:
        times = {"scrape_interval": f"{INTERVAL_S}s", "evaluation_interval": f"{INTERVAL_S}s"}
        scrapes = [{"job_name": "scrip", "file_sd_configs": [{"files": [str(self.folder / "targets.json")]}]}]
        config = {"global": times, "rule_files": [str(RULES)], "scrape_configs": scrapes}
        (self.folder / "prometheus.yml").write_text(json.dumps(config))  # JSON is YAML
        listen, store = f"--web.listen-address=127.0.0.1:{self._prometheus_port}", self.folder / "prometheus"
        options = (f"--config.file={self.folder / 'prometheus.yml'}", f"--storage.tsdb.path={store}", listen)
        with (self.folder / "prometheus.log").open("wb") as log:
            process = await asyncio.create_subprocess_exec("prometheus", *options, stdout=log, stderr=log)
        try:
            await wait_until(self._is_watched, "Prometheus")
            yield
        finally:
            process.terminate()
            await process.wait()

    async def _is_watched(self) -> bool:
        return await self.alerts() is not None

    async def alerts(self) -> set[str] | None:
        """The names of the alerts that fire."""
        async with httpx.AsyncClient(timeout=10) as client:
            answer = await client.get(f"http://127.0.0.1:{self._prometheus_port}/api/v1/alerts")
        if answer.status_code != 200:
            return None
        return {one["labels"]["alertname"] for one in answer.json()["data"]["alerts"] if one["state"] == "firing"}

    async def ask(self, method: str, path: str, body: Any = None, key: str = KEY) -> httpx.Response:
        """Send a request to the first API. A connection that fails counts as 503."""
        headers = {"Authorization": f"Bearer {key}"}
        async with httpx.AsyncClient(timeout=10, headers=headers) as client:
            try:
                return await client.request(method, f"{self.urls[0]}{path}", json=body)
            except httpx.HTTPError:
                return httpx.Response(503)

    async def _make_book(self, name: str) -> bool:
        book = {"name": "Sale", "maxRedemptionsPerCode": 1_000_000}
        answer = await self.ask("POST", "/v1/books", book, f"{name}_admin")
        if answer.status_code != 201:
            return False
        codes = {"codes": [f"SALE-{name}-{number:03}" for number in range(200)]}
        path = f"/v1/books/{answer.json()['bookId']}/codes"
        return (await self.ask("POST", path, codes, f"{name}_admin")).status_code in (200, 201)

    async def sell(self, name: str) -> None:
        """Lock and redeem, so many times a second, whatever the answers are."""

        async def buy(client: httpx.AsyncClient, number: int) -> None:
            base, code = f"{self.urls[number % len(self.urls)]}/v1/coupons", f"SALE-{name}-{number % 200:03}"
            body = {"userId": f"u{number}"}
            locked = await client.post(f"{base}/lock/{code}", json=body)
            if locked.status_code == 201:
                body["lockToken"] = locked.json()["lockToken"]
            await client.post(f"{base}/redeem/{code}", json=body)

        await _repeat(RATES[name], f"{name}_admin", buy)


async def _repeat(rate: float, key: str, send: Callable[[httpx.AsyncClient, int], Awaitable[Any]]) -> None:
    """Send so many times a second, with a number each time, until cancelled. A connection that fails is no error."""
    number = 0
    async with httpx.AsyncClient(timeout=10, headers={"Authorization": f"Bearer {key}"}) as client:
        while True:
            began = time.monotonic()
            with contextlib.suppress(httpx.HTTPError):
                await send(client, number)
            number += 1
            await elapse(max(1 / rate - (time.monotonic() - began), 0), "the pace of the load")


async def _redis_full(deployment: Watched) -> Undo:
    used = (await deployment.primary.client.info("memory"))["used_memory"]
    await deployment.primary.client.config_set("maxmemory", used)
    return partial(deployment.primary.client.config_set, "maxmemory", 0)


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


async def _worker_stuck(deployment: Watched) -> Undo:
    await deployment.workers[1].signal(signal.SIGSTOP)
    return partial(deployment.workers[1].signal, signal.SIGCONT)


async def _postgres_slow(deployment: Watched) -> Undo:
    deployment.database.front.delay_s = 1.2
    return deployment.heal


async def _postgres_gone(deployment: Watched) -> Undo:
    await deployment.database.kill()
    return deployment.heal


async def _postgres_older(deployment: Watched) -> Undo:
    await deployment.database.back_up()
    await until_trimmed(deployment, PATIENCE_S)  # a worker keeps entries for two minutes
    await deployment.database.restore()
    return deployment.database.restore  # the newer one


async def _drift(deployment: Watched) -> Undo:
    await deployment.pool.execute("DELETE FROM redemptions WHERE ctid IN (SELECT ctid FROM redemptions LIMIT 1)")
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


async def _certificate_ends(deployment: Watched) -> Undo:
    """An API reaches Redis by TLS, with a certificate that ends within two days."""
    stack = contextlib.ExitStack()
    authority = Authority(deployment.folder / "authority")
    port = stack.enter_context(door(authority, deployment.primary.port))
    api, _ = deployment.make_api(REDIS_URL=f"rediss://localhost:{port}/0?ssl_ca_certs={authority.file}")

    async def end() -> None:
        await deployment.leave(api)
        stack.close()

    return end


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
    made = await deployment.ask("POST", "/v1/webhooks", hook)
    return partial(deployment.ask, "DELETE", f"/v1/webhooks/{made.json()['webhookId']}")


def _flood(rate: float, path: str, name: str, **limits: int) -> Plant:
    """A client that sends a request so many times a second."""

    async def plant(deployment: Watched) -> Undo:
        key = f"{name}_checkout"
        if limits:
            body = {"name": "runaway", "scopes": ["checkout"], "limits": limits}
            key = (await deployment.ask("POST", "/v1/keys", body, f"{name}_admin")).json()["secret"]

        async def send(client: httpx.AsyncClient, number: int) -> None:
            await client.post(f"{deployment.urls[0]}{path.format(number)}", json={"userId": f"u{number % 50}"})

        return partial(cancel, asyncio.create_task(_repeat(rate, key, send)))

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
    return partial(deployment.leave, api)


async def _is_live(address: str) -> bool:
    async with httpx.AsyncClient() as client:
        return (await client.get(f"{address}/health/live")).is_success


async def _wrong_setting(deployment: Watched) -> Undo:
    api, _ = deployment.make_api(REDIS_URL="redis://127.0.0.1:1/0")
    return partial(deployment.leave, api)


async def _worker_cut(deployment: Watched) -> Undo:
    """A worker that has leases no longer reaches Redis."""
    front = await Forwarder(deployment.primary.port).start()
    worker = deployment.make_worker(front)

    async def has_leases() -> bool:
        return any(f":{worker.pid}:" in (row.lease_holder or "") for row in await read_partitions(deployment.pool))

    await wait_until(has_leases, "leases of the worker")
    front.stop()
    return partial(deployment.leave, worker)


async def _clock_off(deployment: Watched) -> Undo:
    deployment.primary.clock.set(30_000)

    async def correct() -> None:
        deployment.primary.clock.set(0)

    return correct


class Failure:
    """A failure, its alert, the alerts that may fire beside it, and the deployment's options."""

    def __init__(self, plant: Plant, alert: str, *beside: str, **options: Any) -> None:
        self.plant, self.alert, self.beside, self.options = plant, alert, set(beside), options


_CLOSED = ("ScripErrors", "ScripPartitionClosed", "ScripRecordingSlow", "ScripTaskFailing")
"""What a closed partition also causes."""
FAILURES = {
    "Redis is full": Failure(_redis_full, "ScripRedisMemory", *_CLOSED),
    "Redis is gone": Failure(_redis_gone, "ScripRedisDown", *_CLOSED),
    "one of two workers is dead": Failure(_workers_dead(1), "ScripProcessMissing"),
    "all workers are dead": Failure(_workers_dead(0), "ScripWorkerMissing", "ScripProcessMissing", *_CLOSED),
    "a worker is stuck": Failure(_worker_stuck, "ScripProcessMissing"),
    "Postgres is slow": Failure(_postgres_slow, "ScripRecordingSlow", "ScripPostgresDown", "ScripUnrecordedEventsOld"),
    "Postgres is gone": Failure(_postgres_gone, "ScripPostgresDown", "ScripWorkerMissing", *_CLOSED),
    "Postgres was restored, and is older": Failure(_postgres_older, "ScripPostgresOlder", *_CLOSED),
    "Redis and Postgres differ": Failure(_drift, "ScripDrift"),
    "an event is in quarantine": Failure(_quarantined, "ScripQuarantine"),
    "codes are blocked": Failure(_blocked, "ScripBlockedCodes", "ScripQuarantine"),
    "a certificate ends tomorrow": Failure(_certificate_ends, "ScripCertificate"),
    "a receiver of webhooks fails": Failure(_webhook_fails, "ScripWebhooks"),
    "a client runs away": Failure(
        _flood(20, "/v1/coupons/redeem/SALE-drill-000", "drill", requestsPerMinute=60),
        "ScripRateLimited",
        "ScripRefusals",
    ),
    "codes are guessed": Failure(_flood(10, "/v1/coupons/lock/GUESS-{}", "drill"), "ScripGuessing"),
    "a sale is ten times the plan": Failure(_tenfold, "ScripSaturation", "ScripTenantFlood"),
    "a disk is full": Failure(_disk_full, "ScripDisk", "ScripPostgresDown", *_CLOSED, own_disks=True),
    "an API has a wrong setting": Failure(_wrong_setting, "ScripRedisDown", "ScripProcessMissing"),
    "an API does not reach Postgres": Failure(_api_cut, "ScripPostgresDown"),
    "a worker does not reach Redis": Failure(_worker_cut, "ScripTaskFailing"),
    "Redis's clock is off": Failure(_clock_off, "ScripClock"),
    "a tenant floods": Failure(_flood(150, "/v1/coupons/lock/FLOOD", "rival"), "ScripTenantFlood", "ScripGuessing"),
}


@dataclass
class Seen:
    """What Prometheus showed."""

    fired_s: float | None = None
    ended_s: float | None = None
    before: set[str] = field(default_factory=set)
    beside: set[str] = field(default_factory=set)

    def wrong(self, failure: Failure) -> list[str]:
        found = [f"fired before: {name}" for name in sorted(self.before)]
        found += [f"fired beside: {name}" for name in sorted(self.beside - failure.beside)]
        found += [] if self.fired_s is not None else ["did not fire"]
        return found + ([] if self.ended_s is not None else ["did not end"])


async def watch(failure: Failure, folder: Path) -> Seen:
    """Plant a failure, wait for its alert, undo it, and wait until no alert is left."""
    seen = Seen()
    async with Watched(folder, **failure.options) as deployment, deployment.watching():
        await _look(deployment, seen.before, CALM_S)
        began = time.monotonic()
        undo = await failure.plant(deployment)
        if failure.alert in await _look(
            deployment, seen.beside, PATIENCE_S, until=lambda names: failure.alert in names
        ):
            seen.fired_s = time.monotonic() - began
            await _look(deployment, seen.beside, CALM_S)
        seen.beside.discard(failure.alert)
        began = time.monotonic()
        await undo()
        if not await _look(deployment, set(), PATIENCE_S, until=lambda names: not names):
            seen.ended_s = time.monotonic() - began
    return seen


async def _look(
    deployment: Watched, seen: set[str], seconds: float, until: Callable[[set[str]], bool] = lambda _: False
) -> set[str]:
    """Collect the alerts that fire, for some seconds or until they are as wanted; return the last ones."""
    deadline = time.monotonic() + seconds
    while True:
        names = await deployment.alerts() or set()
        seen |= names
        if until(names) or time.monotonic() > deadline:
            return names
        await elapse(1, "Prometheus looks by itself")


async def watch_all(names: list[str], folder: Path) -> bool:
    """Print a row for each failure; whether all were as expected."""
    good = True
    print(
        "| failure | alert | fires after, s | beside | ends after, s | wrong |\n|---|---|---|---|---|---|", flush=True
    )
    for number, name in enumerate(names):
        failure = FAILURES[name]
        seen = await watch(failure, folder / str(number))
        wrong = seen.wrong(failure)
        good = good and not wrong
        cells = [name, failure.alert, _round(seen.fired_s), ", ".join(sorted(seen.beside)), _round(seen.ended_s)]
        print(f"| {' | '.join([*cells, '; '.join(wrong)])} |", flush=True)
    return good


def _round(seconds: float | None) -> str:
    return "never" if seconds is None else f"{seconds:.0f}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="failures whose name matches this")
    asked = parser.parse_args()
    if not shutil.which("prometheus"):
        sys.exit("prometheus is not on the path: install Debian's package of this name.")
    names = [name for name in FAILURES if re.search(asked.only, name)]
    with data_folder() as folder:
        return not asyncio.run(watch_all(names, folder))

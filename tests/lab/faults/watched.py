"""A deployment that Prometheus watches with the shipped rules; Alertmanager sends its alerts by the shipped routes."""

import asyncio
import contextlib
import json
import re
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import yaml

from tests.harness.running import HOME, PARTITIONS
from tests.harness.servers import VALKEY, free_port
from tests.harness.trees import ROOT
from tests.harness.waiting import elapse, running
from tests.harness.workspaces import make_workspace
from tests.lab.faults.deployment import APIS, KEY, Deployment, Process
from tests.lab.faults.nodes import wait_until
from tests.lab.faults.proxy import Forwarder

SHIPPED = ROOT / "deploy" / "observability"
ALERTMANAGER = "prometheus-alertmanager"
"""Debian's name of it."""
INTERVAL_S = 15
"""The interval of scrapes, for which the rules are written."""
RATES = {"drill": 15.0, "rival": 5.0}
"""Checkouts a second of each workspace. A checkout is two requests."""
_UNDER_WAY = 64
_DAYS = 3
"""How long there is a history, for the objectives' windows."""
_ALLOWED = {"availability": 0.001, "latency": 0.01, "recording": 0.001}
"""The share of bad events that each objective allows."""
CALM_S = 60
"""Before a failure, and after its alert has come: no other one may come."""
PATIENCE_S = 2400
Undo = Callable[[], Awaitable[Any]]
Plant = Callable[["Watched"], Awaitable[Undo]]


class Watched(Deployment):
    """A deployment with two workers, two workspaces, sales in both, and a Prometheus that finds all its processes. With
    `worn` each objective was missed for days, until an hour ago. With `standbys` Postgres has one."""

    def __init__(self, folder: Path, *, replicated: bool = False, worn: bool = False, **options: Any) -> None:
        super().__init__(VALKEY, folder, "always", replicated=replicated, **options)
        self._is_worn = worn
        self.ending = contextlib.AsyncExitStack()
        self._targets: dict[Any, tuple[str, int]] = {}
        """The job and the port of each process."""
        self._prometheus_port, self._alertmanager_port, self._receiver_port = (free_port() for _ in range(3))
        self._asking = httpx.AsyncClient(timeout=10, verify=False)
        self.sent: dict[str, float] = {}
        """What Alertmanager sent: receiver, alert and its partition, as `page ScripRedisDown 3`; and when first."""

    def _process(self, command: str, tree: Path, front: Forwarder, **env: str) -> Process:
        port = free_port()
        process = super()._process(command, tree, front, **env, SCRIP_METRICS_PORT=str(port))
        self.add_target(process, f"scrip-{command}", port)
        return process

    def add_target(self, process: Any, job: str, port: int) -> None:
        """Prometheus finds a process by this port."""
        self._targets[process] = job, port
        self._write_targets()

    async def forget(self, process: Process) -> None:
        """End a process, and let Prometheus forget it."""
        await process.close()
        del self._targets[process]
        self._write_targets()

    def _write_targets(self) -> None:
        groups = [{"targets": [f"127.0.0.1:{port}"], "labels": {"job": job}} for job, port in self._targets.values()]
        (self.folder / "targets.json").write_text(json.dumps(groups))

    @asynccontextmanager
    async def watching(self) -> AsyncIterator[None]:
        """Start a second worker, the sales, Prometheus with a history, and Alertmanager; all end with the block."""
        self.add_workers(2)
        if self._standbys:
            await self.database.add_standby()
        async with self.pool.acquire() as connection:
            await make_workspace(connection, "rival", "live")
        for name in RATES:
            await wait_until(partial(self._make_book, name), f"a book of {name}")
        async with self.ending:
            for name in RATES:
                await self.ending.enter_async_context(running(self.sell(name)))
            receiver = await asyncio.start_server(self._receive, "127.0.0.1", self._receiver_port)
            self.ending.callback(receiver.close)
            await self.ending.enter_async_context(self._alertmanager())
            await self.ending.enter_async_context(self._prometheus())
            yield
        await self._asking.aclose()

    @asynccontextmanager
    async def _alertmanager(self) -> AsyncIterator[None]:
        config = yaml.safe_load((SHIPPED / "alertmanager.yaml").read_text())
        for receiver in config["receivers"]:
            receiver["webhook_configs"] = [{"url": f"http://127.0.0.1:{self._receiver_port}/"}]
        options = f"--storage.path={self.folder / 'alertmanager'}", "--cluster.listen-address="
        async with self._program(ALERTMANAGER, config, self._alertmanager_port, *options):
            yield

    @asynccontextmanager
    async def _prometheus(self) -> AsyncIterator[None]:
        store = self.folder / "prometheus"
        await asyncio.to_thread(_write_history, store, is_worn=self._is_worn)
        times = {"scrape_interval": f"{INTERVAL_S}s", "evaluation_interval": f"{INTERVAL_S}s"}
        files = {"files": [str(self.folder / "targets.json")], "refresh_interval": f"{INTERVAL_S}s"}
        managers = [{"static_configs": [{"targets": [f"127.0.0.1:{self._alertmanager_port}"]}]}]
        config = {
            "global": times,
            "rule_files": [str(SHIPPED / "rules.yaml")],
            "scrape_configs": [{"job_name": "scrip", "file_sd_configs": [files]}],
            "alerting": {"alertmanagers": managers},
        }
        async with self._program("prometheus", config, self._prometheus_port, f"--storage.tsdb.path={store}"):
            await wait_until(self.alerts_or_none, "Prometheus")
            yield

    @asynccontextmanager
    async def _program(self, name: str, config: Any, port: int, *options: str) -> AsyncIterator[None]:
        file = self.folder / f"{name}.yaml"
        file.write_text(yaml.safe_dump(config))
        listen = f"--web.listen-address=127.0.0.1:{port}"
        with (self.folder / f"{name}.log").open("wb") as log:
            process = await asyncio.create_subprocess_exec(
                name, f"--config.file={file}", listen, *options, stdout=log, stderr=log
            )
        try:
            yield
        finally:
            process.terminate()
            await process.wait()

    async def _receive(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Note what Alertmanager sends, one message a connection."""
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        length = re.search(r"(?i)content-length: (\d+)", head)
        assert length
        message = json.loads(await reader.readexactly(int(length[1])))
        for alert in message["alerts"]:
            if alert["status"] == "firing":
                labels = alert["labels"]
                what = f"{message['receiver']} {labels['alertname']} {labels.get('partition', '')}".strip()
                self.sent.setdefault(what, time.monotonic())
                print(f"{time.strftime('%H:%M:%S')} {what}", file=sys.stderr, flush=True)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        await writer.drain()
        writer.close()

    async def alerts_or_none(self) -> list[str] | None:
        answer = await self._asking.get(f"http://127.0.0.1:{self._prometheus_port}/api/v1/alerts")
        if answer.status_code != 200:
            return None
        firing = [one["labels"] for one in answer.json()["data"]["alerts"] if one["state"] == "firing"]
        return [f"{one['severity']} {one['alertname']} {one.get('partition', '')}".strip() for one in firing] or [""]

    async def alerts(self) -> set[str]:
        """The alerts that fire, as `sent` has them; silenced ones, too."""
        return {*(await self.alerts_or_none() or ())} - {""}

    async def ask(self, method: str, path: str, body: Any = None, key: str = KEY) -> httpx.Response:
        """Send a request to the first API. A connection that fails counts as 503."""
        headers = {"Authorization": f"Bearer {key}"}
        try:
            return await self._asking.request(method, f"{self.urls[0]}{path}", json=body, headers=headers)
        except httpx.HTTPError:
            return httpx.Response(503)

    async def lock_table(self, name: str) -> Undo:
        """Lock a table of the record, in a transaction that may stay idle, as an operator's may."""
        unbounded = {"idle_in_transaction_session_timeout": "0"}
        connection = await asyncpg.connect(self.database.url, server_settings=unbounded)
        await connection.execute(f"BEGIN; LOCK TABLE {name}")
        return connection.close

    async def make(self, path: str, body: Any, key: str = KEY) -> Any:
        """Create something, again while it is refused; return it."""

        async def make() -> Any:
            answer = await self.ask("POST", path, body, key)
            return answer.status_code == 201 and answer.json()

        return await wait_until(make, path)

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

        await send_often(RATES[name], f"{name}_admin", buy)


async def send_often(rate: float, key: str, send: Callable[[httpx.AsyncClient, int], Awaitable[Any]]) -> None:
    """Send so many times a second, with a number each time, until cancelled, also while answers are late. A connection
    that fails is no error."""
    free = asyncio.Semaphore(_UNDER_WAY)

    async def send_one(number: int) -> None:
        try:
            with contextlib.suppress(httpx.HTTPError):
                await send(client, number)
        finally:
            free.release()

    began, number = time.monotonic(), 0
    async with (
        httpx.AsyncClient(timeout=10, verify=False, headers={"Authorization": f"Bearer {key}"}) as client,
        asyncio.TaskGroup() as group,
    ):
        while True:
            await free.acquire()
            group.create_task(send_one(number))
            number += 1
            due = began + number / rate
            await elapse(max(due - time.monotonic(), 0), "the pace of the load")
            began = max(began, time.monotonic() - number / rate)  # what was late is not made up for


def _write_history(folder: Path, *, is_worn: bool) -> None:
    """Write what Prometheus would have recorded of the objectives in some days: no error, or until an hour ago twice
    as many as are allowed."""
    timed = 2 * len(RATES) * APIS  # so seldom, an API times the first lock and redemption of each second
    rows = [("availability", 'slo="availability"', 2 * sum(RATES.values())), ("latency", 'slo="latency"', timed)]
    partitions = range(max(PARTITIONS, HOME + 1))
    rows += [("recording", f'slo="recording",partition="{partition}"', 1) for partition in partitions]
    end = int(time.time())
    lines: list[str] = []
    for name in ("bad", "all"):
        lines.append(f"# TYPE scrip:slo_{name}:rate1m gauge\n")
        for objective, labels, most in rows:
            before = most if name == "all" else 2 * _ALLOWED[objective] * most * is_worn
            last = most if name == "all" else 0
            series = f"scrip:slo_{name}:rate1m{{{labels}}}"
            times = range(end - _DAYS * 86400, end, INTERVAL_S)
            lines += [f"{series} {before if at < end - 3600 else last} {at}\n" for at in times]
    source = folder.with_suffix(".txt")
    source.write_text("".join([*lines, "# EOF\n"]))
    subprocess.run(
        ["promtool", "tsdb", "create-blocks-from", "openmetrics", source, folder], check=True, capture_output=True
    )

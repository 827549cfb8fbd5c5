"""Real servers and processes that fail on purpose: a primary and its replica behind one address, and the service."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import asyncpg
import httpx

from service.engine.formats import key_names
from service.engine.hot.fencing import parse_nonce
from service.engine.record import pool as postgres
from service.engine.record.partitions.partition_rows import Partition, read_partition
from tests.harness.cluster import CLUSTERED_PARTITIONS, Cluster, start_cluster
from tests.harness.running import HOME, PARTITIONS, data_folder
from tests.harness.sentinels import start_sentinels
from tests.harness.servers import VALKEY, free_port
from tests.harness.trees import ROOT, Change, changed
from tests.harness.waiting import PATIENCE_S
from tests.harness.workspaces import make_workspace
from tests.lab.faults.database import Database
from tests.lab.faults.disk import Clock, Preloads
from tests.lab.faults.nodes import Node, Sync, wait_until
from tests.lab.faults.proxy import Forwarder

APIS = 2
_ALARMS = (
    "partition_stopped", "script_failed", "event_quarantined", "event_not_redone",
    "code_left_out", "answer_left_out",
)  # fmt: skip
KEY = "drill_admin"
NEVER_STALLS = Change("service/engine/hot/connection.py", "STALL_S = 2.0", "STALL_S = 60.0")
"""For tests that allow no refusal: on a busy machine Redis may send nothing for two seconds."""


class Process:
    """A `scrip api` or `scrip worker` of a tree."""

    def __init__(self, command: str, tree: Path, env: dict[str, str], output: Path, clock: Clock | None) -> None:
        self._command, self._tree, self._env, self.output = command, tree, env, output
        self.clock: Clock
        if clock:
            self.clock, self._env = clock, env | clock.env
        self.start()

    @property
    def pid(self) -> int:
        return self._process.pid

    def start(self) -> None:
        """Start it, or start it again once it is killed."""
        with self.output.open("ab") as output:
            argv = [sys.executable, "-m", "service", self._command]
            self._process = subprocess.Popen(argv, cwd=self._tree, env=self._env, stdout=output, stderr=output)

    async def signal(self, which: signal.Signals) -> None:
        """Send a signal; of one that ends it, wait for the end."""
        self._process.send_signal(which)
        if which not in (signal.SIGSTOP, signal.SIGCONT):
            await asyncio.to_thread(self._process.wait, PATIENCE_S)

    @contextlib.asynccontextmanager
    async def asleep(self) -> AsyncIterator[None]:
        """Stop it with SIGSTOP inside the block."""
        await self.signal(signal.SIGSTOP)
        try:
            yield
        finally:
            await self.signal(signal.SIGCONT)

    async def close(self) -> None:
        """End it, whatever state it is in."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGCONT)
            self._process.terminate()
            try:
                await asyncio.to_thread(self._process.wait, PATIENCE_S)
            except subprocess.TimeoutExpired:
                self._process.kill()


class Deployment:
    """Two servers `primary` and `replica` behind `front`, a Postgres behind its own, and on them APIs and a worker that
    run a tree's code. The first API finds Redis by `side`, an address of its own. With preloads, power can be lost and
    clocks stepped. Without a replica the service needs no Postgres to decide. If sentinels watch the servers, processes
    find the primary by them, and not by `front` and `side`. With `clustered` three primaries with a replica each take
    the place of all of these; the APIs then reach Postgres by its front, and the workers past it. All end with the
    block."""

    def __init__(
        self,
        binary: Path,
        folder: Path,
        sync: Sync,
        *,
        replicated: bool = True,
        own_disks: bool = False,
        sentinels: int = 0,
        tree: Path = ROOT,
        standbys: int = 0,
        clustered: bool = False,
    ) -> None:
        folder.mkdir()
        self.sync: Sync = sync
        self.is_clustered = clustered
        self.cluster: Cluster
        self._replicated, self._sentinels = replicated, sentinels
        self._watching = contextlib.ExitStack()
        self._named = ""
        """The URL that names the sentinels, or the cluster."""
        self._disks: list[Path] = []
        self.binary, self.folder, self._tree = binary, folder, tree
        self.preloads = Preloads(folder / "preloads") if Preloads.possible() else None
        self.primary, self.replica = (Node(binary, folder / name, sync, self.preloads) for name in "ab")
        self.front, self.side = (Forwarder(self.primary.port) for _ in range(2))
        self.database = Database(folder / "record", self.preloads)
        if own_disks:
            self._mount(self.primary.folder, "48m")
            self._mount(folder / "record", "200m")
        self.pool: asyncpg.Pool
        self.workers: list[Process] = []
        self.urls: list[str] = []
        self.apis: list[Process] = []
        self._started: list[Process] = []
        self.held_keys: set[str] = set()
        """Idempotency keys of locks, which live in Redis alone."""
        self.headers = {"Authorization": f"Bearer {KEY}"}
        self.env: dict[str, str] = {}
        self._standbys = standbys

    async def __aenter__(self) -> Self:
        try:
            await self._open()
        except BaseException:
            await self.close()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def _open(self) -> None:
        """Start everything, and make a workspace."""
        partitions = max(PARTITIONS, CLUSTERED_PARTITIONS if self.is_clustered else 1)
        starting = asyncio.create_task(self.database.start("drill", partitions))
        for node in self._nodes:
            await node.link.start()
            await node.start()
        if self._replicated and not self.is_clustered:
            await self.replica.follow(self.primary)
        await self.front.start()
        await self.side.start()
        if self._sentinels:
            started = start_sentinels(self.binary, self.folder, self.primary.port, self._sentinels, replicas=1)
            self._named = f"redis+sentinel://{await asyncio.to_thread(self._watching.enter_context, started)}"
        if self.is_clustered:
            options = ("--appendonly", "yes", "--appendfsync", self.sync)
            started = start_cluster(self.binary, self.folder, *options)
            self.cluster = await asyncio.to_thread(self._watching.enter_context, started)
            self._named = self.cluster.url
        await starting
        self.pool = await postgres.connect(self.database.url)
        async with self.pool.acquire() as connection:
            await make_workspace(connection, "drill", "live", HOME)
        # As installed: without bytecode each start would compile the service again.
        own = ("SCRIP_", "PYTHONDONTWRITEBYTECODE")
        self.env = {name: value for name, value in os.environ.items() if not name.startswith(own)}
        # With replicas what an API knows must be fresh, and the front is as slow as we are.
        url = self.database.front_url if self.decides_alone else self.database.url
        self.env |= {"DATABASE_URL": url, "SCRIP_STANDBYS": str(self._standbys)}
        self.env |= {"SCRIP_RECONCILE_AT": "off"}
        self.add_workers(1)
        for front in [self.side, *[self.front] * (APIS - 1)]:
            api, url = self.make_api(self._tree, front)
            self.apis.append(api)
            self.urls.append(url)
        await self.until_ready()

    @property
    def named(self) -> str:
        """The URL that names the sentinels, or the cluster; '' without."""
        return self._named

    @property
    def _nodes(self) -> list[Node]:
        if self.is_clustered:
            return []
        return [self.replica, self.primary] if self._replicated else [self.primary]

    @property
    def decides_alone(self) -> bool:
        """Whether the service needs no Postgres to decide: Redis has no replica."""
        return not (self._replicated or self.is_clustered)

    @property
    def worker(self) -> Process:
        """The first one."""
        return self.workers[0]

    def add_workers(self, many: int) -> None:
        """Start more, until there are so many."""
        while len(self.workers) < many:
            self.workers.append(self.make_worker(self.front))

    def make_worker(self, front: Forwarder, **env: str) -> Process:
        """Start one more, which finds Redis by this front, with settings of its own, and return it."""
        return self._process("worker", self._tree, front, **env)

    def make_api(self, tree: Path | None = None, front: Forwarder | None = None, /, **env: str) -> tuple[Process, str]:
        """Start an API with settings of its own, perhaps of another tree, and return it with its address."""
        port = free_port()
        if self.is_clustered:
            env = {"DATABASE_URL": self.database.front_url} | env
        api = self._process("api", tree or self._tree, front or self.front, SCRIP_PORT=str(port), **env)
        return api, f"http://127.0.0.1:{port}"

    def _process(self, command: str, tree: Path, front: Forwarder, **env: str) -> Process:
        name = f"{command}{len(self._started)}"
        own = self._env_of(front) | env
        clock = self.preloads.clock(name) if self.preloads else None
        self._started.append(Process(command, tree, own, self.folder / f"{name}.log", clock))
        return self._started[-1]

    def _env_of(self, front: Forwarder) -> dict[str, str]:
        return self.env | {"REDIS_URL": self._named or f"redis://127.0.0.1:{front.port}/0"}

    @property
    def processes(self) -> list[Process]:
        return [*self.apis, *self.workers]

    async def command(self, *words: str, tree: Path | None = None) -> str:
        """Run a command of the tree, or of another one, which must succeed; return what it says."""
        argv, pipe = (sys.executable, "-m", "service", *words), asyncio.subprocess.PIPE
        running = await asyncio.create_subprocess_exec(
            *argv, cwd=tree or self._tree, env=self._env_of(self.front), stdout=pipe, stderr=asyncio.subprocess.STDOUT
        )
        output, _ = await running.communicate()
        assert running.returncode == 0, output.decode()
        return output.decode()

    async def close(self) -> None:
        await asyncio.gather(*(process.close() for process in self._started))
        await asyncio.to_thread(self._watching.close)
        self.front.stop()
        self.side.stop()
        await asyncio.gather(self.primary.close(), self.replica.close())
        if hasattr(self, "pool"):
            self.pool.terminate()
        await self.database.close()
        for disk in self._disks:
            subprocess.run(["umount", "--lazy", disk], check=True)  # noqa: ASYNC221, it is quick

    def _mount(self, folder: Path, size: str) -> None:
        """A disk of its own, in memory, for a folder."""
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size},mode=755", "tmpfs", folder], check=True)
        self._disks.append(folder)

    def client(self, url: str = "") -> httpx.AsyncClient:
        """A client with the deployment's key. Without `verify=False` it would read all certificates: 50 ms of CPU."""
        return httpx.AsyncClient(base_url=url, headers=self.headers, timeout=PATIENCE_S, verify=False)

    async def add_codes(self, *codes: str) -> None:
        """Add a book with these codes, each of one use."""
        async with self.client(self.urls[0]) as client:
            book = (await client.post("/v1/books", json={"name": "Sale"})).json()["bookId"]
            added = await client.post(f"/v1/books/{book}/codes", json={"codes": codes})
        assert added.json().get("added") == len(codes), added.text

    async def row(self) -> Partition:
        """The load's partition as Postgres has it; the others must open and stay open beside it."""
        partition = await self.pool.fetchval("SELECT partition FROM workspaces WHERE name = 'drill'")
        return await read_partition(self.pool, partition)

    def log_sizes(self) -> dict[Path, int]:
        """How many bytes each process has logged so far."""
        return {process.output: process.output.stat().st_size for process in self._started}

    def alarms(self, since: Mapping[Path, int]) -> list[str]:
        """The alarms that processes have logged since their logs had these sizes."""
        lines: list[str] = []
        for process in self._started:
            with process.output.open("rb") as log:
                log.seek(since.get(process.output, 0))
                lines += log.read().decode().splitlines()
        return [line for line in lines if any(f'"event": "{alarm}"' in line for alarm in _ALARMS)]

    async def until_ready(self) -> None:
        """All APIs are ready, no part of the service fails, and everything is recorded."""
        async with self.client() as client:

            async def ready() -> bool:
                for url in self.urls:
                    if (await client.get(f"{url}/health/ready")).json().get("failing") != []:
                        return False
                    now = await client.get(f"{url}/v1/ops/consistency")
                    if not now.is_success or (now.json()["state"], now.json()["lagEvents"]) != ("open", 0):
                        return False
                return True

            await wait_until(ready, "the service")

    async def until_fenced(self) -> None:
        """An epoch is open that the cluster fences."""

        async def is_fenced() -> bool:
            row = await self.row()
            return row.state == "open" and parse_nonce(row.nonce).fencing == "cluster"

        await wait_until(is_fenced, "the cluster's fencing")

    async def until_reopened(self, epoch: int, partition: int | None = None) -> None:
        """A later epoch than this one is open in the load's partition, or in another one."""

        async def reopened() -> bool:
            row = await (self.row() if partition is None else read_partition(self.pool, partition))
            return row.epoch > epoch and row.state == "open"

        await wait_until(reopened, f"a new epoch of partition {HOME if partition is None else partition}")

    async def until_trimmed(self) -> None:
        """The outbox has nothing but its anchor."""

        async def is_trimmed() -> bool:
            return await self.primary.client.xlen(key_names.outbox(HOME)) == 1

        await wait_until(is_trimmed, "an outbox without recorded events")

    async def kill_worker(self, wait_for_lease: bool) -> None:
        """Kill it, and start another. Its lease ends by itself in two seconds; else it is ended now."""
        await self.worker.signal(signal.SIGKILL)
        await self.start_worker(wait_for_lease)

    async def start_worker(self, wait_for_lease: bool) -> None:
        """Start it again once it is killed."""
        if not wait_for_lease:
            await self.pool.execute("DELETE FROM processes WHERE kind = 'worker'")
        self.worker.start()

    def start_beside(self, old: Process, tree: Path) -> tuple[Process, str]:
        """Start an API or a worker of a tree that will replace another; return it, and an API's address."""
        if old in self.workers:
            return self._process("worker", tree, self.front), ""
        return self.make_api(tree, self.side if old is self.apis[0] else self.front)

    async def end_replaced(self, old: Process, new: Process) -> None:
        processes = self.apis if old in self.apis else self.workers
        processes[processes.index(old)] = new
        await old.signal(signal.SIGTERM)

    def switch(self, *, side: bool = True) -> None:
        """The replica becomes the primary: its clients are cut and find it; those by `side` may keep the old one."""
        self.primary, self.replica = self.replica, self.primary
        for front in [self.front, self.side] if side else [self.front]:
            front.point(self.primary.port)
            front.cut()

    async def until_replaced(self) -> None:
        """The sentinels have made the replica the primary."""
        await wait_until(self.replica.leads, "a failover")
        self.primary, self.replica = self.replica, self.primary

    async def heal(self) -> None:
        """Make a pair of what is there: the other follows where clients go."""
        for front in (self.primary.link, self.replica.link, self.front, self.side, self.database.front):
            front.flow()
            front.delay_s = 0.0
        await self.database.start_again()
        for node in self._nodes:
            if not node.runs:
                await node.start()
        if self.is_clustered:
            await asyncio.to_thread(self.cluster.heal)
        elif self._replicated:
            await self.replica.follow(self.primary)


@contextlib.asynccontextmanager
async def own_deployment(
    binary: Path = VALKEY, sync: Sync = "always", changes: Sequence[Change] = (), **options: Any
) -> AsyncIterator[Deployment]:
    """A deployment in a folder of its own, whose processes run a copy of the tree with these changes."""
    with data_folder() as folder:
        tree = changed(changes, folder / "tree")
        async with Deployment(binary, folder / "stage", sync, tree=tree, **options) as deployment:
            yield deployment

"""Real servers that fail on purpose: a primary with its replica behind one address, and the processes on them."""

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, Literal, Self
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import httpx
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from service.domain.identity import SCOPES
from service.record import pool as postgres
from service.record.keys import create_key
from service.record.migrations import migrate
from service.record.partitions import Partition, ensure_partitions, read_partition
from service.record.workspaces import create_workspace
from tests.servers import free_port

Sync = Literal["always", "everysec", "nothing"]
"""What a server keeps on its disk."""

PATIENCE_S = 60.0
APIS = 2
_ALARMS = ("stopped", "script_failed", "event put into quarantine")
_KEY = "drill_admin"
_ROOT = Path(__file__).parents[2]


async def until(reached: Callable[[], Awaitable[Any]], what: str, patience_s: float = PATIENCE_S) -> Any:
    """What `reached` says once that is true; while something can't be reached it isn't."""
    deadline = asyncio.get_running_loop().time() + patience_s
    while True:
        with contextlib.suppress(OSError, RedisError, httpx.TransportError):
            if found := await reached():
                return found
        assert asyncio.get_running_loop().time() < deadline, f"waited too long for {what}"
        await asyncio.sleep(0.01)


class Forwarder:
    """One address; what connects is passed on to the port that it points to."""

    def __init__(self, target: int) -> None:
        self.port = free_port()
        self._target = target
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._writers: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None

    async def start(self) -> Self:
        """Listen."""
        self._server = await asyncio.start_server(self._passed, "127.0.0.1", self.port)
        return self

    def stop(self) -> None:
        """Listen no more, and cut."""
        if self._server:
            self._server.close()
        self.cut()

    def point(self, target: int) -> None:
        """Where connections go from now on."""
        self._target = target

    def hold(self) -> None:
        """Let nothing through until `flow`; nobody is told."""
        self._flowing.clear()

    def flow(self) -> None:
        """Let through again."""
        self._flowing.set()

    def cut(self) -> None:
        """Break all connections."""
        for writer in list(self._writers):
            writer.transport.abort()

    async def _passed(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            there, back = await asyncio.open_connection("127.0.0.1", self._target)
            self._writers.add(back)
            try:
                await asyncio.gather(self._pump(reader, back), self._pump(there, writer))
            finally:
                self._writers.discard(back)
                back.transport.abort()
        except OSError:
            pass
        finally:
            self._writers.discard(writer)
            writer.transport.abort()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            await self._flowing.wait()
            writer.write(data)
            await writer.drain()
        raise ConnectionResetError


class Node:
    """A Redis or Valkey; its replicas come by `link`, which may be held or cut."""

    def __init__(self, binary: Path, folder: Path, sync: Sync) -> None:
        folder.mkdir()
        self._binary, self.folder, self._sync = binary, folder, sync
        self.port = free_port()
        self.link = Forwarder(self.port)
        self.process: subprocess.Popen[bytes] | None = None
        self.client = Redis(port=self.port, retry=Retry(NoBackoff(), 0), decode_responses=True, socket_timeout=5)

    async def start(self) -> Self:
        """Start it on what is in its folder, and wait until it answers. An RDB there is read where no AOF is."""
        aof = self._sync != "nothing" and not (self.folder / "dump.rdb").exists()
        options = f"""--port {self.port} --bind 127.0.0.1 --dir {self.folder} --appendonly {"yes" if aof else "no"}
            --appendfsync {"everysec" if self._sync == "nothing" else self._sync} --no-appendfsync-on-rewrite no
            --aof-load-truncated yes --repl-diskless-sync-delay 0 --repl-ping-replica-period 1 --repl-timeout 5
            --maxmemory-policy noeviction --logfile {self.folder / "log"}""".split()
        self.process = subprocess.Popen([self._binary, *options, "--save", ""])  # noqa: ASYNC220, it is quick
        await until(self.client.ping, "a server")
        if not aof and self._sync != "nothing":
            await self.client.config_set("appendonly", "yes")
            await until(self._rewritten, "its first AOF")
            (self.folder / "dump.rdb").unlink()
        return self

    async def kill(self) -> None:
        """As its machine's end."""
        if self.process and self.process.poll() is None:
            self.process.kill()
            await asyncio.to_thread(self.process.wait)
        await self.client.connection_pool.disconnect()

    async def close(self) -> None:
        """The end of it."""
        self.link.stop()
        await self.kill()
        await self.client.aclose()

    async def save(self) -> Path:
        """A copy of what it holds now."""
        await until(self._idle, "a fork")
        await self.client.bgsave()
        await until(self._idle, "a dump")
        return (self.folder / "dump.rdb").rename(self.folder / "kept.rdb")

    async def load(self, dump: Path) -> None:
        """Stop it, and start it on a copy that was made before."""
        await self.kill()
        shutil.rmtree(self.folder / "appendonlydir", ignore_errors=True)
        dump.rename(self.folder / "dump.rdb")  # noqa: ASYNC240, it is quick
        await self.start()

    def cut_file(self, length: int) -> None:
        """Take so many bytes from the end of its AOF, as a loss of power may. Not while it runs."""
        os.truncate(self._file, max(0, self._file.stat().st_size - length))

    def cut_within_transaction(self) -> None:
        """Take the end of its AOF, from amid the command that ends what its last script wrote. Not while it runs."""
        os.truncate(self._file, self._file.read_bytes().rindex(b"*1\r\n$4\r\nEXEC") + 6)

    @property
    def _file(self) -> Path:
        return max((self.folder / "appendonlydir").glob("*.incr.aof"), key=lambda path: path.stat().st_mtime)

    async def follow(self, primary: "Node") -> None:
        """Be a replica of it; returns once it has everything."""
        await self._replicaof("127.0.0.1", str(primary.link.port))
        await until(self._followed, "a replica")

    async def lead(self) -> None:
        """Be a primary."""
        await self._replicaof("NO", "ONE")

    async def outbox(self) -> dict[str, str]:
        """What was decided, by event id."""
        entries: Any = await self.client.xrange("{p0}:outbox")
        return {name: fields["d"] for name, fields in entries}

    async def _replicaof(self, *where: str) -> None:
        """Once it takes commands: a replica may be loading what it was sent."""
        await until(partial(self.client.execute_command, "REPLICAOF", *where), "a server that follows")

    async def _idle(self) -> bool:
        info = await self.client.info("persistence")
        return not info["rdb_bgsave_in_progress"] and not info["aof_rewrite_in_progress"]

    async def _rewritten(self) -> bool:
        info = await self.client.info("persistence")
        return await self._idle() and not info["aof_rewrite_scheduled"] and info["aof_last_bgrewrite_status"] == "ok"

    async def _followed(self) -> bool:
        info = await self.client.info("replication")
        return info.get("master_link_status") == "up" and not info.get("master_sync_in_progress")


class Process:
    """A `scrip api` or `scrip worker`."""

    def __init__(self, command: str, env: dict[str, str], output: Path) -> None:
        self._command, self._env, self.output = command, env, output
        self._start()

    def restart(self) -> None:
        """Start it again, once killed."""
        self._start()

    def _start(self) -> None:
        with self.output.open("ab") as output:
            argv = [sys.executable, "-m", "service", self._command]
            self._process = subprocess.Popen(argv, cwd=_ROOT, env=self._env, stdout=output, stderr=output)

    async def signal(self, which: signal.Signals) -> None:
        """Send a signal; of one that ends it, wait for the end."""
        self._process.send_signal(which)
        if which not in (signal.SIGSTOP, signal.SIGCONT):
            await asyncio.to_thread(self._process.wait, 20)

    async def close(self) -> None:
        """End it, whatever state it is in."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGCONT)
            self._process.terminate()
            try:
                await asyncio.to_thread(self._process.wait, 20)
            except subprocess.TimeoutExpired:
                self._process.kill()


class Stage:
    """Two servers `primary` and `replica` behind `front`, and on them APIs, a worker and a database. The first API
    finds Redis by `side`, an address of its own."""

    def __init__(self, binary: Path, folder: Path, sync: Sync, database_url: str) -> None:
        folder.mkdir()
        self.sync: Sync = sync
        self.binary, self.folder, self.database_url = binary, folder, database_url
        self.primary, self.replica = (Node(binary, folder / name, sync) for name in "ab")
        self.front, self.side = (Forwarder(self.primary.port) for _ in range(2))
        self.pool: asyncpg.Pool
        self.worker: Process
        self.urls: list[str] = []
        self.apis: list[Process] = []
        self.workspace = 0
        self.held_keys: set[str] = set()
        """Idempotency keys of locks, which live in Redis alone."""
        self.headers = {"Authorization": f"Bearer {_KEY}"}

    async def open(self) -> Self:
        """Start everything, and make a workspace."""
        for node in (self.primary, self.replica):
            await node.link.start()
            await node.start()
        await self.replica.follow(self.primary)
        await self.front.start()
        await self.side.start()
        self.pool = await postgres.connect(self.database_url)
        await ensure_partitions(self.pool, 1)
        async with self.pool.acquire() as connection:
            row = await create_workspace(connection, "drill")
            await create_key(connection, row.workspace, "admin", list(SCOPES), _KEY)
        self.workspace = row.workspace
        env = {name: value for name, value in os.environ.items() if not name.startswith("SCRIP_")}
        env |= {"REDIS_URL": f"redis://127.0.0.1:{self.front.port}/0", "DATABASE_URL": self.database_url}
        env["SCRIP_LOG_FORMAT"] = "json"
        self.worker = Process("worker", env, self.folder / "worker.log")
        for number, front in enumerate([self.side, *[self.front] * (APIS - 1)]):
            port = free_port()
            own = {"SCRIP_PORT": str(port), "REDIS_URL": f"redis://127.0.0.1:{front.port}/0"}
            self.apis.append(Process("api", env | own, self.folder / f"api{number}.log"))
            self.urls.append(f"http://127.0.0.1:{port}")
        await self.until_ready()
        return self

    async def close(self) -> None:
        """End everything."""
        await asyncio.gather(*(process.close() for process in (*self.apis, self.worker)))
        self.front.stop()
        self.side.stop()
        await asyncio.gather(self.primary.close(), self.replica.close())
        await self.pool.close()

    async def row(self) -> Partition:
        """The partition as Postgres has it."""
        return await read_partition(self.pool, 0)

    def alarms(self) -> list[str]:
        """What its processes have said so far that nothing here may make them say."""
        outputs = [process.output for process in (*self.apis, self.worker)]
        lines = [line for output in outputs for line in output.read_text().splitlines()]
        return [line for line in lines if any(f'"event": "{alarm}"' in line for alarm in _ALARMS)]

    async def until_ready(self) -> None:
        """All APIs say that they are ready, and everything is recorded."""
        async with httpx.AsyncClient(headers=self.headers, timeout=10) as client:

            async def ready() -> bool:
                for url in self.urls:
                    if (await client.get(f"{url}/health/ready")).status_code != 200:
                        return False
                    told = await client.get(f"{url}/v1/ops/consistency")
                    if told.status_code != 200 or (told.json()["state"], told.json()["lagEvents"]) != ("open", 0):
                        return False
                return True

            await until(ready, "the service")

    async def until_reopened(self, epoch: int) -> None:
        """Another epoch than this one is open."""

        async def reopened() -> bool:
            row = await self.row()
            return row.epoch > epoch and row.state == "open"

        await until(reopened, "a new epoch")

    async def kill_worker(self, wait_for_lease: bool) -> None:
        """Kill it, and start another. Its lease ends by itself in ten seconds; else it is ended now."""
        await self.worker.signal(signal.SIGKILL)
        if not wait_for_lease:
            await self.pool.execute("UPDATE partitions SET lease_until = now()")
        self.worker.restart()

    def switch(self, *, side: bool = True) -> None:
        """The replica takes the primary's place: its clients are cut, and find the other; those that come by `side`
        may be left with the old one."""
        self.primary, self.replica = self.replica, self.primary
        for front in [self.front, self.side] if side else [self.front]:
            front.point(self.primary.port)
            front.cut()

    async def heal(self) -> None:
        """Make a pair of what is there: the other follows where clients go."""
        self.primary.link.flow()
        self.replica.link.flow()
        if self.replica.process is None or self.replica.process.poll() is not None:
            await self.replica.start()
        if self.primary.process is None or self.primary.process.poll() is not None:
            await self.primary.start()
        await self.replica.follow(self.primary)


@asynccontextmanager
async def staged(binary: Path, folder: Path, sync: Sync, postgres_url: str, name: str) -> AsyncIterator[Stage]:
    """A stage with a database of its own in this Postgres."""
    connection = await asyncpg.connect(postgres_url)
    await connection.execute(f"CREATE DATABASE {name}")
    await connection.close()
    database_url = urlunsplit(urlsplit(postgres_url)._replace(path=f"/{name}"))
    await migrate(database_url)
    stage = Stage(binary, folder, sync, database_url)
    try:
        yield await stage.open()
    finally:
        await stage.close()

"""A Redis or Valkey that fails on purpose."""

import asyncio
import os
import random
import shutil
import signal
import subprocess
from functools import partial
from pathlib import Path
from typing import Any, Literal, Self

import asyncpg
import httpx
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from service.engine.formats import key_names
from tests.harness import waiting
from tests.harness.running import HOME
from tests.harness.servers import free_port
from tests.lab.faults.disk import Clock, Disk, Preloads
from tests.lab.faults.proxy import Forwarder

Sync = Literal["always", "everysec", "nothing"]
"""What a server keeps on its disk."""

_AWAY = (OSError, RedisError, httpx.TransportError, asyncpg.PostgresError, asyncpg.InterfaceError)

wait_until = partial(waiting.wait_until, away=_AWAY)
"""While something can't be reached, what is waited for is not there."""


class Node:
    """A server; replicas come by `link`, which may be held or cut. With preloads, clocks step and power is lost."""

    def __init__(self, binary: Path, folder: Path, sync: Sync, preloads: Preloads | None) -> None:
        folder.mkdir()
        self._binary, self.folder, self._sync = binary, folder, sync
        self.port = free_port()
        self.link = Forwarder(self.port)
        self.process: subprocess.Popen[bytes] | None = None
        self.client = Redis(port=self.port, retry=Retry(NoBackoff(), 0), decode_responses=True, socket_timeout=5)
        self.clock: Clock
        self._disk: Disk
        self._env = dict(os.environ)
        if preloads:
            self.clock, self._disk = preloads.clock(folder.name), preloads.disk(folder.name, folder)
            libraries = f"{self.clock.env['LD_PRELOAD']}:{self._disk.env['LD_PRELOAD']}"
            self._env |= self.clock.env | self._disk.env | {"LD_PRELOAD": libraries}

    @property
    def runs(self) -> bool:
        return self.process is not None and self.process.poll() is None

    async def start(self) -> Self:
        """Start it on what is in its folder, and wait until it answers. An RDB there is read where no AOF is."""
        aof = self._sync != "nothing" and not (self.folder / "dump.rdb").exists()
        options = f"""--port {self.port} --bind 127.0.0.1 --dir {self.folder} --appendonly {"yes" if aof else "no"}
            --appendfsync {"everysec" if self._sync == "nothing" else self._sync} --no-appendfsync-on-rewrite no
            --aof-load-truncated yes --repl-diskless-sync-delay 0 --repl-ping-replica-period 1 --repl-timeout 5
            --maxmemory 1gb --maxmemory-policy noeviction --logfile {self.folder / "log"}""".split()
        command = [self._binary, *options, "--save", ""]
        self.process = subprocess.Popen(command, env=self._env)  # noqa: ASYNC220, it is quick
        await wait_until(self.client.ping, "a server")
        if not aof and self._sync != "nothing":
            await self.client.config_set("appendonly", "yes")
            await wait_until(self._rewritten, "its first AOF")
            (self.folder / "dump.rdb").unlink()
        return self

    def signal(self, which: signal.Signals) -> None:
        assert self.process
        self.process.send_signal(which)

    async def kill(self) -> None:
        """As its machine's end."""
        if self.process and self.process.poll() is None:
            self.process.kill()
            await asyncio.to_thread(self.process.wait)
        await self.client.connection_pool.disconnect()

    async def lose_power(self, dice: random.Random) -> int:
        """Kill it, and take back what had not reached the disk; how many writes that was."""
        await self.kill()
        return self._disk.lose_power(dice)

    async def close(self) -> None:
        self.link.stop()
        await self.kill()
        await self.client.aclose()

    async def save(self) -> Path:
        """A copy of what it holds now."""
        await wait_until(self._idle, "a fork")
        await self.client.bgsave()
        await wait_until(self._idle, "a dump")
        return (self.folder / "dump.rdb").rename(self.folder / "kept.rdb")

    async def load(self, dump: Path) -> None:
        """Stop it, and start it on a copy that was made before."""
        await self.kill()
        shutil.rmtree(self.folder / "appendonlydir", ignore_errors=True)
        dump.rename(self.folder / "dump.rdb")  # noqa: ASYNC240, it is quick
        await self.start()

    async def copy_files(self) -> Path:
        """A copy of its data folder, made while it writes."""
        await wait_until(self._idle, "a fork")
        copy = self.folder.with_name(f"{self.folder.name}-copy")
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(self.folder / "appendonlydir", copy)
        return copy

    async def start_on(self, copy: Path) -> None:
        """Stop it, and start it on a copy of its data folder."""
        await self.kill()
        shutil.rmtree(self.folder / "appendonlydir")
        shutil.copytree(copy, self.folder / "appendonlydir")
        await self.start()

    def cut_within_transaction(self) -> None:
        """Take the end of its AOF, from amid the command that ends what its last script wrote. Not while it runs."""
        os.truncate(self._file, self._file.read_bytes().rindex(b"*1\r\n$4\r\nEXEC") + 6)

    @property
    def _file(self) -> Path:
        return max((self.folder / "appendonlydir").glob("*.incr.aof"), key=lambda path: path.stat().st_mtime)

    async def follow(self, primary: "Node") -> None:
        """Be a replica of it; returns once it has everything."""
        await self._replicaof("127.0.0.1", str(primary.link.port))
        await wait_until(self._followed, "a replica")

    async def lead(self) -> None:
        await self._replicaof("NO", "ONE")

    async def leads(self) -> bool:
        return (await self.client.info("replication"))["role"] == "master"

    async def outbox(self) -> dict[str, str]:
        """What was decided, by event id."""
        entries: Any = await self.client.xrange(key_names.outbox(HOME))
        return {name: fields["e"].partition("\n")[0] for name, fields in entries}

    async def _replicaof(self, *where: str) -> None:
        """Once it takes commands: a replica may be loading what it was sent."""
        await wait_until(partial(self.client.execute_command, "REPLICAOF", *where), "a server that follows")

    async def _idle(self) -> bool:
        info = await self.client.info("persistence")
        return not info["rdb_bgsave_in_progress"] and not info["aof_rewrite_in_progress"]

    async def _rewritten(self) -> bool:
        info = await self.client.info("persistence")
        return await self._idle() and not info["aof_rewrite_scheduled"] and info["aof_last_bgrewrite_status"] == "ok"

    async def _followed(self) -> bool:
        info = await self.client.info("replication")
        return info.get("master_link_status") == "up" and not info.get("master_sync_in_progress")

"""A Postgres that fails on purpose, behind one address."""

import contextlib
import os
import random
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Self
from urllib.parse import parse_qs, urlsplit, urlunsplit

import asyncpg

from service.common.child_processes import ChildProcess
from service.engine.worker.script_versions import migrate_version
from service.server.embedded.postgres import Postgres
from tests.harness.running import data_folder
from tests.lab.faults.disk import Disk, Preloads
from tests.lab.faults.nodes import wait_until
from tests.lab.faults.proxy import Forwarder


class _Server(Postgres):
    """The embedded server, with more in its environment."""

    def __init__(self, folder: Path, keep_fd: int, env: dict[str, str]) -> None:
        self._more = env
        super().__init__(folder, keep_fd)

    def _make_child(self, name: str, *options: str, stop_signal: signal.Signals = signal.SIGTERM) -> ChildProcess:
        child = super()._make_child(name, *options, stop_signal=stop_signal)
        child.env |= self._more
        return child

    async def copy(self, primary: str, *, as_standby: bool = True) -> None:
        """Make its data a copy of the server's at this address, which it follows as a standby."""
        if self._account is not None:
            self._allow_traversal()
        self._folder.mkdir(mode=0o700)
        self._change_owner(self._folder)
        options = ("-D", str(self._folder), "-d", primary, "--checkpoint=fast")
        options += ("--write-recovery-conf",) if as_standby else ()
        copying = self._make_child("pg_basebackup", *options)
        await copying.start()
        assert await copying.wait() == 0, copying.read_log_tail()
        (self._folder / ".s.PGSQL.5432.lock").unlink(missing_ok=True)  # the primary's


async def start_standby(folder: Path, keep_fd: int, link: Forwarder) -> _Server:
    """Start an asynchronous standby in this folder, which receives the record by `link`."""
    folder.mkdir()  # noqa: ASYNC240, it is quick
    await link.start()
    standby = _Server(folder, keep_fd, {})
    await standby.copy(f"host=127.0.0.1 port={link.port} user=postgres")
    await standby.start()
    return standby


@asynccontextmanager
async def standby_of(database_url: str) -> AsyncIterator[str]:
    """Start an asynchronous standby of an embedded Postgres, and yield the URL of the same database there."""
    link, keep_fd = Forwarder(_socket_of(database_url)), os.open(os.devnull, os.O_RDONLY)
    with data_folder() as folder:
        standby = await start_standby(folder / "standby", keep_fd, link)
        try:
            yield _of_database(standby.url, urlsplit(database_url).path)
        finally:
            link.stop()
            await standby.stop()
            os.close(keep_fd)


class Database:
    """A Postgres with its data in a folder. The service comes by `front`; we come by its socket."""

    def __init__(self, folder: Path, preloads: Preloads | None) -> None:
        folder.mkdir(parents=True)
        self._disk: Disk
        env: dict[str, str] = {}
        if preloads:
            self._disk = preloads.disk("postgres", folder / "postgres")
            env = self._disk.env
        self._keep_fd = os.open(os.devnull, os.O_RDONLY)
        self._server = _Server(folder, self._keep_fd, env)
        socket = _socket_of(self._server.url)
        self._folder, self._socket = folder, socket
        self.front, self.link = Forwarder(socket), Forwarder(socket)
        """Where the service comes in, and where the standby does."""
        self._standby: _Server | None = None
        self._killed: list[_Server] = []
        """What is not in use: killed, or a copy."""
        self._copies = 0
        self.url = ""
        """Of the database, past the front."""
        self.front_url = ""

    async def start(self, name: str, partitions: int) -> Self:
        """Start it, with an empty database of this name, migrated."""
        await self._server.start()
        await self.front.start()
        connection = await asyncpg.connect(self._server.url)
        await connection.execute(f"CREATE DATABASE {name}")
        await connection.close()
        self.url = _of_database(self._server.url, f"/{name}")
        self.front_url = f"postgresql://postgres@127.0.0.1:{self.front.port}/{name}"
        await migrate_version(self.url, partitions=partitions)
        return self

    async def start_again(self) -> None:
        """Start it on what is there, and wait until it answers."""
        if self._server.child.pid is None:
            await self._server.start()
        await wait_until(self._answers, "Postgres")

    def signal(self, which: signal.Signals) -> None:
        """Send all of its processes a signal."""
        for pid in self._processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, which)

    async def kill(self) -> None:
        """As its machine's end."""
        pids = self._processes()
        self.signal(signal.SIGSTOP)  # so that none is started in between
        self.signal(signal.SIGKILL)
        if self._server.child.pid is not None:
            await self._server.child.wait()
        await wait_until(lambda: not any(_lives(pid) for pid in pids), "the end of Postgres's processes")

    async def add_standby(self) -> None:
        """Start a standby, asynchronous, which receives the record by `link`."""
        self._copies += 1
        folder = self._folder.with_name(f"{self._folder.name}-standby{self._copies}")
        self._standby = await start_standby(folder, self._keep_fd, self.link)

    async def add_late_standby(self) -> None:
        """Start a standby that receives nothing from now on."""
        await self.add_standby()
        self.link.hold()

    @property
    def standby_socket(self) -> Path:
        assert self._standby
        return _socket_of(self._standby.url)

    async def standby_rows(self, statement: str) -> list[asyncpg.Record]:
        assert self._standby
        address = _of_database(self._standby.url, urlsplit(self.url).path)
        connection = await asyncpg.connect(address)
        try:
            return await connection.fetch(statement)
        finally:
            await connection.close()

    async def promote(self) -> None:
        """The primary dies, and the standby takes its place and addresses, without what it has not received."""
        assert self._standby
        await self.kill()
        self.link.stop()
        self.link.flow()
        # Not waited for in the statement: replaying the rest may cancel any statement of a standby.
        await self.standby_rows("SELECT pg_promote(wait => false)")
        await wait_until(self._standby_promoted, "the promotion")
        self._put_in_place(self._standby)
        self._standby = None

    async def _standby_promoted(self) -> bool:
        with contextlib.suppress(asyncpg.SerializationError, asyncpg.PostgresConnectionError):
            return not (await self.standby_rows("SELECT pg_is_in_recovery()"))[0][0]
        return False

    async def back_up(self) -> None:
        """Copy all of its data, for `restore`."""
        self._copies += 1
        folder = self._folder.with_name(f"{self._folder.name}-{self._copies}")
        folder.mkdir()
        backup = _Server(folder, self._keep_fd, {})
        await self.link.start()
        await backup.copy(f"host=127.0.0.1 port={self.link.port} user=postgres", as_standby=False)
        self.link.stop()
        self._killed.append(backup)

    async def restore(self) -> None:
        """Put the other one of it and the last copy in its place, at the same addresses."""
        await self.kill()
        self._put_in_place(self._killed.pop())
        await self.start_again()

    def _put_in_place(self, server: _Server) -> None:
        """Make this the server at the addresses, instead of the one that was killed."""
        self._killed.append(self._server)
        self._server = server
        self._socket.unlink(missing_ok=True)
        if (socket := _socket_of(server.url)) != self._socket:
            self._socket.symlink_to(socket)

    async def lose_power(self, dice: random.Random) -> int:
        """Kill it, and take back what had not reached the disk; how many writes that was."""
        await self.kill()
        return self._disk.lose_power(dice)

    async def close(self) -> None:
        self.front.stop()
        self.link.stop()
        self.signal(signal.SIGCONT)
        for server in filter(None, (self._standby, self._server, *self._killed)):
            await server.stop()
        os.close(self._keep_fd)

    async def _answers(self) -> bool:
        connection = await asyncpg.connect(self.url, timeout=5)
        await connection.close()
        return True

    def _processes(self) -> list[int]:
        """The first one, and its children: they have no children of their own."""
        pid = self._server.child.pid
        if pid is None:
            return []
        children = Path(f"/proc/{pid}/task/{pid}/children")
        with contextlib.suppress(OSError):
            return [pid, *map(int, children.read_text().split())]
        return [pid]


def _of_database(url: str, path: str) -> str:
    return urlunsplit(urlsplit(url)._replace(path=path))


def _socket_of(url: str) -> Path:
    return Path(parse_qs(urlsplit(url).query)["host"][0], ".s.PGSQL.5432")


def _lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False

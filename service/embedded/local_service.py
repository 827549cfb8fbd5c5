"""`scrip run`: the whole service on one machine, with servers of its own where none are named."""

import asyncio
import contextlib
import fcntl
import json
import os
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator, Iterator
from http import HTTPStatus
from pathlib import Path

import asyncpg
import click
import structlog

from service.common import logs
from service.common.child_processes import ChildProcess, StartError
from service.common.config import Settings
from service.embedded import demo, exposure
from service.embedded.postgres import Postgres
from service.embedded.valkey import Valkey
from service.record.migrations import MigrationError, migrate
from service.record.partitions.partition_rows import NotMigrated, check_partitions

_READY_DEADLINE_S = 30.0
_ASK_TIMEOUT_S = 2.0
_LEFTOVER_DEADLINE_S = 10.0
_POLL_S = 0.05
_SUPERVISED_STOP_S = 12.0
"""Each of several API processes has 10 s."""
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

_log = structlog.get_logger(__name__)


def run(settings: Settings) -> None:
    """Run everything until Ctrl-C or SIGTERM. Raises StartError where something can't start."""
    logs.configure(settings, "run")
    asyncio.run(_run(settings))


async def _run(settings: Settings) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in _SIGNALS:
        # Under nohup a lost terminal is meant to change nothing.
        if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
            # Asking twice changes nothing: make and other runners pass on a signal that we have had already.
            loop.add_signal_handler(number, stop.set)
    async with _data_dir(settings.data_dir) as lock_fd:
        if settings.database_url is None:
            exposure.check_host(settings)
        _check_port(settings)
        everything = _Everything(settings, lock_fd)
        starting = asyncio.create_task(everything.start())
        stopping = asyncio.create_task(stop.wait())
        try:
            await asyncio.wait({starting, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if starting.done():
                starting.result()
                await stopping
                _log.info("stopping")
        finally:
            starting.cancel()
            await asyncio.gather(starting, return_exceptions=True)
            await everything.stop()


class _Everything:
    """All parts of the service.

    1. Valkey and Postgres, at the same time, where the settings name none.
    2. The schema, and in an embedded Postgres the demo data.
    3. The API, one process or several under a supervisor of theirs, and one worker.
    4. Once the API says it is ready: `run.json`, and what there is to try.
    5. At the end the API, the worker, Valkey and Postgres, one after the other.
    """

    def __init__(self, settings: Settings, lock_fd: int) -> None:
        self._settings = settings
        self._lock_fd = lock_fd
        self._valkey = Valkey(settings.data_dir, lock_fd) if settings.redis_url is None else None
        self._postgres = Postgres(settings.data_dir, lock_fd) if settings.database_url is None else None
        self._redis_url = self._valkey.url if self._valkey else settings.redis_url or ""
        self._database_url = self._postgres.url if self._postgres else settings.database_url or ""
        self._api_pids: list[int] = []
        self._several = settings.api_processes > 1
        self._api = self._supervised_api() if self._several else self._python("api")
        self._worker = self._python("worker")
        self._servers = [server for server in (self._valkey, self._postgres) if server is not None]
        self._published = False
        for part in self._parts():
            part.on_change = self._write_pids

    async def start(self) -> None:
        """Start all parts and wait until the service is ready. Raises StartError."""
        try:
            async with asyncio.TaskGroup() as group:
                for server in self._servers:
                    group.create_task(server.start())
        except* StartError as errors:
            raise errors.exceptions[0] from None
        for server in self._servers:
            server.part.watch()
        await self._prepare_database()
        for part in (self._worker, self._api):
            try:
                await part.start()
            except OSError as error:
                raise StartError(f"The {part.name} can't be started: {error}.") from error
            part.watch()
        await self._until_ready()
        self._published = True
        self._write_pids()
        self._greet()

    async def stop(self) -> None:
        """Stop all parts in order, each within its deadline."""
        self._published = False
        await self._api.stop()
        await self._worker.stop()
        for server in self._servers:
            await server.stop()
        self._run_json.unlink(missing_ok=True)

    def _parts(self) -> Iterator[ChildProcess]:
        yield self._api
        yield self._worker
        for server in self._servers:
            yield server.part

    def _python(self, command: str, *options: str) -> ChildProcess:
        env = {
            **os.environ,
            "REDIS_URL": self._redis_url,
            "DATABASE_URL": self._database_url,
            "SCRIP_EMBEDDED": str(self._postgres is not None),
        }
        return ChildProcess(command, [sys.executable, "-m", "service", command, *options], env, keep_fd=self._lock_fd)

    def _supervised_api(self) -> ChildProcess:
        """Several API processes, of which their supervisor tells us."""
        self._told_fd, tell_fd = os.pipe()
        api = self._python("api", "--tell-fd", str(tell_fd))
        api.more_fds, api.stop_deadline_s = (tell_fd,), _SUPERVISED_STOP_S
        asyncio.get_running_loop().add_reader(self._told_fd, self._hear_pids)
        return api

    def _hear_pids(self) -> None:
        lines = os.read(self._told_fd, 1 << 16).splitlines()
        self._api_pids = json.loads(lines[-1])
        self._write_pids()

    async def _prepare_database(self) -> None:
        try:
            with contextlib.suppress(NotMigrated):
                await self._check_partitions()
            await migrate(self._database_url)
            if self._postgres:
                await demo.seed(self._database_url, self._settings.partitions)
            else:
                await exposure.check_keys(self._settings)
        except (OSError, MigrationError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
            raise StartError(f"The database can't be prepared: {error}") from error

    async def _check_partitions(self) -> None:
        """Before anything is changed. Raises UnusableRecord."""
        connection = await asyncpg.connect(self._database_url)
        try:
            await check_partitions(connection, self._settings.partitions)
        finally:
            await connection.close()

    async def _until_ready(self) -> None:
        """Wait for the API's word. Without any by the deadline it won't come; what is being recovered may take long."""
        deadline = time.monotonic() + _READY_DEADLINE_S
        while (missing := await _missing(self._settings.host, self._settings.port)) is not None:
            answered, reason = missing
            if time.monotonic() > deadline:
                if not answered:
                    raise StartError(f"Not ready after {_READY_DEADLINE_S:.0f} s: {reason}.")
                _log.warning("not ready yet", missing=reason)
                deadline += _READY_DEADLINE_S
            await asyncio.sleep(_POLL_S)

    @property
    def _run_json(self) -> Path:
        return self._settings.data_dir / "run.json"

    @property
    def _url(self) -> str:
        host = _reachable(self._settings.host)
        return f"http://{f'[{host}]' if ':' in host else host}:{self._settings.port}"

    def _write_pids(self) -> None:
        """Put the addresses and pids into run.json, whole or not at all; readable by us alone, for the URLs' sake."""
        if not self._published:
            return
        pids: dict[str, list[int]] = {"api": [], "worker": [], "redis": [], "postgres": []}
        for part in self._parts():
            if part.pid is not None:
                pids[part.name].append(part.pid)
        if self._several:
            pids["apiSupervisor"], pids["api"] = pids["api"], self._api_pids
        found = {"url": self._url, "redisUrl": self._redis_url, "databaseUrl": self._database_url, "pids": pids}
        unfinished = self._run_json.with_suffix(".new")
        unfinished.touch(mode=0o600)
        unfinished.write_text(json.dumps(found, indent=2) + "\n")
        unfinished.replace(self._run_json)

    def _greet(self) -> None:
        lines = [
            f"Scrip is ready at {self._url}",
            f"  API page  {self._url}/schema",
            f"  Checkout  {self._url}/checkout",
            f"  Console   {self._url}/console",
        ]
        if self._postgres:
            lines += [
                f"  Keys      {' '.join(demo.SECRETS)}",
                f"  Try       curl -H 'Authorization: Bearer demo_manage' {self._url}/v1/books",
            ]
        click.echo("\n".join([*lines, "  Stop      Ctrl-C"]))


@contextlib.asynccontextmanager
async def _data_dir(folder: Path) -> AsyncIterator[int]:
    """Own the data folder: a lock that our processes share, so that it is free only when the last of them is gone.

    Processes of a run that was killed are waited for. Raises StartError where another run lives.
    """
    descriptor = _open_lock(folder)
    try:
        await _take_lock(descriptor, folder)
        (folder / "run.json").unlink(missing_ok=True)
        yield descriptor
    finally:
        os.close(descriptor)


def _open_lock(folder: Path) -> int:
    try:
        # Passed through by Postgres' account where we are root; what is in it has rights of its own.
        folder.mkdir(mode=0o711 if os.geteuid() == 0 else 0o700, parents=True, exist_ok=True)
        return os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise StartError(
            f"SCRIP_DATA_DIR {folder} can't be used: {error.strerror}. Name a folder that can be written."
        ) from error


async def _take_lock(descriptor: int, folder: Path) -> None:
    deadline = time.monotonic() + _LEFTOVER_DEADLINE_S
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(descriptor, 20, 0).decode(errors="replace").strip()
            if _alive(holder):
                raise StartError(
                    f"{folder} is in use by another `scrip run` (pid {holder}): "
                    "stop that one, or set SCRIP_DATA_DIR and SCRIP_PORT for a second."
                ) from None
            if time.monotonic() > deadline:
                raise StartError(
                    f"{folder} is still in use by processes of an earlier `scrip run`: end the pids in its run.json."
                ) from None
            await asyncio.sleep(_POLL_S)
        else:
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, str(os.getpid()).encode(), 0)
            return


def _alive(pid: str) -> bool:
    if not pid.isdigit():
        return False
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def _check_port(settings: Settings) -> None:
    """Raises StartError where the API could not listen."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    with socket.socket(family) as probe:
        # As the API does it: connections of an earlier run that are still closing are no hindrance.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((settings.host, settings.port))
        except OSError as error:
            raise StartError(
                f"{settings.host}:{settings.port} can't be used: {error.strerror}. "
                "Stop what listens there, or set SCRIP_PORT (and SCRIP_HOST)."
            ) from error


def _reachable(host: str) -> str:
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - compared, not bound


async def _missing(host: str, port: int) -> tuple[bool, str] | None:
    """What `GET /health/ready` says is missing, and whether it answered at all; None when nothing is."""
    try:
        async with asyncio.timeout(_ASK_TIMEOUT_S):
            reader, writer = await asyncio.open_connection(_reachable(host), port)
            try:
                writer.write(b"GET /health/ready HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
                answer = await reader.read()
            finally:
                writer.close()
        head, _, body = answer.partition(b"\r\n\r\n")
        if int(head.split(maxsplit=2)[1]) == HTTPStatus.OK:
            return None
    except (OSError, IndexError, ValueError) as error:
        return False, f"the API does not answer ({type(error).__name__})"
    with contextlib.suppress(ValueError, KeyError, TypeError):
        return True, ", ".join(json.loads(body)["failing"]) + " not ready"
    return True, "no reason given"

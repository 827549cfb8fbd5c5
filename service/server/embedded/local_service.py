"""`scrip run`: the whole service on one machine, with embedded servers unless the settings name others.
process_commands.py calls `run`. Commands find a running service by its `run.json` (running_service.py)."""

import asyncio
import contextlib
import fcntl
import json
import os
import shutil
import signal
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
from service.common.free_ports import resolve_free
from service.common.tally import is_alive
from service.engine.record.migrations import MigrationError
from service.engine.worker.script_versions import migrate_version
from service.server.embedded import demo_data, exposure
from service.server.embedded.postgres import Postgres
from service.server.embedded.valkey import Valkey

_READY_DEADLINE_S = 30.0
_HEALTH_TIMEOUT_S = 2.0
_LOCK_DEADLINE_S = 10.0
_POLL_S = 0.05
_API_STOP_S = 12.0
"""The API's processes end their requests within 8 s."""
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

_log = structlog.get_logger(__name__)


def run(settings: Settings, partitions: int | None) -> None:
    """Run until Ctrl-C or SIGTERM; a new database gets `partitions`, or 1. Raises StartError if a part can't start."""
    logs.configure(settings.log_level, "run")
    asyncio.run(_run(settings, partitions))


async def _run(settings: Settings, partitions: int | None) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in _SIGNALS:
        # nohup sets SIGHUP to be ignored; keep that.
        if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
            # A second signal changes nothing: make and other runners forward one that the terminal already sent.
            loop.add_signal_handler(number, stop.set)
    async with _lock_data_dir(settings.data_dir) as lock_fd:
        if settings.database_url is None:
            exposure.check_host(settings)
        resolve_free(settings.host, settings.port, "port with --port or SCRIP_PORT")
        if settings.metrics_port is not None:
            for port in (settings.metrics_port, settings.metrics_port + 1):
                resolve_free(settings.host, port, "SCRIP_METRICS_PORT")
        service = _LocalService(settings, partitions, lock_fd)
        starting = asyncio.create_task(service.start())
        stopping = asyncio.create_task(stop.wait())
        try:
            await asyncio.wait({starting, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if starting.done():
                starting.result()
                await stopping
                click.echo("\nStopping")
        finally:
            starting.cancel()
            await asyncio.gather(starting, return_exceptions=True)
            await service.stop()


class _LocalService:
    """All processes of the service.

    1. Start Valkey and Postgres in parallel, unless the settings name other servers.
    2. Migrate the database, and seed the demo data if it is embedded.
    3. Start one worker and the API, which starts SCRIP_API_PROCESSES processes.
    4. Once `/health/ready` succeeds, write `run.json` and print the addresses.
    5. To stop, end the API, the worker, Valkey and Postgres, one after the other.
    """

    def __init__(self, settings: Settings, partitions: int | None, lock_fd: int) -> None:
        self._settings, self._partitions = settings, partitions
        self._lock_fd = lock_fd
        self._valkey = Valkey(settings.data_dir, lock_fd) if settings.redis_url is None else None
        self._postgres = Postgres(settings.data_dir, lock_fd) if settings.database_url is None else None
        self._redis_url = self._valkey.url if self._valkey else settings.redis_url or ""
        self._database_url = self._postgres.url if self._postgres else settings.database_url or ""
        self._api = self._make_process("api")
        self._api.stop_deadline_s = _API_STOP_S
        self._worker = self._make_process("worker")
        self._servers = [server for server in (self._valkey, self._postgres) if server is not None]
        self._is_published = False
        for child in self._children():
            child.on_change = self._write_run_json

    async def start(self) -> None:
        """Start all processes and wait until the API is ready. Raises StartError."""
        if self._servers:
            names = " and ".join(type(server).__name__ for server in self._servers)
            click.echo(f"Starting {names}, with data in {self._settings.data_dir}")
        try:
            async with asyncio.TaskGroup() as group:
                for server in self._servers:
                    group.create_task(server.start())
        except ExceptionGroup as errors:
            if (failed := errors.subgroup(StartError)) is None:
                raise
            raise failed.exceptions[0] from None
        for server in self._servers:
            server.child.watch()
        await self._prepare_database()
        click.echo("Starting the worker and the API")
        for child in (self._worker, self._api):
            try:
                await child.start()
            except OSError as error:
                raise StartError(f"The {child.name} can't be started: {error}.") from error
            child.watch()
        await self._wait_until_ready()
        self._is_published = True
        self._write_run_json()
        self._print_addresses()

    async def stop(self) -> None:
        """Stop all processes in order, each within its deadline."""
        self._is_published = False
        await self._api.stop()
        await self._worker.stop()
        for server in self._servers:
            await server.stop()
        self._run_json_path.unlink(missing_ok=True)

    def _children(self) -> Iterator[ChildProcess]:
        yield self._api
        yield self._worker
        for server in self._servers:
            yield server.child

    def _make_process(self, command: str) -> ChildProcess:
        env = {
            **os.environ,
            "REDIS_URL": self._redis_url,
            "DATABASE_URL": self._database_url,
            "SCRIP_PORT": str(self._settings.port),
        }
        if (port := self._settings.metrics_port) is not None:  # both are on this host
            env["SCRIP_METRICS_PORT"] = str(port if command == "api" else port + 1)
        options = [] if self._postgres is None else ["--embedded"]
        return ChildProcess(command, [sys.executable, "-m", "service", command, *options], env, keep_fd=self._lock_fd)

    async def _prepare_database(self) -> None:
        try:
            await migrate_version(self._database_url, partitions=self._partitions, default=demo_data.PARTITIONS)
            if self._postgres:
                await demo_data.seed(self._database_url)
            else:
                await exposure.check_keys(self._settings)
        except (OSError, MigrationError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
            raise StartError(f"The database can't be prepared: {error}") from error

    async def _wait_until_ready(self) -> None:
        """Wait until the API is ready. Raises StartError if it does not reply by the deadline.

        While it replies that it is not ready, the wait goes on: a recovery may take long.
        """
        deadline = time.monotonic() + _READY_DEADLINE_S
        while (failure := await _probe_ready(self._settings.host, self._settings.port)) is not None:
            has_replied, reason = failure
            if time.monotonic() > deadline:
                if not has_replied:
                    raise StartError(f"Not ready after {_READY_DEADLINE_S:.0f} s: {reason}.")
                _log.warning("service_not_ready", missing=reason)
                deadline += _READY_DEADLINE_S
            await asyncio.sleep(_POLL_S)

    @property
    def _run_json_path(self) -> Path:
        return self._settings.data_dir / "run.json"

    @property
    def _url(self) -> str:
        host = _choose_client_host(self._settings.host)
        return f"http://{f'[{host}]' if ':' in host else host}:{self._settings.port}"

    def _write_run_json(self) -> None:
        """Write addresses and pids to run.json, atomically. Mode 0600, since the URLs may hold passwords."""
        if not self._is_published:
            return
        pids: dict[str, list[int]] = {"api": [], "worker": [], "redis": [], "postgres": []}
        for child in self._children():
            if child.pid is not None:
                pids[child.name].append(child.pid)
        content = {"url": self._url, "redisUrl": self._redis_url, "databaseUrl": self._database_url, "pids": pids}
        unfinished = self._run_json_path.with_suffix(".new")
        unfinished.touch(mode=0o600)
        unfinished.write_text(json.dumps(content, indent=2) + "\n")
        unfinished.replace(self._run_json_path)

    def _print_addresses(self) -> None:
        width, is_demo = len(self._url) + len("/checkout  "), self._postgres is not None
        pages = (
            ("Checkout", "/checkout", "a mock shop: apply SUMMER-A, and press Pay"),
            ("Console", "/console", "sign in with demo_admin, and start a flash sale"),
            ("API page", "/schema", "every request, with examples"),
        )
        lines = ["", f"Scrip is ready at {self._url}"]
        for name, path, try_this in pages:
            lines.append(f"  {name:<9} {self._url + path:<{width}}{try_this if is_demo else ''}".rstrip())
        if is_demo:
            lines += [
                f"  Keys      {' '.join(demo_data.SECRETS)}",
                f"  Try       curl -H 'Authorization: Bearer demo_manage' {self._url}/v1/books",
                f"  Again     `{_name_command()} demo reset` in another terminal restores the codes that were used",
            ]
        click.echo("\n".join([*lines, "  Stop      Ctrl-C; the next start has the same data"]))


def _name_command() -> str:
    """How a shell here finds `scrip`: `make run` starts that of .venv."""
    called = sys.argv[0]
    return called if called.endswith("bin/scrip") and shutil.which("scrip") is None else "scrip"


@contextlib.asynccontextmanager
async def _lock_data_dir(folder: Path) -> AsyncIterator[int]:
    """Lock the data folder; yields the lock's descriptor. All child processes inherit it, so the last one frees it.

    Waits for the remaining processes of a killed run. Raises StartError if another run is alive.
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
        # As root, Postgres runs in another account and needs to traverse the folder; the files in it have own modes.
        folder.mkdir(mode=0o711 if os.geteuid() == 0 else 0o700, parents=True, exist_ok=True)
        return os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise StartError(
            f"SCRIP_DATA_DIR {folder} can't be used: {error.strerror}. Set it to a writable folder."
        ) from error


async def _take_lock(descriptor: int, folder: Path) -> None:
    deadline = time.monotonic() + _LOCK_DEADLINE_S
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(descriptor, 20, 0).decode(errors="replace").strip()
            if holder.isdigit() and is_alive(int(holder)):
                raise StartError(
                    f"{folder} is in use by another `scrip run` (pid {holder}): "
                    "stop that one, or set another SCRIP_DATA_DIR and SCRIP_PORT."
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


def _choose_client_host(host: str) -> str:
    """Return the address at which a client of this machine reaches a server that listens on `host`."""
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - compared, not bound


async def _probe_ready(host: str, port: int) -> tuple[bool, str] | None:
    """Call `GET /health/ready`. None: ready; else whether the API replied, and the reason why it is not ready."""
    try:
        async with asyncio.timeout(_HEALTH_TIMEOUT_S):
            reader, writer = await asyncio.open_connection(_choose_client_host(host), port)
            with contextlib.closing(writer):
                writer.write(b"GET /health/ready HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
                response = await reader.read()
        head, _, body = response.partition(b"\r\n\r\n")
        if int(head.split(maxsplit=2)[1]) == HTTPStatus.OK:
            return None
    except (OSError, IndexError, ValueError) as error:
        return False, f"the API does not answer ({type(error).__name__})"
    with contextlib.suppress(ValueError, KeyError, TypeError):
        return True, ", ".join(json.loads(body)["failing"]) + " not ready"
    return True, "no reason given"

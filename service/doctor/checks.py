"""Looking at everything, part by part, whichever of them are there."""

import asyncio
import contextlib
from collections.abc import Iterator
from urllib.parse import parse_qs, urlsplit

import asyncpg
import hiredis

from service.common import config, logs
from service.common.config import Settings, SettingsError
from service.doctor.partition_reader import InRedis, look_in_record, look_in_redis
from service.doctor.report import Check, Report
from service.doctor.server_logs import postgres_logs, redis_logs
from service.doctor.verdicts import advise, judge_record, judge_redis
from service.hot.connection import Broken, Connection, connect
from service.hot.fitness import Fitness
from service.hot.redis_server import Server
from service.record import pool as postgres
from service.record.migrations import MigrationError, missing
from service.record.partitions.partition_rows import (
    Partition,
    WrongPartitions,
    check_partitions,
    read_partitions,
    recorded_partitions,
)

NAME = "scrip-doctor"
POSTGRES_TIMEOUT_S = 5
PATIENCE_S = 2.0
"""As long as a worker may take to record what was there when we looked."""
LOOK_S = 0.1
TYPES_S = 2.0
"""For looking at the types of keys, of all partitions: as many as that allows."""
FULL, NEARLY_FULL = 0.95, 0.8


def examined() -> Report:
    """What is to be said, by the settings of the environment."""
    try:
        settings = config.load()
    except SettingsError as error:
        says = error.message.replace("\n ", "")
        return Report([Check("settings", "bad", says, "Set them right, in the environment or in .env.")])
    logs.configure(settings, "doctor")
    return asyncio.run(_examine(settings))


async def _examine(settings: Settings) -> Report:
    urls = settings.find_servers()
    if None in urls:
        return Report(
            [
                Check(
                    "settings",
                    "bad",
                    "REDIS_URL and DATABASE_URL are not set, and no `scrip run` is running here",
                    "Set both, or start `scrip run` with this SCRIP_DATA_DIR.",
                )
            ]
        )
    examination = _Examination(settings, *map(str, urls))
    async with contextlib.AsyncExitStack() as stack:
        await examination.examine(stack)
    return Report(examination.checks, examination.unreachable, examination.unusable)


class _Examination:
    """1. Postgres: reachable, fit, migrated, made for as many partitions as the settings say.
    2. Redis: reachable, fit, how safe its answers are, its memory.
    3. Each partition: what Postgres says; what Redis says; what is unrecorded gets two seconds to be recorded.
    """

    def __init__(self, settings: Settings, redis_url: str, database_url: str) -> None:
        self._settings, self._redis_url, self._database_url = settings, redis_url, database_url
        self.checks: list[Check] = [Check("settings", "ok", f"for {settings.partitions} partition(s)")]
        self.unreachable: list[str] = []
        self.unusable = False

    async def examine(self, stack: contextlib.AsyncExitStack) -> None:
        rows: list[Partition] = []
        record = await self._postgres()
        if record is not None:
            stack.callback(record.terminate)
            with self._answering("postgres"):
                rows = await self._record(record)
        redis = await self._redis()
        if redis is not None:
            stack.callback(redis.close)
            with self._answering("redis"):
                self.checks += _server(await Server(redis, 0).fitness(), self._redis_url)
                self.checks.append(await redis_logs(redis))
        if record is not None:
            with self._answering("postgres"):
                await self._partitions(record, redis, rows)

    async def _postgres(self) -> asyncpg.Connection | None:
        try:
            return await asyncpg.connect(
                self._database_url,
                timeout=POSTGRES_TIMEOUT_S,
                command_timeout=POSTGRES_TIMEOUT_S,
                server_settings={"application_name": NAME},
            )
        except (*postgres.ERRORS, ValueError) as error:
            self._away("postgres", error)
            return None

    async def _redis(self) -> Connection | None:
        try:
            return await connect(self._redis_url, NAME)
        except (OSError, Broken, ValueError) as error:
            self._away("redis", error)
            return None

    async def _record(self, connection: asyncpg.Connection) -> list[Partition]:
        """The partitions' rows; none where the schema isn't ours."""
        version = connection.get_server_version()
        where = f"PostgreSQL {version.major}.{version.minor} at {_place(self._database_url)}"
        unfit = await postgres.unfit_reason(connection)
        self.checks.append(Check("postgres", "bad" if unfit else "ok", where, unfit or ""))
        self.checks.append(await postgres_logs(connection))
        await connection.execute("SET default_transaction_read_only = on")
        try:
            lacking = await missing(connection)
        except MigrationError as error:
            self.checks.append(
                Check("migrations", "bad", str(error), "Run the version that made the database, or newer.")
            )
            return []
        if lacking:
            self.checks.append(Check("migrations", "bad", f"missing: {', '.join(lacking)}", "Run `scrip migrate`."))
            return []
        self.checks.append(Check("migrations", "ok", "all are applied"))
        recorded = await recorded_partitions(connection)
        try:
            await check_partitions(connection, self._settings.partitions)
        except WrongPartitions as wrong:
            self.unusable = True
            self.checks.append(
                Check("partitions", "bad", f"{wrong.code}: {wrong}", f"Set SCRIP_PARTITIONS={recorded}.")
            )
        else:
            self.checks.append(
                Check("partitions", "bad", "none were made yet", "Start `scrip worker`.")
                if recorded is None
                else Check("partitions", "ok", f"{recorded}")
            )
        return await read_partitions(connection)

    async def _partitions(self, record: asyncpg.Connection, redis: Connection | None, rows: list[Partition]) -> None:
        seen: dict[int, InRedis] = {}
        if redis is not None:
            with self._answering("redis"):
                for row in rows:
                    seen[row.id] = await look_in_redis(Server(redis, row.id), row, TYPES_S / len(rows))
        after = rows
        for _ in range(round(PATIENCE_S / LOOK_S)):
            if not any(row.unrecorded(seen[row.id].last) for row in after if row.id in seen):
                break
            await asyncio.sleep(LOOK_S)
            after = await read_partitions(record)
        for before, later in zip(rows, after, strict=False):
            in_record = await look_in_record(record, before.id)
            checks = [*judge_record(before, in_record)]
            if before.id in seen:
                checks += judge_redis(before, later, seen[before.id])
            self.checks += advise(checks, in_record.failing)

    @contextlib.contextmanager
    def _answering(self, server: str) -> Iterator[None]:
        """Say so where a server no longer answers."""
        errors = postgres.ERRORS if server == "postgres" else (Broken, hiredis.ReplyError)
        try:
            yield
        except errors as error:
            self._away(server, error)

    def _away(self, server: str, error: BaseException) -> None:
        if server in self.unreachable:
            return
        url = self._database_url if server == "postgres" else self._redis_url
        self.unreachable.append(server)
        self.checks.append(
            Check(
                server,
                "bad",
                f"can't be asked at {_place(url)}: {_reason(error)}",
                f"See that it runs, and that {'DATABASE_URL' if server == 'postgres' else 'REDIS_URL'} is right.",
            )
        )


def _server(found: Fitness, url: str) -> Iterator[Check]:
    """What a Redis says of itself."""
    yield Check("redis", "bad" if found.unfit else "ok", f"{found.server} at {_place(url)}", found.unfit or "")
    if found.hidden:
        yield Check(
            "redis settings",
            "warning",
            f"it refuses {', '.join(found.hidden)}",
            "Allow these to our user, or see yourself that maxmemory-policy is noeviction.",
        )
    if found.fsynced:
        yield Check("durability", "ok", "`fsynced`: every answer is on Redis's disk")
    else:
        yield Check(
            "durability",
            "warning",
            "`accepted`: a crash of Redis may lose the last answers",
            "Set appendonly yes and appendfsync always, or ask for `recorded` where it matters.",
        )
    yield _memory(found)
    if found.evicted:
        yield Check(
            "evicted",
            "warning",
            f"{found.evicted} keys since Redis started: each start of a worker rebuilds",
            "Set maxmemory-policy to noeviction; when all is open again, CONFIG RESETSTAT.",
        )
    yield Check("replicas", "ok", f"{found.replicas}")


def _memory(found: Fitness) -> Check:
    used_mb = found.used_bytes / 1e6
    if not found.max_bytes:
        return Check("memory", "ok", f"{used_mb:,.1f} MB used, no limit set")
    part = found.used_bytes / found.max_bytes
    state = "bad" if part >= FULL else "warning" if part >= NEARLY_FULL else "ok"
    says = f"{used_mb:,.1f} of {found.max_bytes / 1e6:,.1f} MB used ({part:.0%})"
    return Check("memory", state, says, "" if state == "ok" else "Raise maxmemory: a full Redis refuses to decide.")


def _place(url: str) -> str:
    """Where a server is: never its user, its password or its options, which may hold one."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        return "its URL"  # of several hosts, or broken
    host = host or parse_qs(parts.query).get("host", [""])[0]
    return f"{host}{f':{port}' if port else ''}{'' if '@' in parts.path else parts.path}"


def _reason(error: BaseException) -> str:
    """What the server or the system says; what a library says of a URL may quote it."""
    if isinstance(error, asyncpg.PostgresError | hiredis.ReplyError):
        return str(error)
    if isinstance(error, OSError):
        return error.strerror or str(error) or type(error).__name__
    return type(error).__name__

"""Runs all checks of `scrip doctor`. An unreachable server fails only its own checks. process_commands.py calls
`examine`. Names of checks are in the JSON (report.py); texts are free."""

import asyncio
import contextlib
import time
from collections.abc import Iterator, Sequence
from typing import cast
from urllib.parse import parse_qs, urlsplit

import asyncpg
import hiredis
import msgspec

from service.common import config, logs
from service.common.config import Settings, SettingsError
from service.common.plurals import count_noun
from service.common.redis_address import Host, parse_redis_address
from service.common.running_service import Unusable, find_service
from service.common.tracebacks import find_reason
from service.engine.formats import key_names
from service.engine.hot.cluster import Report as ClusterReport
from service.engine.hot.cluster import SlotMap
from service.engine.hot.connection import Broken, Connection, ask_report, connect
from service.engine.hot.discovery import AccessRefused, SentinelView, advise_access, ask_sentinels, read_slots
from service.engine.hot.fencing import choose_nonce
from service.engine.hot.fitness import Fitness, Replication
from service.engine.hot.redis_server import Server
from service.engine.record import pool as postgres
from service.engine.record.login_roles import find_missing_rights
from service.engine.record.migrations import MigrationError, missing
from service.engine.record.partitions.partition_rows import NotMigrated, Partition, check_partitions, read_partitions
from service.engine.record.partitions.standby_rows import read_flushed
from service.engine.record.processes import measure_clock, read_descriptions
from service.engine.record.program_versions import WrongNumber
from service.engine.record.queries import query
from service.engine.record.server_state import read_server_state
from service.engine.record.sessions import LOGINS, unbound_reason
from service.server.doctor.deployment_checks import (
    judge_archive,
    judge_clients,
    judge_clocks,
    judge_connections,
    judge_sentinels,
    list_clocks,
)
from service.server.doctor.partition_reader import RedisState, read_record_state, read_redis_state
from service.server.doctor.report import Check, Report
from service.server.doctor.server_logs import check_postgres_logs, check_redis_logs
from service.server.doctor.verdicts import judge_record, judge_redis, judge_standbys, replace_advice
from service.server.in_postgres.comparisons import read_last_comparisons
from service.server.in_postgres.report_rollups import compare_newest_hours

NAME = "scrip-doctor"
POSTGRES_TIMEOUT_S = 5
SLOW_S = 0.3
"""A Postgres is slow if the fastest of three answers takes longer."""
RECORD_DEADLINE_S = 2.0
"""Time for the worker to record the events that Redis held when it was read."""
POLL_S = 0.1
TYPES_TIMEOUT_S = 2.0
"""Time for the types of keys, shared by all partitions."""
REPORTS_S = 2.0
"""Time to compare roll-ups of reports with facts, shared by all partitions."""
ENOUGH_LOCKS = 256
"""Locks a transaction of Postgres: a query over all months takes some 17 for each."""
IDENTITY = "SELECT system_identifier, current_database() FROM pg_control_system()"
"""Equal in a primary and its physical replicas."""
_HERE = "this machine"
FULL_SHARE, NEARLY_FULL_SHARE = 0.95, 0.8
"""Shares of maxmemory from which the memory is `bad` and `warning`."""


def examine() -> Report:
    """Load the settings, examine both servers and return the report."""
    try:
        settings = config.load()
    except SettingsError as error:
        says = error.message.replace("\n ", "")
        check = Check("settings", "bad", says, "Correct them in the environment or in .env.")
        return Report([check], unusable=True)
    logs.configure(settings.log_level, "doctor")
    return asyncio.run(_examine(settings))


async def _examine(settings: Settings) -> Report:
    try:
        service = find_service(settings, "REDIS_URL", "DATABASE_URL")
    except Unusable as unset:
        return Report([Check("settings", "bad", unset.message)], unusable=True)
    examination = _Examination(settings, service.redis_url, service.database_url)
    async with contextlib.AsyncExitStack() as stack:
        await examination.run(stack)
    return Report(examination.checks, examination.unreachable, examination.unusable)


class _Examination:
    """Runs the checks in order.

    1. Postgres: reachable, fit, migrated, its number of partitions, its connections and archive.
    2. Redis: sentinels, reachable, fit, its durability and memory, and whether scripts may compute the names of keys.
    3. The clocks of both, of this machine and of all processes.
    4. Each partition: its state in Postgres and in Redis. The worker has two seconds to record the outbox.
    """

    def __init__(self, settings: Settings, redis_url: str, database_url: str) -> None:
        self._settings, self._database_url = settings, database_url
        self._address = parse_redis_address(redis_url)
        self._slots: SlotMap | None = None
        """Of a cluster."""
        self._redis: dict[Host | None, Connection] = {}
        """By the node of a cluster; else there is one, of None."""
        self._sentinels: Sequence[SentinelView | None] = ()
        self._ahead_s: dict[str, float] = {}
        """By how much clocks are ahead of Postgres's."""
        self._lost: set[tuple[str, Host | None]] = set()
        self.checks: list[Check] = [_judge_settings(config.find_misspelt())]
        self.unreachable: list[str] = []
        self.unusable = False

    async def run(self, stack: contextlib.AsyncExitStack) -> None:
        rows: list[Partition] = []
        record = await self._connect_postgres()
        if record is not None:
            stack.callback(record.terminate)
            with self._catch_unreachable("postgres"):
                rows = await self._check_record(record)
            with self._catch_unreachable("postgres"):
                await self._check_read_replica(record)
        if self._address.service:
            self._sentinels = await ask_sentinels(self._address)
            self.checks.append(judge_sentinels(self._address.hosts, self._sentinels))
        with self._catch_unreachable("redis"):
            await self._connect_redis(stack)
        for host, redis in self._redis.items():
            with self._catch_unreachable("redis", host):
                await self._check_server(host, redis)
        if len(self._ahead_s) > 1:
            self.checks.append(judge_clocks(self._ahead_s))
        if record is not None and rows:
            with self._catch_unreachable("postgres"):
                await self._check_partitions(record, rows)

    async def _connect_postgres(self) -> asyncpg.Connection | None:
        try:
            return await postgres.connect_once(
                self._database_url,
                name=NAME,
                command_timeout=POSTGRES_TIMEOUT_S,
                statement_cache_size=0,  # no statement has a name, which a pooler that the URL does not name may know
            )
        except (*postgres.ERRORS, ValueError) as error:
            self._add_unreachable("postgres", error)
            return None

    async def _connect_redis(self, stack: contextlib.AsyncExitStack) -> None:
        """Connect to the server; of a cluster, to each primary. Raises OSError and Broken."""
        address = self._address
        if address.is_cluster:
            self._slots = await read_slots(address)
        for host in sorted(self._slots.hosts) if self._slots else [None]:
            with self._catch_unreachable("redis", host):
                redis = self._redis[host] = await connect(address.at(host) if host else address, NAME)
                stack.callback(redis.close)

    def _host_of(self, partition: int) -> Host | None:
        """The key of `_redis` for a partition."""
        return self._slots.host_of(partition) if self._slots else None

    async def _check_server(self, host: Host | None, redis: Connection) -> None:
        asked_s = time.time()
        fitness = await Server(redis, 0).fitness()
        if fitness.clock_us and self._ahead_s:
            read_s = (asked_s + time.time()) / 2
            self._ahead_s[f"Redis {host or self._address}"] = fitness.clock_us / 1e6 - read_s + self._ahead_s[_HERE]
        report = await ask_report(redis) if self._slots else None
        known = [view.replicas for view in self._sentinels if view] + ([report.count_replicas()] if report else [])
        durability, address = self._settings.redis_durability, str(host or self._address)
        self.checks += _judge_server(fitness, report, address, durability, max(known, default=0))
        if host == self._host_of(0):
            self.checks.append(await check_computed_keys(redis))
        self.checks.append(await check_redis_logs(redis))
        if self._slots:
            self.checks.append(await check_coverage(redis))

    async def _check_record(self, connection: asyncpg.Connection) -> list[Partition]:
        """Check Postgres and return the rows of the partitions; none if the schema does not fit this version."""
        version = str(connection.get_settings().server_version).partition(" ")[0]  # without the package's name
        took_s = await _time_answer(connection)
        says = f"PostgreSQL {version} at {_describe_address(self._database_url)} answers in {took_s * 1000:.0f} ms"
        pooled = postgres.is_pooled(self._database_url)
        unbound = await unbound_reason(connection, pooled)
        unfit = unbound or await postgres.unfit_reason(connection)
        slow = "Look at its disk and the network: docs/operations.md#scrippostgresdown." if took_s > SLOW_S else ""
        self.checks.append(Check("postgres", "bad" if unfit else "warning" if slow else "ok", says, unfit or slow))
        self.checks.append(await check_postgres_logs(connection))
        if not (pooled or unbound):  # a pooler, also one that the URL does not name, would give this session to others
            await connection.execute("SET default_transaction_read_only = on")
        try:
            missing_migrations = await missing(connection)
        except MigrationError as error:
            advice = "Run the version of scrip that migrated the database, or a newer one."
            self.checks.append(Check("migrations", "bad", str(error), advice))
            return []
        except WrongNumber as wrong:
            self.unusable = True
            advice = "Run a version of scrip that fits the database: see docs/upgrading.md."
            self.checks.append(Check("migrations", "bad", f"{wrong.code}: {wrong}", advice))
            return []
        if missing_migrations:
            says = f"missing: {', '.join(missing_migrations)}"
            self.checks.append(Check("migrations", "bad", says, "Run `scrip migrate`."))
            return []
        self.checks.append(Check("migrations", "ok", "all are applied"))
        self.checks.append(await self._check_partition_count(connection))
        self.checks.append(await _check_rights(connection))
        self.checks.append(await _check_months(connection))
        self.checks.append(await _check_locks(connection))
        processes = await read_descriptions(connection)
        server = await read_server_state(connection)
        self._ahead_s = list_clocks(processes, _HERE, await measure_clock(connection))
        self.checks.append(judge_connections(server, processes, is_pooled=pooled))
        self.checks.append(judge_clients(processes))
        self.checks.append(judge_archive(server))
        rows = await read_partitions(connection)
        if rows and (wanted := self._settings.standbys):
            self.checks.append(judge_standbys(await read_flushed(connection, 0, wanted), wanted))
        return rows

    async def _check_read_replica(self, record: asyncpg.Connection) -> None:
        """Check that DATABASE_READ_URL, if it is set, names the database of `record` on a server with the same data."""
        url = self._settings.database_read_url
        if url is None:
            return
        says, advice = f"at {_describe_address(url)}", "Correct DATABASE_READ_URL: docs/deploy.md#postgres."
        try:
            replica = await postgres.connect_once(url, name=NAME, command_timeout=POSTGRES_TIMEOUT_S)
            try:
                identity = await replica.fetchrow(IDENTITY)
            finally:
                replica.terminate()
        except (*postgres.ERRORS, ValueError) as error:
            says = f"unreachable {says}: {_describe_error(error)}"
            advice = "Check that it runs, and that DATABASE_READ_URL is right: docs/operations.md#scripstandby."
            self.checks.append(Check("read replica", "bad", says, advice))
            return
        if identity == await record.fetchrow(IDENTITY):
            self.checks.append(Check("read replica", "ok", says))
        else:
            self.checks.append(Check("read replica", "bad", f"{says}: no copy of the database of DATABASE_URL", advice))

    async def _check_partition_count(self, connection: asyncpg.Connection) -> Check:
        try:
            return Check("partitions", "ok", f"{await check_partitions(connection)}")
        except NotMigrated:
            return Check("partitions", "bad", "the database has none yet", "Run `scrip migrate`.")

    async def _check_partitions(self, record: asyncpg.Connection, rows: list[Partition]) -> None:
        states: dict[int, RedisState] = {}
        for row in rows:
            host = self._host_of(row.id)
            if host in self._redis:
                with self._catch_unreachable("redis", host):
                    server = Server(self._redis[host], row.id)
                    states[row.id] = await read_redis_state(server, row, TYPES_TIMEOUT_S / len(rows), record)
        rows_after = await read_partitions(record)
        for _ in range(round(RECORD_DEADLINE_S / POLL_S)):
            if not any(row.unrecorded(states[row.id].last) for row in rows_after if row.id in states):
                break
            await asyncio.sleep(POLL_S)
            rows_after = await read_partitions(record)
        compared, reports_end_s = await read_last_comparisons(record), time.monotonic() + REPORTS_S
        for before, after in zip(rows, rows_after, strict=False):
            in_record = await read_record_state(record, before.id)
            checks = [*judge_record(before, in_record, compared.get(before.id))]
            if before.id in states:
                checks += judge_redis(before, after, states[before.id])
            checks.append(await _check_reports(record, before.id, reports_end_s - time.monotonic()))
            checks = replace_advice(checks, in_record.failing)
            self.checks += [msgspec.structs.replace(check, partition=before.id) for check in checks]

    @contextlib.contextmanager
    def _catch_unreachable(self, server: str, host: Host | None = None) -> Iterator[None]:
        """Report the server as unreachable if the block can't connect, loses the connection or gets an error reply."""
        errors = postgres.ERRORS if server == "postgres" else (OSError, Broken, hiredis.ReplyError)
        try:
            yield
        except errors as error:
            self._add_unreachable(server, error, host)

    def _add_unreachable(self, server: str, error: BaseException, host: Host | None = None) -> None:
        """`host`: a node of a cluster."""
        if (server, host) in self._lost:
            return
        self._lost.add((server, host))
        address, setting, runbook = str(host or self._address), "REDIS_URL", "scripredisdown"
        if server == "postgres":
            address, setting = _describe_address(self._database_url), "DATABASE_URL"
            runbook = "scrippostgresdown"
        if server not in self.unreachable:
            self.unreachable.append(server)
        says = f"unreachable at {address}: {_describe_error(error)}"
        advice = (
            _advise_right(error) or f"Check that it runs, and that {setting} is right: docs/operations.md#{runbook}."
        )
        self.checks.append(Check(server, "bad", says, advice))


def _judge_settings(misspelt: list[str]) -> Check:
    if not misspelt:
        return Check("settings", "ok", "valid")
    advice = "Correct or remove them: docs/deploy.md#settings lists all settings."
    return Check("settings", "warning", f"misspelt, and so ignored: {', '.join(misspelt)}", advice)


async def check_computed_keys(connection: Connection) -> Check:
    """Run a script that reads an undeclared key, as ours do. Raises Broken and hiredis.ReplyError."""
    script = "return redis.call('GET', (string.gsub(KEYS[1], 'gate$', ARGV[1])))"
    reply = await connection.call("EVAL", script, 1, key_names.gate(0), "layout")
    if not isinstance(reply, hiredis.ReplyError):
        return Check("computed keys", "ok", "scripts may use keys whose names they compute")
    if str(reply).startswith("NOPERM"):
        says = "this user may not run EVAL, so it is unknown whether scripts may compute the names of keys"
        return Check("computed keys", "warning", says, "Run `scrip doctor` with the worker's REDIS_URL.")
    if not str(reply).startswith("ERR"):
        raise reply
    says = f"Redis lets scripts use only keys that their caller declares: {reply}"
    advice = (
        "Scrip can't run on this server, such as ElastiCache Serverless. Use one with nodes of its own; "
        "start Dragonfly with --default_lua_flags=allow-undeclared-keys."
    )
    return Check("computed keys", "bad", says, advice)


async def check_coverage(connection: Connection) -> Check:
    """Check whether a cluster's node serves its slots while others have no primary. Raises Broken."""
    reply = await connection.call("CONFIG", "GET", "cluster-require-full-coverage")
    if isinstance(reply, hiredis.ReplyError) or reply[1:] != ["yes"]:
        return Check("coverage", "ok", "a node's loss closes its own partitions only")
    says = "a node's loss stops the whole cluster until its replica has its slots"
    return Check("coverage", "warning", says, "Set cluster-require-full-coverage to no.")


def _judge_durability(fitness: Fitness, declared: str | None) -> Check:
    if fitness.fsynced:
        return Check("durability", "ok", "`fsynced`: Redis writes to disk before it replies")
    if declared and not fitness.shows_settings:
        says = f"`fsynced`, as SCRIP_REDIS_DURABILITY={declared} declares: not verified, Redis hides its settings"
        return Check("durability", "ok", says)
    says = "`accepted`: a crash of Redis may lose the last requests"
    if declared:
        says += f"; its settings show that SCRIP_REDIS_DURABILITY={declared} is wrong"
    advice = "Set appendonly yes and appendfsync always, or ask for `recorded` where it matters."
    if not fitness.shows_settings:
        advice = "Redis hides its settings: if it is durable before it replies, set SCRIP_REDIS_DURABILITY."
    return Check("durability", "warning", says, advice)


async def _check_rights(connection: asyncpg.Connection) -> Check:
    roles = [role for role in LOGINS if await connection.fetchval("SELECT to_regrole($1)", role)]
    if not roles:
        return Check("rights", "ok", "processes have no roles of their own")
    missing = {role: ", ".join(await find_missing_rights(connection, role, role)) for role in roles}
    says = "; ".join(f"{role} lacks {lacks}" for role, lacks in missing.items() if lacks)
    if says:
        return Check("rights", "bad", says, "Run `scrip migrate --roles`: docs/upgrading.md.")
    return Check("rights", "ok", f"complete: {', '.join(roles)}")


async def _check_months(connection: asyncpg.Connection) -> Check:
    missing_months = [row["month"] for row in await connection.fetch(query("missing_months"))]
    if not missing_months:
        says = "this month and the next have their tables"
        return Check("months", "ok", says)
    advice = "Start `scrip worker`, and end transactions of Postgres that last long: it retries every ten minutes."
    return Check("months", "warning", f"missing: {', '.join(missing_months)}", advice)


async def _check_reports(connection: asyncpg.Connection, partition: int, timeout_s: float) -> Check:
    try:
        if timeout_s <= 0:
            raise TimeoutError
        compared, differing = await compare_newest_hours(connection, partition, timeout_s)
    except (TimeoutError, asyncpg.QueryCanceledError):
        return Check("reports", "ok", "not compared in time: `scrip reports` compares all")
    hours = f"{count_noun(compared, 'hour')} with the newest redemptions of a book"
    if not differing:
        return Check("reports", "ok", f"{hours} equal the facts")
    advice = "`scrip reports` compares all, and `scrip reports --repair` corrects them: docs/operations.md#by-symptom."
    return Check("reports", "warning", f"of {hours} {differing} differ from the facts", advice)


async def _check_locks(connection: asyncpg.Connection) -> Check:
    most = cast("int", await connection.fetchval("SELECT current_setting('max_locks_per_transaction')::int"))
    says = f"max_locks_per_transaction is {most}"
    if most >= ENOUGH_LOCKS:
        return Check("locks", "ok", says)
    advice = f"Set it to {ENOUGH_LOCKS} or more, and restart Postgres: docs/deploy.md#postgres."
    return Check("locks", "warning", f"{says}: a query over many months may fail", advice)


def _judge_server(
    fitness: Fitness, report: ClusterReport | None, address: str, declared: str | None, replicas: int
) -> Iterator[Check]:
    """Judge a Redis server: fitness, durability, memory, evictions, replicas. `report` is its own of its cluster;
    sentinels or the cluster know of so many replicas."""
    says = f"{fitness.server} at {address}"
    yield Check("redis", "bad" if fitness.unfit else "ok", says, fitness.unfit or "")
    if fitness.hidden:
        advice = "Allow these to the user of REDIS_URL, or check yourself that maxmemory-policy is noeviction."
        yield Check("redis settings", "warning", f"Redis refuses {', '.join(fitness.hidden)}", advice)
    yield _judge_durability(fitness, declared)
    yield _judge_memory(fitness)
    if fitness.evicted:
        says = f"{fitness.evicted} keys since Redis started: each start of a worker rebuilds its partitions"
        advice = "Set maxmemory-policy to noeviction. When all partitions are open, run CONFIG RESETSTAT."
        yield Check("evicted", "warning", says, advice)
    yield _judge_replicas(fitness.replication, report, has_log=fitness.has_log(declared), known=replicas)


def _judge_replicas(server: Replication, report: ClusterReport | None, *, has_log: bool, known: int = 0) -> Check:
    """Judge whether all known replicas are connected, and what guarantees that an old primary no longer answers
    (docs/internals/decisions/0047)."""
    fencing = choose_nonce("", server, report, has_log=has_log).fencing
    if server.count < known:
        says = f"{server.count} of {known} connected"
        return Check("replicas", "warning", says, "Start the others: docs/operations.md#scripredisreplica.")
    says = f"{server.count}, fencing `{fencing}`" if fencing else "none"
    if fencing == "log":
        return Check("replicas", "ok", f"{says}: declared, not verified")
    if fencing == "postgres" and server.is_clustered:
        says += ": Redis hides CLUSTER NODES or its history, or has less than three primaries and nodes that are there"
        advice = "Without Postgres the hot path closes: see docs/deploy.md."
        return Check("replicas", "warning", says, advice)
    return Check("replicas", "ok", says)


async def _time_answer(connection: asyncpg.Connection) -> float:
    """The seconds that the fastest of three answers takes."""
    times: list[float] = []
    for _ in range(3):
        asked_at = time.monotonic()
        await connection.execute("SELECT")
        times.append(time.monotonic() - asked_at)
    return min(times)


def _judge_memory(fitness: Fitness) -> Check:
    used_mb = fitness.used_bytes / 1e6
    if not fitness.max_bytes:
        advice = "Set maxmemory to half of the memory for Redis: docs/operations.md#scripredisunlimited."
        return Check("memory", "warning", f"{used_mb:,.1f} MB used, no limit set", advice)
    share = fitness.used_bytes / fitness.max_bytes
    state = "bad" if share >= FULL_SHARE else "warning" if share >= NEARLY_FULL_SHARE else "ok"
    says = f"{used_mb:,.1f} of {fitness.max_bytes / 1e6:,.1f} MB used ({share:.0%})"
    advice = "Raise maxmemory, as a full Redis refuses writes: docs/operations.md#scripredismemory."
    return Check("memory", state, says, "" if state == "ok" else advice)


def _describe_address(url: str) -> str:
    """Return host, port and path of Postgres's URL: never its user, password or options, which may be secret."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        return "its URL"  # several hosts, or invalid
    host = host or parse_qs(parts.query).get("host", [""])[0]
    return f"{host}{f':{port}' if port else ''}{'' if '@' in parts.path else parts.path}"


def _advise_right(error: BaseException) -> str | None:
    """Return the remedy if a server refuses the login, or a command for the lack of a right, or if files for TLS are
    wrong; else None."""
    if isinstance(error, asyncpg.InsufficientPrivilegeError):
        return "Log in as scrip_worker in DATABASE_URL. If that is so already: `scrip migrate --roles`."
    if postgres.lacks_files(error):
        return "Correct the host and the files for TLS in DATABASE_URL."
    is_refused = isinstance(error, AccessRefused) or str(error).startswith("NOPERM")
    return advise_access(str(error)) if is_refused else None


def _describe_error(error: BaseException) -> str:
    """Return the server's or system's message, else only the type: a library's message may quote the URL."""
    if isinstance(error, asyncpg.PostgresError | hiredis.ReplyError | asyncpg.ClientConfigurationError):
        return str(error)
    if postgres.lacks_tls(error):
        return "it has no TLS, which sslmode demands"
    if isinstance(error, ConnectionError) and not error.strerror:
        return "the connection was closed"
    if isinstance(error, OSError):
        return error.strerror or find_reason(error)
    return type(error).__name__

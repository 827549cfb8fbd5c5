"""The composition root of an API process: the engine's Deciding, the server's connections, and the tasks that follow
keys in Postgres. app.py opens the Context."""

import asyncio
import contextlib
import signal
import time
from collections.abc import AsyncIterator, Collection
from typing import TYPE_CHECKING

import asyncpg
import structlog

from service.common.background_tasks import run_forever
from service.common.build_info import export_build_info
from service.common.config import Settings
from service.common.pace import Pace
from service.common.running_service import find_servers
from service.engine.deciding.deciding import POLL_S, Deciding, open_deciding
from service.engine.hot.link import Link
from service.engine.hot.projection import SHARE, RedisProjector
from service.engine.hot.scripts import version
from service.engine.hot.unrecorded import backlog_metrics
from service.engine.operations.caller import Caller
from service.engine.record import pool as postgres
from service.engine.record.facts.quarantined_events import count_blocked, count_quarantines
from service.engine.record.processes import BEAT_S, describe_process, end_process, name_process, renew_process
from service.engine.record.program_versions import WrongNumber, check_number
from service.engine.record.shared_pool import LEAST, SharedPool
from service.server.access.user_tokens import Issuer, Tokens
from service.server.answers.accounting import answers
from service.server.answers.refused_requests import refused_requests
from service.server.api.bulk import Bulk
from service.server.api.context import Context
from service.server.api.partition_watch import PartitionWatch
from service.server.in_postgres.audit_log import record_rejections
from service.server.in_postgres.comparisons import read_last_comparisons
from service.server.in_postgres.key_rows import limits_of_users, read_callers, read_changes, touch_keys
from service.server.in_postgres.refused_batches import add_refused
from service.server.in_postgres.replica import Replica
from service.server.in_postgres.samples import Sampler, add_traffic
from service.server.in_postgres.workspace_rows import learn_names, read_workspace, workspace_named
from service.server.in_redis.key_messages import KeyMessages
from service.server.in_redis.workspace_state import Workspace
from service.serving import request_metrics  # noqa: F401, it registers its collector
from service.serving.connection_bound import bound_connections
from service.serving.partition_metrics import partition_metrics
from service.serving.process_metrics import process_metrics

if TYPE_CHECKING:
    from service.common.spans import Traces

MAX_CONNECTIONS = 10
"""Postgres connections of all API processes together; each process has at least LEAST (shared_pool.py)."""
MAX_REPLICA_CONNECTIONS = 8
"""Connections of all API processes together to the replica."""
POLL_TIMEOUT_S = 2.0
USAGE_INTERVAL_S = 10.0
"""Interval at which the last use of keys and refused requests are written to Postgres."""
COUNT_S = 5.0
"""How often the events in quarantine are counted, and the names of new workspaces read."""
COUNT_BLOCKED_S = 30.0
"""How often blocked codes are counted, the last comparisons read, and this process's clock is stored."""

log = structlog.get_logger()


@contextlib.asynccontextmanager
async def open_context(settings: Settings, traces: "Traces | None") -> AsyncIterator[Context]:
    """Connect to Redis and Postgres and yield the context of an API process; close everything at the end."""
    redis_url, database_url = find_servers(settings)
    max_size = max(LEAST, MAX_CONNECTIONS // settings.api_processes)
    pool = await postgres.connect_with_retries(
        database_url, name="scrip-api", min_size=2, max_size=max_size, kind=SharedPool
    )
    durability = settings.redis_durability
    async with (
        open_deciding(redis_url, pool, durability, traces) as deciding,
        _open_around(settings, redis_url, pool, deciding) as context,
    ):
        yield context
    await pool.close()
    if traces:
        traces.end()


@contextlib.asynccontextmanager
async def _open_around(
    settings: Settings, redis_url: str, pool: asyncpg.Pool, deciding: Deciding
) -> AsyncIterator[Context]:
    """The server's half."""
    decider, recorded = deciding.decider, deciding.recorded
    replica = Replica(pool, await _connect_replica(settings))
    workspace = Workspace(decider)
    messages = KeyMessages(redis_url, decider)
    watch = PartitionWatch(decider, settings.max_unrecorded_s)
    projector = RedisProjector(decider.run, pace=Pace(SHARE))
    context = Context(settings, pool, deciding, decider, workspace, projector, recorded, replica, messages, watch)
    context.bulk = Bulk(settings.api_processes)
    tokens = context.keyring.tokens = Tokens(
        [Issuer(one.issuer, one.audience, one.workspace) for one in settings.jwt_issuers]
    )
    refreshers = []
    if settings.jwt_issuers:
        from service.serving.jwks import JwksRefresher  # it needs aiohttp: 9 MB, and a tenth of a second to import

        refreshers = [
            JwksRefresher(tokens, issuer, one.jwks)
            for issuer, one in zip(tokens.issuers, settings.jwt_issuers, strict=True)
        ]
    poller = _PostgresPoller(context)
    await poller.poll()
    watch.has_postgres = True
    sampler = Sampler(pool, answers.take_traffic, add_traffic)
    refusing = Sampler(pool, refused_requests.take, add_refused, 1, 300, refused_requests.drop)
    background = {
        "poll": poller.run,
        "key_messages": messages.run,
        "traffic": sampler.run,
        "refused_requests": refusing.run,
        "partitions": watch.run,
        **deciding.background,
        **{f"jwks_{number}": one.run for number, one in enumerate(refreshers)},
    }
    tasks = [asyncio.create_task(run_forever(name, run)) for name, run in background.items()]
    partition_metrics.context = process_metrics.context = context
    backlog_metrics.read = watch.take_backlog
    export_build_info("api")
    try:
        yield context
    finally:
        partition_metrics.context = process_metrics.context = None
        backlog_metrics.read = tuple
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await end_process(pool, poller.process)
        answers.write()
        await asyncio.gather(sampler.end(), refusing.end())
        await replica.close()


async def _connect_replica(settings: Settings) -> asyncpg.Pool | None:
    """A pool that connects when it is first used: a replica that is away keeps no API from starting."""
    if settings.database_read_url is None:
        return None
    size = max(LEAST, MAX_REPLICA_CONNECTIONS // settings.api_processes)
    return await postgres.connect(
        settings.database_read_url, name="scrip-api-reads", min_size=0, max_size=size, is_replica=True, kind=SharedPool
    )


async def _read_bearer(context: Context, workspace: str) -> Caller | None:
    """Read the caller, without its user, that user tokens of a workspace authenticate. None: no such workspace."""
    number = await workspace_named(context.pool, workspace)
    if number is None:
        return None
    row = await read_workspace(context.pool, number)
    limits = await limits_of_users(context.pool, row)
    place = (number, row.workspace_id, row.partition, row.mode)
    return Caller(None, *place, frozenset(), limits=limits, is_suspended=row.is_suspended)


class _PostgresPoller:
    """Polls Postgres five times a second, and at a message of changed keys, for valid keys and open epochs, and stores
    that this process runs.

    While Postgres is unavailable, both stay as they were: Redis needs no Postgres to decide, unless it has replicas
    that do not confirm the epoch (docs/internals/decisions/0047).
    After MAX_AGE_S (service/server/access/keyring.py) the keyring refuses all keys.
    """

    def __init__(self, context: Context) -> None:
        self._context = context
        self._keys_version = -1
        self._touch_at = self._note_refused_at = self._beat_at = 0.0
        self._count_at = self._count_blocked_at = 0.0
        self._took_s = 0.0
        self.process = name_process()

    async def run(self) -> None:
        is_unavailable = False
        while True:
            await self._wait_until_due()
            try:
                async with asyncio.timeout(POLL_TIMEOUT_S):
                    await self.poll()
                is_unavailable = False
                self._context.watch.has_postgres = True
            except postgres.ERRORS as error:
                self._keys_version = -1  # what comes back may be an older Postgres: all keys are read again
                if not is_unavailable:
                    log.warning("postgres_away", error=type(error).__name__)
                is_unavailable = True
                self._context.watch.has_postgres = False
            except WrongNumber as wrong:  # this process was stopped in between, else `scrip migrate` would have failed
                log.critical("api_stopped", reason=str(wrong))
                signal.raise_signal(signal.SIGTERM)

    async def _wait_until_due(self) -> None:
        """Wait POLL_S, or for a message, but at least as long as the last reading took: reading then takes at most half
        of the time. Under 1,540 requests a second, changing a key takes 29 ms (p99). It took 71 ms when the wait was
        four times as long as the last poll."""
        rest_s = min(self._took_s, POLL_S)
        await asyncio.sleep(rest_s)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(POLL_S - rest_s):
                await self._context.key_messages.changed.wait()

    async def _read_bearers(self, changed: Collection[int] | None) -> None:
        """Read the callers of users' tokens of these workspaces, or of all, and those that are missing. Verified tokens
        are forgotten only if one has changed: one tenant's changes of keys cost others' users nothing."""
        tokens = self._context.keyring.tokens
        for issuer in tokens.issuers:
            old = issuer.bearer
            if old is None or changed is None or old.workspace in changed:
                issuer.bearer = await _read_bearer(self._context, issuer.workspace)
                if old is not None and issuer.bearer != old:
                    tokens.forget()

    async def _count(self, now: float) -> None:
        watch, pool = self._context.watch, self._context.pool
        if now > self._count_at:
            self._count_at = now + COUNT_S
            watch.take_quarantined(await count_quarantines(pool))
            await learn_names(pool)
        if now > self._count_blocked_at:
            self._count_blocked_at = now + COUNT_BLOCKED_S
            watch.blocked = await count_blocked(pool)
            watch.compared = await read_last_comparisons(pool)
            await describe_process(pool, self.process, pool.get_max_size(), bound_connections())

    async def poll(self) -> None:
        """Update keys and epochs once, and write that this process runs, key usage and refused requests. Raises the
        pool's errors, and WrongNumber if a version that does not fit this one has migrated the database."""
        context = self._context
        made, polled_at = Link.made, time.monotonic()
        if polled_at > self._beat_at:  # before the first reading of keys: from then on, changes of keys wait for it
            self._beat_at = polled_at + BEAT_S
            await renew_process(context.pool, self.process, "api", version())
            await check_number(context.pool)
        messages, reading_at = context.key_messages, time.monotonic()
        is_announced = messages.changed.is_set()
        messages.changed.clear()
        keys_version, changed = await read_changes(context.pool, self._keys_version)
        if is_new := keys_version != self._keys_version:
            context.keyring.replace(await read_callers(context.pool, changed), changed)
            self._keys_version = keys_version  # after the keys, which are at least as new
        context.keyring.confirm(polled_at)
        await self._read_bearers(changed if is_new else [])
        if is_new or is_announced:
            messages.announce_reading(self.process, self._keys_version)
        context.watch.take_rows(await context.deciding.poll(context.pool, polled_at, made))
        self._took_s = (now := time.monotonic()) - reading_at
        await self._count(now)
        if now > self._touch_at and (used := context.keyring.take_uses()):
            self._touch_at = now + USAGE_INTERVAL_S
            await touch_keys(context.pool, used)
        if now > self._note_refused_at and (refused := context.keyring.take_rejections()):
            self._note_refused_at = now + USAGE_INTERVAL_S
            async with context.pool.acquire() as connection, connection.transaction():
                await record_rejections(connection, refused)

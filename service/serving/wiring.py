"""The one place that builds things: an API process's connections, and the watch on what Postgres says."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator

import structlog

from service.access.caller import Caller
from service.access.user_tokens import Issuer, Tokens
from service.api.context import Context
from service.api.csv_stream import MAX_EXPORTS, ExportSlots
from service.common.config import Settings
from service.hot.connection import Link
from service.hot.decider import Decider
from service.hot.projection import RedisProjector
from service.hot.workspace_state import Workspace
from service.record import pool as postgres
from service.record.config.audit_log import note_refused
from service.record.config.key_rows import limits_of_users, read_callers, read_version, touch_keys
from service.record.config.workspace_rows import read_workspace, workspace_named
from service.record.facts.recorded_wait import Recorded
from service.record.partitions.partition_rows import read_partitions
from service.serving.jwks import Fresh

MAX_CONNECTIONS = 10
"""To Postgres, of all processes that share an address; each has at least two."""
ASK_S = 0.2
"""Well below half a second: as long as a recovery waits for all processes to learn of its epoch."""
ASK_TIMEOUT_S = 2.0
TOUCH_S = 10.0
"""How often is kept when keys were used last."""

log = structlog.get_logger()


@contextlib.asynccontextmanager
async def connected(settings: Settings) -> AsyncIterator[Context]:
    """Everything that an API process works with."""
    if not settings.redis_url or not settings.database_url:
        raise RuntimeError("REDIS_URL and DATABASE_URL must be set (scrip run starts servers of its own).")
    most = max(2, MAX_CONNECTIONS // settings.api_processes)
    pool = await postgres.connect_when_there(settings.database_url, name="scrip-api", min_size=2, max_size=most)
    link = Link(settings.redis_url, "scrip-api")
    await link.start()
    decider = Decider(link)
    recorded = Recorded(pool)
    context = Context(
        settings, pool, decider, Workspace(decider, settings.kept_bytes), RedisProjector(decider.run), recorded
    )
    context.export_slots = ExportSlots(max(1, MAX_EXPORTS // settings.api_processes))
    tokens = context.keyring.tokens = Tokens(
        [Issuer(one.issuer, one.audience, one.workspace) for one in settings.jwt_issuers]
    )
    fresh = [Fresh(tokens, issuer, one.jwks) for issuer, one in zip(tokens.issuers, settings.jwt_issuers, strict=True)]
    watch = _Watch(context)
    await watch.look()
    watching = [asyncio.create_task(watch.run()), *(asyncio.create_task(one.run()) for one in fresh)]
    try:
        yield context
    finally:
        for task in watching:
            task.cancel()
        await asyncio.gather(*watching, return_exceptions=True)
        await recorded.close()
        await link.stop()
        await pool.close()


async def _bearer(context: Context, workspace: str) -> Caller | None:
    """Who a workspace's users' tokens stand for, but for the user; None while there is no such workspace."""
    number = await workspace_named(context.pool, workspace)
    if number is None:
        return None
    row = await read_workspace(context.pool, number)
    limits = await limits_of_users(context.pool, row)
    return Caller(None, number, row.workspace_id, row.partition, row.mode, frozenset(), limits=limits)


class _Watch:
    """Asks Postgres five times a second which keys are good and which epochs are open. While it is away both stay as
    they were: what Redis decides needs no Postgres, unless it has replicas."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._keys_version = -1
        self._touch_at = self._refused_at = 0.0

    async def run(self) -> None:
        """Look until cancelled."""
        away = False
        while True:
            await asyncio.sleep(ASK_S)
            try:
                async with asyncio.timeout(ASK_TIMEOUT_S):
                    await self.look()
                away = False
            except postgres.ERRORS as error:
                if not away:
                    log.warning("postgres_away", error=type(error).__name__)
                away = True

    async def look(self) -> None:
        """Ask once."""
        context = self._context
        generation, asked_at = context.decider.link.generation, time.monotonic()
        if await read_version(context.pool) != self._keys_version:
            self._keys_version, callers = await read_callers(context.pool)
            context.keyring.replace(callers)
            for issuer in context.keyring.tokens.issuers:
                issuer.bearer = await _bearer(context, issuer.workspace)
            context.keyring.tokens.forget()
        for issuer in context.keyring.tokens.issuers:
            if issuer.bearer is None:
                issuer.bearer = await _bearer(context, issuer.workspace)
        partitions = await read_partitions(context.pool)
        for row in partitions:
            if row.state == "open":
                context.decider.learn(row.id, row.epoch, row.nonce, generation, asked_at)
            else:
                context.decider.forget(row.id)
        if (now := time.monotonic()) > self._touch_at and (used := context.keyring.take_uses()):
            self._touch_at = now + TOUCH_S
            await touch_keys(context.pool, used)
        if now > self._refused_at and (refused := context.keyring.take_rejections()):
            self._refused_at = now + TOUCH_S
            async with context.pool.acquire() as connection, connection.transaction():
                await note_refused(connection, refused)
        context.open_partitions = frozenset(row.id for row in partitions if row.state == "open")

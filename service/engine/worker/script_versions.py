"""Which scripts Redis gets: an epoch's own, which others may share, and those of other versions that run.
partition_opening.py, partition_worker.py and process.py call LoadedScripts; `scrip migrate` and `scrip run` call
`migrate_version`. Other versions fill the stored templates, so BLANKS of scripts.py must stay."""

import asyncio
import contextlib
import secrets
from collections.abc import Mapping

import asyncpg
import structlog

from service.engine.hot.cluster import Report
from service.engine.hot.fencing import RANDOM_LENGTH, SHARED_LENGTH, Nonce, choose_nonce, parse_nonce
from service.engine.hot.fitness import Fitness
from service.engine.hot.redis_server import LOADS_AT_ONCE, Fenced, Server
from service.engine.hot.scripts import BLANKS, PROJECTION, SERVING, Scripts, templates, version
from service.engine.record.login_roles import ensure_role, grant_privileges
from service.engine.record.migrations import apply_missing
from service.engine.record.partitions.partition_rows import (
    DEFAULT_PARTITIONS,
    NotMigrated,
    check_partitions,
    ensure_partitions,
    read_partitions,
)
from service.engine.record.pool import connect_once, wait_out_outage
from service.engine.record.processes import BEAT_S
from service.engine.record.program_versions import needed_versions, read_scripts, store_scripts, stored_versions

POLL_S = 0.5
"""Between two looks of keep_loaded for new versions."""

log = structlog.get_logger()


async def migrate_version(
    database_url: str,
    passwords: Mapping[str, str] | None = None,
    *,
    partitions: int | None,
    default: int = DEFAULT_PARTITIONS,
) -> list[str]:
    """Apply the missing migrations, and store this version's scripts. Returns the names of the migrations.

    With the passwords of roles, also create these roles first, and grant them their privileges after. A new database
    gets `partitions`, or `default`. Raises MigrationError, and UnusableRecord before anything is changed.
    """
    connection = await connect_once(database_url, name="scrip migrate")
    observer = await connect_once(database_url, name="scrip migrate, observer")
    try:
        with contextlib.suppress(NotMigrated):
            await check_partitions(connection, partitions)
        # Before the migrations, which bound the sessions of these roles.
        for role, password in (passwords or {}).items():
            await ensure_role(connection, role, password)
        applied = await apply_missing(connection, observer)
        await ensure_partitions(connection, partitions, default)
        if passwords is not None:
            await grant_privileges(connection)
        await store_scripts(connection, version(), templates())
        return applied
    finally:
        await observer.close()
        await connection.close()


class LoadedScripts:
    """The scripts that Redis has: this version's, and those of others that need them, the last that migrated and those
    of running processes.

    1. Every BEAT_S, read which versions are needed.
    2. When an opening begins an epoch, find the texts that the server has since its last start, or load new ones.
    3. Before the opening opens the gate, load the scripts of other versions (opening/partition_opening.py).
    4. While a partition is open, load the scripts of a version that appears.
    """

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool
        self._templates: dict[str, Mapping[str, str]] = {}
        """Of the needed versions."""
        self._last_nonce = Nonce("")
        """Of the epoch that began last."""
        self._beginning = asyncio.Lock()

    async def run(self) -> None:
        """Raises WrongNumber if a version that does not fit this one has migrated the database."""
        while True:
            await asyncio.sleep(BEAT_S)
            with wait_out_outage(log):
                await self.refresh()

    async def refresh(self) -> None:
        """Step 1. Raises WrongNumber."""
        needed = {*await needed_versions(self._pool)} - {version()}
        for new in needed - self._templates.keys():
            self._templates[new] = await self._read(new)
        for old in self._templates.keys() - needed:
            del self._templates[old]

    async def _read(self, name: str) -> dict[str, str]:
        """A version's templates; none if this version can't fill them."""
        texts = await read_scripts(self._pool, name) or {}
        if all(text.count(BLANKS) == 1 for text in texts.values()):
            return texts
        log.error("scripts_unusable", version=name, reason="this version can't fill their blanks")
        return {}

    async def begin(
        self, server: Server, fitness: Fitness, report: Report | None = None, *, has_log: bool = False
    ) -> Nonce:
        """Step 2: the nonce of a new epoch, for which the server has this version's scripts. `report` and `has_log` are
        those of choose_nonce.

        New texts are loaded only here, before anything knows their nonce. So a server that has them has not restarted
        since, and is no other server: other partitions may share them (docs/internals/decisions/0052).
        """
        async with self._beginning:  # partitions that are opened together share the texts
            random = f"{fitness.entry_bytes}x{secrets.token_hex(RANDOM_LENGTH // 2)}"[:RANDOM_LENGTH]
            replication, serves_others = fitness.replication, False
            used = [self._last_nonce, *(parse_nonce(row.nonce) for row in await read_partitions(self._pool))]
            used = [nonce for nonce in used if nonce.random and nonce.history == replication.history]
            for shared in dict.fromkeys(nonce.shared for nonce in used):
                if serves_others := await self.has_any_version(server, own_scripts(server.partition, 0, shared)):
                    random = shared[:SHARED_LENGTH] + random[SHARED_LENGTH:]  # the texts have only the first part
                    break
            nonce = choose_nonce(random, replication, report, has_log=has_log)
            own = own_scripts(server.partition, 0, nonce.shared)
            await server.load(own, LOADS_AT_ONCE if serves_others else len(own.texts))
            self._last_nonce = nonce
            return nonce

    async def finish(self, server: Server, epoch: int, nonce: str) -> Scripts:
        """Step 3: this version's scripts, which the server has had since the epoch began. Raises Fenced."""
        own = own_scripts(server.partition, epoch, nonce)
        if not await server.has(own):
            raise Fenced("this server has lost its scripts during the opening")
        for texts in list(self._templates.values()):
            await server.load(_compose(texts, own))
        return own

    async def has_any_version(self, server: Server, own: Scripts) -> bool:
        """Whether Redis has all scripts of this version, or of another that is stored, for the epoch: then it has not
        restarted since a worker verified it."""
        if await server.has(own):
            return True
        for name in await stored_versions(self._pool):
            if name == version():
                continue
            scripts = _compose(await self._read(name), own)
            if scripts.texts and await server.has(scripts):
                return True
        return False

    async def keep_loaded(self, server: Server, own: Scripts) -> None:
        """Step 4, for one partition.

        A Redis that lost this version's scripts may have lost data, so it gets no others. It can't lose them between
        the check and the loading, except by SCRIPT FLUSH: the connection would break with the server.
        """
        loaded: set[str] = set()
        while True:
            for name in sorted(self._templates.keys() - loaded):
                scripts = _compose(self._templates[name], own)
                if await server.has(own):
                    await server.load(scripts)
                    log.info("scripts_loaded", partition=own.partition, epoch=own.epoch, version=name)
                    loaded.add(name)
            await asyncio.sleep(POLL_S)


def own_scripts(partition: int, epoch: int, nonce: str) -> Scripts:
    """This version's scripts of requests."""
    return Scripts(partition, epoch, nonce, [*SERVING, *PROJECTION])


def _compose(texts: Mapping[str, str], own: Scripts) -> Scripts:
    """Another version's scripts for the epoch of this version's."""
    return Scripts(own.partition, own.epoch, own.nonce, list(texts), template_of=texts.__getitem__)

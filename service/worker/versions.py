"""Rolling upgrades: what migrating stores, and which other versions' scripts a worker loads beside its own."""

import asyncio
from collections.abc import Mapping
from uuid import uuid4

import asyncpg
import structlog

from service.hot.redis_server import Server
from service.hot.scripts import BLANKS, Scripts, templates, version
from service.record.migrations import migrate
from service.record.pool import connect_once, wait_out_outage
from service.record.versions import (
    BEAT_S,
    forget_process,
    needed_versions,
    read_scripts,
    renew_process,
    store_scripts,
    stored_versions,
)

LOOK_S = 0.5

log = structlog.get_logger()


async def migrate_version(database_url: str) -> list[str]:
    """Apply the missing migrations, and store this version's scripts. Returns the names of the migrations."""
    applied = await migrate(database_url)
    connection = await connect_once(database_url, name="scrip migrate")
    try:
        await store_scripts(connection, version(), templates())
    finally:
        await connection.close()
    return applied


class OtherVersions:
    """The other versions whose scripts Redis needs: the last that migrated, and those of running processes.

    1. Every two seconds, store that this worker runs, and read which versions are needed.
    2. An opening loads their scripts before it opens the gate (service/worker/opening.py).
    3. While a partition is open, load the scripts of a version that appears.
    """

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool, self._process = pool, uuid4()
        self._templates: dict[str, Mapping[str, str]] = {}
        """Of the needed versions."""

    async def run(self) -> None:
        """Raises WrongNumber if a version that does not fit this one has migrated the database."""
        while True:
            await asyncio.sleep(BEAT_S)
            with wait_out_outage(log):
                await self.refresh()

    async def refresh(self) -> None:
        """Step 1. Raises WrongNumber."""
        await renew_process(self._pool, self._process, "worker", version())
        needed = set(await needed_versions(self._pool)) - {version()}
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

    async def leave(self) -> None:
        """Store that this worker ends."""
        await forget_process(self._pool, self._process)

    async def load(self, server: Server, own: Scripts) -> None:
        """Step 2, for the epoch of this version's scripts."""
        for texts in list(self._templates.values()):
            await server.load(_compose(texts, own))

    async def has_any(self, server: Server, own: Scripts) -> bool:
        """Whether Redis has all scripts of this version, or of another that is stored, for the epoch: then it has not
        restarted since a worker verified it."""
        if await server.has(own):
            return True
        for name in await stored_versions(self._pool):
            scripts = _compose(await self._read(name), own)
            if scripts.texts and await server.has(scripts):
                log.info("taking_over", partition=own.partition, epoch=own.epoch, version=name)
                return True
        return False

    async def keep_loaded(self, server: Server, own: Scripts) -> None:
        """Step 3, for one partition.

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
            await asyncio.sleep(LOOK_S)


def _compose(texts: Mapping[str, str], own: Scripts) -> Scripts:
    """Another version's scripts for the epoch of this version's."""
    return Scripts(own.partition, own.epoch, own.nonce, list(texts), template_of=texts.__getitem__)

"""Remove ended locks, for lock_sweeper.py and inspection.py."""

import structlog

from service.engine.formats import key_names
from service.engine.hot.projection import Run
from service.engine.hot.redis_server import ScriptFailed, Server

THINGS_A_RUN = 10
KEYS_A_LOOK = 200
SWEPT_A_RUN = 20
"""These bound a run as the heads of lua/erase_user.lua, heads.lua and sweep_locks.lua say; the last is its LIMIT."""
MOST_SWEEPS = 1000

log = structlog.get_logger()

_WORDS, _NOTHING = 6, "-"
"""The words of each thing in the arguments of lua/erase_user.lua, and a word that it does not need."""


async def sweep_locks(server: Server, run: Run) -> int:
    """Remove expired locks from all coupons of the partition. Returns the number of coupons."""
    swept = 0
    async for page in server.walk_keys({"l"}):
        for key in page:
            book, which = key.parts
            if which == "x":  # free codes by their own expiry, not locks
                continue
            names = (server.gate, key_names.settings(key_names.prefix(key.partition, key.workspace)))
            try:
                for _ in range(MOST_SWEEPS):
                    coupons = (await run(server.partition, "sweep_locks", names, (book, which)))[1]
                    swept += coupons
                    if coupons < SWEPT_A_RUN:
                        break
            except ScriptFailed:  # continue with the other sets
                log.error("locks_not_swept", workspace=key.workspace, book=book)
    return swept

"""The demo's fixed keys are for this machine alone: nobody else is served while they are good."""

import asyncpg

from service.common.child_processes import StartError
from service.common.config import Settings, is_loopback
from service.embedded.demo import SECRETS
from service.record.config.key_rows import is_any_known
from service.record.pool import connect_when_there


def check_host(settings: Settings) -> None:
    """Raises StartError where others than this machine would be served from the embedded database."""
    if not is_loopback(settings.host):
        raise StartError(
            f"SCRIP_HOST is {settings.host}, so that others could ask, and the embedded database has the demo's fixed "
            "keys, which everybody knows. Set SCRIP_HOST=127.0.0.1, or DATABASE_URL to a Postgres of your own, in "
            "which `scrip workspaces create` and `scrip keys create` make keys that nobody knows."
        )


async def check_keys(settings: Settings) -> None:
    """Raises StartError where others than this machine would be served, and the database knows one of the keys."""
    if is_loopback(settings.host) or settings.database_url is None:
        return
    pool = await connect_when_there(settings.database_url, name="scrip start", min_size=1, max_size=1)
    try:
        known = await is_any_known(pool, SECRETS)
    except asyncpg.UndefinedTableError:
        raise StartError("The database has no tables of Scrip's: run `scrip migrate` first.") from None
    finally:
        await pool.close()
    if known:
        raise StartError(
            f"SCRIP_HOST is {settings.host}, so that others could ask, and the database has the demo's fixed keys, "
            "which everybody knows. Revoke them (`scrip keys list demo`, `scrip keys revoke demo …`, and so for "
            "rival), or set SCRIP_HOST=127.0.0.1, or another DATABASE_URL."
        )

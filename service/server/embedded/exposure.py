"""Startup checks: while the public demo keys are valid, the service listens on loopback only. local_service.py and
process_commands.py call this before anything listens."""

from service.common.child_processes import StartError
from service.common.config import Settings, is_loopback
from service.engine.record.pool import connect_with_retries
from service.server.embedded.demo_data import SECRETS
from service.server.in_postgres.key_rows import is_any_known


def check_host(settings: Settings) -> None:
    """Raises StartError if the service would listen beyond loopback. Called only with the embedded database."""
    if not is_loopback(settings.host):
        raise StartError(
            f"SCRIP_HOST is {settings.host}, which other machines can reach, and the embedded database has the demo's "
            "public keys. Set SCRIP_HOST=127.0.0.1, or set DATABASE_URL to a Postgres of your own and create secret "
            "keys there with `scrip workspaces create` and `scrip keys create`."
        )


async def check_keys(settings: Settings) -> None:
    """Raises StartError if the service would listen beyond loopback and the database has a valid demo key."""
    if is_loopback(settings.host) or settings.database_url is None:
        return
    async with await connect_with_retries(settings.database_url, name="scrip start", min_size=1, max_size=1) as pool:
        known = await is_any_known(pool, SECRETS)
    if known:
        raise StartError(
            f"SCRIP_HOST is {settings.host}, which other machines can reach, and the database has the demo's public "
            "keys. Revoke them (`scrip keys list demo`, `scrip keys revoke demo …`, and the same for rival), set "
            "SCRIP_HOST=127.0.0.1, or set another DATABASE_URL."
        )

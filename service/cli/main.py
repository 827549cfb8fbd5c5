"""The commands. Each imports what it needs when it runs, so that `scrip --help` is quick."""

import asyncio
import sys
from typing import TYPE_CHECKING

import click

from service.cli.admin import keys, workspaces
from service.cli.failures import Commands, Unusable, check_record
from service.cli.reconcile import reconcile
from service.cli.recovery import rebuild
from service.replay.command import replay

if TYPE_CHECKING:
    from service.common.config import Settings


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Scrip, a coupon service. Settings come from the environment or a .env file."""


main.add_command(keys)
main.add_command(rebuild)
main.add_command(reconcile)
main.add_command(replay)
main.add_command(workspaces)


@main.command()
def run() -> None:
    """Run everything here, with embedded servers where REDIS_URL or DATABASE_URL is not set."""
    from service.common import config
    from service.embedded.local_service import run

    run(config.load())


@main.command()
@click.option("--tell-fd", type=int, hidden=True, help="Where several processes' pids are told, a line each time.")
def api(tell_fd: int | None) -> None:
    """Serve the HTTP API; with SCRIP_API_PROCESSES several of it, which SIGHUP replaces one after the other."""
    settings = _settings_with_servers()
    asyncio.run(check_record(settings))
    _check_keys(settings)
    if settings.api_processes > 1:
        from service.serving.supervisor import supervise

        supervise(settings, tell_fd)
        return
    from service.serving.server import serve

    serve(settings)


@main.command(hidden=True)
@click.option("--channel", type=int, required=True, help="The descriptor through which connections come.")
@click.option("--tally", type=int, required=True, help="The descriptor of what the processes count together.")
@click.option("--block", type=int, required=True, help="The tally's block that is this process's.")
def api_process(channel: int, tally: int, block: int) -> None:
    """Serve as one of several processes; their supervisor starts it."""
    settings = _settings_with_servers()
    asyncio.run(check_record(settings))
    from service.serving.members import serve

    serve(settings, channel, tally, block)


@main.command()
def worker() -> None:
    """Move what Redis decided into Postgres, and what Postgres says into Redis."""
    settings = _settings_with_servers()
    from service.worker.process import run

    run(settings)


@main.command()
def migrate() -> None:
    """Bring the database's schema up to date."""
    from service.common import config

    url = config.load().database_url
    if url is None:
        raise Unusable("unset: DATABASE_URL is not set. Say which database to migrate.")

    import asyncpg

    from service.record.migrations import MigrationError, migrate

    try:
        applied = asyncio.run(migrate(url))
    except (OSError, MigrationError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        raise Unusable(f"unavailable: the database can't be migrated: {error}") from error
    click.echo(f"Applied {', '.join(applied)}." if applied else "Nothing to apply.")


@main.command()
@click.option("--json", "as_json", is_flag=True, help="The same as a JSON object.")
def doctor(as_json: bool) -> None:
    """Say what is wrong with Redis, Postgres and what is in them, and what to do. Changes nothing.

    Ends with 0 where nothing is bad, 1 where something is, 2 where a server can't be reached, or was made
    for another number of partitions than the settings say.
    """
    from service.doctor.checks import examined

    report = examined()
    click.echo(report.json() if as_json else report.table())
    sys.exit(report.exit_code)


def _check_keys(settings: "Settings") -> None:
    """Raises StartError where others than this machine would be served with keys that everybody knows."""
    from service.embedded.exposure import check_keys

    asyncio.run(check_keys(settings))


def _settings_with_servers() -> "Settings":
    """The settings, for a process that needs both servers. Raises ClickException where one is not named."""
    from service.common import config

    settings = config.load()
    missing = [
        name
        for name, url in (("REDIS_URL", settings.redis_url), ("DATABASE_URL", settings.database_url))
        if url is None
    ]
    if missing:
        raise Unusable(f"unset: {' and '.join(missing)} not set. `scrip run` brings servers of its own.")
    return settings

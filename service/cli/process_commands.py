"""`scrip run`, `api`, `worker`, `migrate` and `doctor`: each imports what it needs when it runs. main.py loads it."""

import asyncio
import gc
import os
import re
import signal
import sys
from collections.abc import Callable

import asyncpg
import click

from service.cli.failures import check_servers
from service.common import config, logs
from service.common.redis_address import MAX_PORT
from service.common.running_service import Unusable, find_service
from service.common.tracebacks import find_reason

_PARTITIONS = click.IntRange(1, 1024)

_embedded = click.option(
    "--embedded", is_flag=True, hidden=True, help="The database is that of `scrip run`, with demo data."
)


def _password_of(process: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    return click.option(
        f"--{process}-password",
        envvar=f"SCRIP_{process.upper()}_PASSWORD",
        show_envvar=True,
        default="",
        callback=_check_password,
        help=f"With --roles: the password of scrip_{process}. Without it, the role keeps its password.",
    )


def _check_password(_context: click.Context, _option: click.Parameter, value: str) -> str:
    if re.fullmatch(r"[!-~]*", value) is None:
        raise click.BadParameter("must be of printable ASCII characters without spaces.")
    return value


@click.command(epilog="Example: scrip run --port 8001")
@click.option("--port", type=click.IntRange(1, MAX_PORT), help="Port of the API; default: SCRIP_PORT, else 8000.")
@click.option("--partitions", type=_PARTITIONS, help="Partitions of a new database; default: 1.")
def run(port: int | None, partitions: int | None) -> None:
    """Run the whole service on this machine, with demo data.

    Without REDIS_URL or DATABASE_URL it starts a server of its own, with data in SCRIP_DATA_DIR (.scrip). Ctrl-C stops
    everything.
    """
    from service.server.embedded.local_service import run

    run(config.load(port=port), partitions)


@click.command(epilog="Example: SCRIP_API_PROCESSES=4 scrip api")
@_embedded
def api(embedded: bool) -> None:
    """Serve the HTTP API. REDIS_URL and DATABASE_URL must be set.

    SCRIP_API_PROCESSES is the number of processes; SIGHUP replaces them one by one.
    """
    gc.disable()  # until `serve` enables it, as while main.py imports
    from service.server.embedded.exposure import check_keys

    settings = config.load(embedded=embedded)
    is_alone = settings.api_processes == 1
    logs.configure(settings.log_level, "api" if is_alone else "api supervisor")
    _end_at_signals()
    asyncio.run(check_servers(settings))
    asyncio.run(check_keys(settings))
    if is_alone:
        from service.serving.server import serve
    else:
        from service.serving.api_processes import serve
    serve(settings)


@click.command(epilog="Example: SCRIP_METRICS_PORT=9100 scrip worker")
@_embedded
def worker(embedded: bool) -> None:
    """Run a worker: it records in Postgres what Redis decides.

    It also writes the configuration that is in Postgres to Redis. Any number of workers may run; they share the work.
    REDIS_URL and DATABASE_URL must be set.
    """
    gc.disable()  # until `run` enables it, as while main.py imports
    settings = config.load(embedded=embedded)
    from service.serving.worker import run

    run(settings)


@click.command(epilog="Example: scrip migrate --roles")
@click.option(
    "--roles",
    is_flag=True,
    help="Also create the roles scrip_api and scrip_worker if they don't exist, and grant what this version needs.",
)
@_password_of("api")
@_password_of("worker")
@click.option(
    "--partitions", type=_PARTITIONS, help="Partitions of a new database; default: 16. The number never changes."
)
def migrate(roles: bool, api_password: str, worker_password: str, partitions: int | None) -> None:
    """Update the database's tables to this version.

    It also stores this version's scripts for the workers that run.
    """
    if (api_password or worker_password) and not roles:
        raise click.UsageError("--api-password and --worker-password need --roles, which creates these roles.")
    settings = config.load()
    url = find_service(settings, "DATABASE_URL").database_url

    from service.engine.record.migrations import MigrationError
    from service.engine.worker.script_versions import migrate_version

    passwords = {"scrip_api": api_password, "scrip_worker": worker_password} if roles else None
    try:
        applied = asyncio.run(migrate_version(url, passwords, partitions=partitions))
    except (OSError, MigrationError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        lacks_right = isinstance(error, asyncpg.InsufficientPrivilegeError)
        remedy = "Log in as the owner of the database." if lacks_right else "Correct that, and retry."
        raise Unusable(f"unavailable: the database can't be migrated: {find_reason(error)}. {remedy}") from error
    click.echo(f"Applied {', '.join(applied)}." if applied else "Nothing to apply.")
    for role, password in (passwords or {}).items():
        click.echo(f"{role}: its rights are granted; its password is {'set' if password else 'as it was'}.")


@click.command(epilog="Example: scrip doctor --json")
@click.option("--json", "as_json", is_flag=True, help="Print the report as a JSON object.")
def doctor(as_json: bool) -> None:
    """Check Redis, Postgres and their data. Changes nothing.

    Prints each check with its state, and the remedy for each fault.

    Exits with 0 if nothing is bad, 1 if a check is bad, 2 if a server can't be reached, the settings can't be used, or
    the database is of a version that does not fit.
    """
    from service.server.doctor.checks import examine

    report = examine()
    click.echo(report.render_json() if as_json else report.render_table())
    sys.exit(report.exit_code)


def _end_at_signals() -> None:
    """End with 0 at SIGTERM and SIGINT, until the server has handlers of its own. The first process of a container
    would ignore signals without a handler."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: os._exit(0))  # an exception would be lost if it is raised in a `__del__`

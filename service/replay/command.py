"""The command `scrip replay`, and its tables of results. cli/main.py loads it."""

import asyncio
import secrets
from collections.abc import Iterator
from contextlib import aclosing, contextmanager
from decimal import Decimal
from itertools import count
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import click
from rich import box
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Table

from service.common import config
from service.common.redis_address import check_redis_option
from service.common.running_service import RunningService, Unusable, find_service
from service.replay import check, expectation, order_sender
from service.replay.check import Row
from service.replay.order_sender import ReplayResult, Target
from service.replay.orders import Order, UnusableFile, make_codes, read_orders
from service.replay.preflight import check_access
from service.replay.progress import ReportProgress
from service.replay.retrying_client import Client, UnexpectedResponse, Unreachable


@click.command(epilog="Example: scrip replay orders.jsonl --codes 5000")
@click.argument("orders", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--url", help="URL of the service; default: the `scrip run` of SCRIP_DATA_DIR.")
@click.option(
    "--redis-url", callback=check_redis_option, help="URL of its Redis; default: REDIS_URL, else that of `scrip run`."
)
@click.option("--database-url", help="URL of its Postgres; default: DATABASE_URL, else that of `scrip run`.")
@click.option("--checkout-token", default="demo_checkout", show_default=True, help="A key with the scope `checkout`.")
@click.option("--manage-token", default="demo_manage", show_default=True, help="A key with the scope `manage`.")
@click.option("--operate-token", default="demo_operate", show_default=True, help="A key with the scope `operate`.")
@click.option(
    "--codes", default=3000, show_default=True, type=click.IntRange(1, 999_999), help="Number of codes in the book."
)
@click.option(
    "--in-flight", default=300, show_default=True, type=click.IntRange(1, 10_000), help="Number of parallel requests."
)
def replay(
    orders: Path,
    url: str | None,
    redis_url: str | None,
    database_url: str | None,
    checkout_token: str,
    manage_token: str,
    operate_token: str,
    codes: int,
    in_flight: int,
) -> None:
    """Send orders to a running service and check the results.

    ORDERS is a file with one JSON object a line: orderId, userId, cancelled, orderValue, items. Each order takes a
    coupon of a new book (15 % off, at most 50.00, for orders from 20.00): it locks and redeems the coupon, and unlocks
    it if the redemption is refused. A cancelled order rolls back its user's latest redemption.

    The expected results are computed from the file alone. Exits with 0 if all are equal; 1 if the API's answers, the
    book's statistics, Redis or Postgres differ from them; 2 if the file, a URL or a key can't be used.
    """
    run = secrets.token_hex(4).upper()
    try:
        with _show_progress() as report:
            parsed = read_orders(orders, run, report)
    except (UnusableFile, OSError) as error:
        raise Unusable(
            f"unreadable: {orders} can't be replayed: {error}. Correct the file, and run it again."
        ) from error
    needed = sum(not order.cancelled for order in parsed)
    if needed > codes:
        raise click.UsageError(f"{needed} orders need as many codes. Set --codes {needed}.")
    addresses = _find_addresses(url, redis_url, database_url)
    if not _is_http_url(addresses.url):
        raise click.BadParameter(f"{addresses.url} is not an http or https URL without a user", param_hint="--url")
    target = Target(addresses.url, checkout_token, manage_token, operate_token, run)
    differing = asyncio.run(_replay(parsed, target, addresses, codes, in_flight))
    if differing:
        click.echo(f"{len(differing)} differ: {'; '.join(differing)}.")
        raise SystemExit(1)
    click.echo("All equal.")


def _is_http_url(url: str) -> bool:
    """Whether `url` is an http or https URL with a host and a valid port, and without a user."""
    try:
        parts = urlsplit(url)
        return (
            parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0 and "@" not in parts.netloc
        )
    except ValueError:
        return False


def _find_addresses(url: str | None, redis_url: str | None, database_url: str | None) -> RunningService:
    """Find all addresses: the options, else the settings, else run.json of a running service. Raises Unusable."""
    needed = [name for name, option in (("REDIS_URL", redis_url), ("DATABASE_URL", database_url)) if option is None]
    service = find_service(config.load(), *needed, url=url or "")
    if not service.url:
        raise Unusable("unset: REDIS_URL and DATABASE_URL are not those of a `scrip run`. Name the service with --url.")
    return service._replace(redis_url=redis_url or service.redis_url, database_url=database_url or service.database_url)


async def _replay(
    orders: list[Order], target: Target, addresses: RunningService, codes: int, in_flight: int
) -> list[str]:
    """Send the orders, print the tables, and return the names of the rows that differ. Raises ClickException."""
    expected = expectation.compute_expectation(orders)
    stores_remedy = "`scrip doctor` with the same URLs names the fault."
    try:
        await check.check_stores(addresses.redis_url, addresses.database_url)
    except (OSError, ValueError, OverflowError, asyncpg.PostgresError) as error:
        raise Unusable(
            f"unavailable: The stores can't be read: {type(error).__name__} {error}. {stores_remedy}"
        ) from error
    try:
        await check_access(target)
        with _show_progress() as report:
            book_id = await order_sender.create_book(target, codes, report)
            answered, requests = count(1), expectation.count_requests(expected.answers)
            result = await order_sender.send_orders(
                target, orders, in_flight, lambda: report("Replaying", next(answered), requests)
            )
            async with aclosing(Client(target.url)) as client:
                is_recorded = await check.wait_until_recorded(client, target.operate_token, report)
                stats = await check.read_stats(client, target.manage_token, book_id)
            stores = {  # the names of check.COLUMNS
                "API": check.StoreContents(list(result.redemptions.values())),
                "stats": stats,
                "Redis": await check.read_redis(addresses.redis_url, book_id, make_codes(target.run, codes), report),
                "Postgres": await check.read_postgres(addresses.database_url, book_id, codes, report),
            }
    except UnexpectedResponse as error:
        raise Unusable(f"refused: {error}") from error
    except Unreachable as error:
        raise Unusable(
            f"unavailable: {target.url} does not answer: {error}. Check that the service runs there, and --url."
        ) from error
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        raise Unusable(
            f"unavailable: The stores can't be read: {type(error).__name__} {error}. {stores_remedy}"
        ) from error

    outcomes = check.make_outcome_rows(expected.answers, result.answers)
    totals = check.make_store_rows(expected.redemptions, codes, stores)
    console = Console()
    _print_rows(console, "outcome", outcomes, ("API",))
    _print_rows(console, "total", totals, check.COLUMNS)
    _print_speed(result, target, len(orders), in_flight)
    if not is_recorded:
        click.echo("The record still lags: Postgres lacks the last events. Is a worker running?")
    return [row.name for row in (*outcomes, *totals) if row.differs]


@contextmanager
def _show_progress() -> Iterator[ReportProgress]:
    """Yield a progress callback that shows a bar for each stage."""
    stages: dict[str, TaskID] = {}
    columns = (TextColumn("{task.description:<23}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:

        def report(stage: str, done: int, total: int) -> None:
            if stage not in stages:
                stages[stage] = progress.add_task(stage)
            progress.update(stages[stage], completed=done, total=total)

        yield report


def _print_rows(console: Console, title: str, rows: list[Row], columns: tuple[str, ...]) -> None:
    """Print a table. Rows that differ are red; the values that differ are marked."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 0, 0, 1))
    table.add_column(title)
    for name in ("expected", *columns):
        table.add_column(name, justify="right")
    for row in rows:
        cells = [_format_cell(row, column) for column in columns]
        table.add_row(row.name, _format_value(row.expected), *cells, style="red" if row.differs else None)
    console.print(table)


def _format_cell(row: Row, column: str) -> str:
    if column not in row.actual:
        return ""
    value = row.actual[column]
    return _format_value(value) if value == row.expected else f"≠ {_format_value(value)}"


def _format_value(value: int | Decimal) -> str:
    """Format a number. Amounts get two digits unless they have more."""
    return f"{value:,.2f}" if isinstance(value, Decimal) and value == round(value, 2) else f"{value:,}"


def _print_speed(result: ReplayResult, target: Target, orders: int, in_flight: int) -> None:
    latencies = sorted(result.latencies_s) or [0.0]
    requests = expectation.count_requests(result.answers)
    p50_ms, p99_ms = (1000 * latencies[int(len(latencies) * share)] for share in (0.5, 0.99))
    click.echo(
        f"Run {target.run}: {orders:,} orders, {requests:,} requests in {result.elapsed_s:.1f} s, "
        f"{requests / result.elapsed_s:,.0f} a second, {in_flight} in parallel; "
        f"half answered within {p50_ms:.0f} ms, 99 % within {p99_ms:.0f} ms."
    )
    if result.retries:
        click.echo(
            "Retries: " + ", ".join(f"{count:,} × {reason}" for reason, count in result.retries.most_common()) + "."
        )

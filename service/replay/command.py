"""`scrip replay`: the command, and the tables that it ends with."""

import asyncio
import json
from contextlib import contextmanager
from decimal import Decimal
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit

import click

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import Console

    from service.replay.check import Row
    from service.replay.order_sender import Driven, Target
    from service.replay.orders import Order
    from service.replay.progress import Report


class Addresses(NamedTuple):
    """The service, and the stores behind it."""

    url: str
    redis_url: str
    database_url: str


@click.command()
@click.argument("orders", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--url", help="The service; else the one that `scrip run` started on the data folder.")
@click.option("--redis-url", help="Its Redis; else what run.json or REDIS_URL says.")
@click.option("--database-url", help="Its Postgres; else what run.json or DATABASE_URL says.")
@click.option("--checkout-token", default="demo_checkout", show_default=True, help="A key that locks and redeems.")
@click.option("--manage-token", default="demo_manage", show_default=True, help="A key that makes books and rolls back.")
@click.option(
    "--operate-token", default="demo_operate", show_default=True, help="A key that sees how far the record is."
)
@click.option(
    "--codes", default=3000, show_default=True, type=click.IntRange(1, 999_999), help="How many the book gets."
)
@click.option("--in-flight", default=300, show_default=True, type=click.IntRange(1, 10_000), help="Requests at a time.")
@click.option("--currency", default="GBP", show_default=True, help="The orders' currency, one of two digits.")
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
    currency: str,
) -> None:
    """Send real orders to a running service, and compare what came of them with what the file alone says.

    ORDERS has one order a line, as JSON: orderId, userId, cancelled, orderValue, items. Each takes a coupon of a new
    book (15 % off, at most 50.00, from 20.00 on): locks it, redeems it, unlocks it if that was refused; a cancelled
    one rolls back its user's latest. Exits with 1 where the API's answers, the book's statistics, Redis or Postgres
    differ from what was expected.
    """
    import secrets

    from service.replay.expectation import CURRENCIES
    from service.replay.order_sender import Target
    from service.replay.orders import UnusableFile, read

    if currency not in CURRENCIES:
        raise click.BadParameter(f"must be one of {', '.join(CURRENCIES)}", param_hint="--currency")
    run = secrets.token_hex(4).upper()
    try:
        with _bars() as report:
            found = read(orders, run, report)
    except (UnusableFile, OSError) as error:
        raise click.ClickException(f"{orders} can't be replayed: {error}") from error
    wanted = sum(not order.cancelled for order in found)
    if wanted > codes:
        raise click.ClickException(f"{wanted} orders need as many codes: --codes {wanted}.")
    addresses = _addresses(url, redis_url, database_url)
    if not _is_http(addresses.url):
        raise click.BadParameter(f"{addresses.url} is no http address", param_hint="--url")
    target = Target(addresses.url, checkout_token, manage_token, operate_token, currency, run)
    differing = asyncio.run(_replay(found, target, addresses, codes, in_flight))
    if differing:
        click.echo(f"{len(differing)} differ: {'; '.join(differing)}.")
        raise SystemExit(1)
    click.echo("All equal.")


def _is_http(url: str) -> bool:
    """Whether a service can be asked there."""
    try:
        parts = urlsplit(url)
        return parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def _addresses(url: str | None, redis_url: str | None, database_url: str | None) -> Addresses:
    """Where everything is: as said, else of the running service's run.json, else of the environment."""
    from service.common import config

    settings = config.load()
    try:
        run = json.loads((settings.data_dir / "run.json").read_text())
    except FileNotFoundError:
        run = {}
    if url is not None and url.rstrip("/") != run.get("url"):
        run = {}  # of another service
    found: dict[str, str] = {
        "--url": url or run.get("url", ""),
        "--redis-url": redis_url or run.get("redisUrl") or settings.redis_url or "",
        "--database-url": database_url or run.get("databaseUrl") or settings.database_url or "",
    }
    if missing := [option for option, value in found.items() if not value]:
        raise click.ClickException(
            f"No `scrip run` is at work on {settings.data_dir}: start it, or give {', '.join(missing)}."
        )
    return Addresses(*found.values())


async def _replay(
    orders: "list[Order]", target: "Target", addresses: Addresses, codes: int, in_flight: int
) -> list[str]:
    """Do it all and print the tables; the names of the rows that differ."""
    import asyncpg
    import redis
    from rich.console import Console

    from service.replay import check, expectation, order_sender
    from service.replay.http_client import Refused, Unreachable
    from service.replay.orders import codes as codes_of

    expected = expectation.expect(orders, target.currency)
    try:
        await check.reach_stores(addresses.redis_url, addresses.database_url)
    except (OSError, ValueError, OverflowError, redis.RedisError, asyncpg.PostgresError) as error:
        raise click.ClickException(f"The stores can't be read: {type(error).__name__} {error}") from error
    try:
        with _bars() as report:
            book_id = await order_sender.make_book(target, codes, report)
            driven = await _driven(orders, target, in_flight, expected.requests, report)
            with order_sender.connected(target.url) as client:
                drained = await check.drained(client, target.operate_token, report)
                stats = await check.read_stats(client, target.manage_token, book_id)
            held = {
                "API": check.Held(list(driven.facts.values())),
                "stats": stats,
                "Redis": await check.read_redis(addresses.redis_url, book_id, codes_of(target.run, codes), report),
                "Postgres": await check.read_postgres(addresses.database_url, book_id, codes, report),
            }
    except Refused as error:
        raise click.ClickException(str(error)) from error
    except Unreachable as error:
        raise click.ClickException(f"{target.url} does not answer: {error}") from error
    except (OSError, redis.RedisError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        raise click.ClickException(f"The stores can't be read: {type(error).__name__} {error}") from error

    outcomes = check.outcome_rows(expected.answers, driven.answers)
    facts = check.fact_rows(expected.facts, codes, held)
    console = Console()
    _print_rows(console, "outcome", outcomes, ("API",))
    _print_rows(console, "fact", facts, check.COLUMNS)
    _print_pace(driven, target, len(orders), in_flight)
    if not drained:
        click.echo("The record stays behind: the last events are missing in Postgres. Is a worker running?")
    return [row.name for row in (*outcomes, *facts) if row.differs]


async def _driven(orders: "list[Order]", target: "Target", in_flight: int, requests: int, report: "Report") -> "Driven":
    """Send the orders, and report each answer. Raises Unreachable."""
    from service.replay.http_client import Unreachable

    answered = count(1)
    try:
        return await order_sender(target, orders, in_flight, lambda: report("Replaying", next(answered), requests))
    except* Unreachable as errors:
        raise Unreachable(str(errors.exceptions[0])) from None


@contextmanager
def _bars() -> "Iterator[Report]":
    """Show a progress bar for each stage that is reported."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

    stages: dict[str, TaskID] = {}
    columns = (TextColumn("{task.description:<23}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:

        def report(stage: str, done: int, total: int) -> None:
            if stage not in stages:
                stages[stage] = progress.add_task(stage)
            progress.update(stages[stage], completed=done, total=total)

        yield report


def _print_rows(console: "Console", title: str, rows: "list[Row]", columns: tuple[str, ...]) -> None:
    """A table; what differs is red and marked."""
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 0, 0, 1))
    table.add_column(title)
    for name in ("expected", *columns):
        table.add_column(name, justify="right")
    for row in rows:
        cells = [_cell(row, column) for column in columns]
        table.add_row(row.name, _shown(row.expected), *cells, style="red" if row.differs else None)
    console.print(table)


def _cell(row: "Row", column: str) -> str:
    if column not in row.found:
        return ""
    value = row.found[column]
    return _shown(value) if value == row.expected else f"≠ {_shown(value)}"


def _shown(value: int | Decimal) -> str:
    """Amounts with two digits, where that hides nothing."""
    return f"{value:,.2f}" if isinstance(value, Decimal) and value == round(value, 2) else f"{value:,}"


def _print_pace(driven: "Driven", target: "Target", orders: int, in_flight: int) -> None:
    """How fast it went, and what was sent again."""
    latencies = sorted(driven.latencies_s) or [0.0]
    p50_ms, p99_ms = (1000 * latencies[int(len(latencies) * part)] for part in (0.5, 0.99))
    click.echo(
        f"Run {target.run}: {orders:,} orders, {driven.requests:,} requests in {driven.elapsed_s:.1f} s, "
        f"{driven.requests / driven.elapsed_s:,.0f} a second, {in_flight} at a time; "
        f"half answered within {p50_ms:.0f} ms, 99 % within {p99_ms:.0f} ms."
    )
    if driven.retries:
        click.echo(
            "Sent again: " + ", ".join(f"{count:,} × {why}" for why, count in driven.retries.most_common()) + "."
        )

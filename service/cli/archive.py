"""`scrip archive`: move months of facts from Postgres to files, and back."""

import asyncio
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from service.cli.failures import connect_to_record
from service.common.running_service import Unusable

if TYPE_CHECKING:
    from service.common.config import Settings
    from service.record.facts.month_archiver import Progress


def _parse_month(_context: click.Context, _option: click.Parameter, text: str | None) -> date | None:
    from service.formats.month_archive import parse_month

    try:
        return None if text is None else parse_month(text)
    except ValueError as error:
        raise click.BadParameter(f"{error}.") from None


@click.command(epilog="Example: scrip archive --to /backup/scrip --before 2025-01")
@click.option("--to", metavar="DIR", type=click.Path(file_okay=False, path_type=Path), help="Where the files go.")
@click.option(
    "--before",
    metavar="YYYY-MM",
    callback=_parse_month,
    help="Only months before this one; default: before the current month.",
)
@click.option(
    "--restore",
    metavar="DIR",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Bring back the months of this directory, or the one month that it is.",
)
def archive(to: Path | None, before: date | None, restore: Path | None) -> None:
    """Move old months of facts to files, or bring them back.

    With --to, each month whose books are all retired becomes a directory of gzipped CSV files with checksums. They are
    read back and compared before the month leaves Postgres. Codes are answered as before; lists, exports and rollbacks
    of these books are refused with `book_archived` until their months are restored. Run a killed command again.

    Run it as the owner of the tables, like `scrip migrate`. Exits with 0 if all these months are archived, or restored;
    1 if some stay in Postgres, with the reason of each; 2 if a file is damaged or the database can't be used.
    """
    from service.common import config

    if (to is None) == (restore is None) or (restore and before):
        raise click.UsageError("Use --to DIR, with --before or without, or --restore DIR.")
    settings = config.load()
    sys.exit(asyncio.run(_archive(settings, to, before) if to else _restore(settings, restore or Path())))


async def _archive(settings: "Settings", folder: Path, before: date | None) -> int:
    from service.formats.month_archive import DamagedArchive, month_name
    from service.record.facts.month_archiver import Kept, MonthArchiver

    this_month = datetime.now(UTC).date().replace(day=1)
    stay = 0
    async with connect_to_record(settings) as connection:
        archiver = MonthArchiver(connection, folder)
        with _disk_errors():
            named, left = await archiver.finish_earlier()
        for month in named:
            click.echo(
                f"{month_name(month)}: archived by an earlier command; {folder / month_name(month)} is complete."
            )
        for path in left:
            click.echo(f"{path} is of another command. If none is running, Postgres has its facts: delete it.")
        months = await archiver.months_before(min(before or this_month, this_month))
        for month in months:
            try:
                if month.obstacle:
                    raise Kept(month.obstacle)
                with _disk_errors(), _bar(month_name(month.month), 2 * month.facts) as progress:
                    await archiver.move(month, progress)
            except DamagedArchive as damaged:
                raise Unusable(f"damaged: {damaged}. {month_name(month.month)} stays in Postgres.") from None
            except Kept as reason:
                stay += 1
                click.echo(f"{month_name(month.month)}: stays in Postgres: {reason}")
            else:
                click.echo(f"{month_name(month.month)}: archived, {month.facts} facts.")
        if not months:
            click.echo("Postgres has no such month.")
    return 1 if stay else 0


async def _restore(settings: "Settings", folder: Path) -> int:
    from service.formats.month_archive import DamagedArchive, month_name
    from service.record.facts.month_archiver import Kept, MonthArchiver
    from service.record.facts.month_restorer import MonthRestorer

    stay = 0
    async with connect_to_record(settings) as connection:
        restorer = MonthRestorer(connection)
        try:
            with _disk_errors():
                await MonthArchiver(connection, folder).finish_earlier()
                months = await restorer.read_months(folder)
                absent = [month for month in months if month.is_archived]
                with _bar("Checksums", sum(month.bytes for month in absent)) as progress:
                    restorer.check(absent, progress)
        except DamagedArchive as damaged:
            raise Unusable(f"damaged: {damaged}. Nothing was changed.") from None
        for month in months:
            name = month_name(month.month)
            if not month.is_archived:
                click.echo(f"{name}: is in Postgres already.")
                continue
            try:
                with _disk_errors(), _bar(name, month.rows) as progress:
                    await restorer.restore(month, progress)
            except Kept as reason:
                stay += 1
                click.echo(f"{name}: is not restored: {reason}")
            except DamagedArchive as damaged:
                raise Unusable(f"damaged: {damaged}. {name} was not changed.") from None
            else:
                click.echo(f"{name}: restored, {month.rows} rows. {month.folder} is no longer needed.")
        if not months:
            raise Unusable(f"damaged: {folder} has no directory of a month.")
    return 1 if stay else 0


@contextmanager
def _bar(label: str, length: int) -> "Iterator[Progress]":
    with click.progressbar(length=max(length, 1), label=label) as bar:
        yield lambda more: bar.update(min(more, max(length, 1) - bar.pos))
        bar.update(max(length, 1) - bar.pos)


@contextmanager
def _disk_errors() -> Iterator[None]:
    """Turn errors of the disk into Unusable."""
    try:
        yield
    except (ConnectionError, TimeoutError):
        raise  # of Postgres: connect_to_record explains them
    except OSError as error:
        raise Unusable(f"unavailable: {error.filename or 'the disk'}: {error.strerror}.") from error

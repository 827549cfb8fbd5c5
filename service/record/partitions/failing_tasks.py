"""Tasks of the worker that fail and are begun anew: a row each while that is so."""

from datetime import datetime

import msgspec

from service.record.pool import Database
from service.record.queries import query


class Failing(msgspec.Struct, frozen=True):
    """A task that fails: how often, for what type of error the last time, and since when."""

    task: str
    failures: int
    reason: str
    since: datetime
    last_at: datetime


async def note_failing(database: Database, partition: int, task: str, reason: str) -> None:
    """A task has failed once more."""
    await database.execute(query("note_failing_task"), partition, task, reason)


async def forget_failing(database: Database, partition: int, task: str) -> None:
    """A task is well."""
    await database.execute(query("forget_failing_task"), partition, task)


async def read_failing(database: Database, partition: int) -> list[Failing]:
    """A partition's, by name."""
    return [Failing(*row) for row in await database.fetch(query("read_failing_tasks"), partition)]

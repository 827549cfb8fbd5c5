"""The worker's failing tasks, one row each."""

from datetime import datetime

import msgspec

from service.record.pool import Database
from service.record.queries import query


class FailingTask(msgspec.Struct, frozen=True):
    """A failing task: the number of failures, the last error's type, and the first failure's time."""

    task: str
    failures: int
    reason: str
    since: datetime
    last_at: datetime


async def store_task_failure(database: Database, partition: int, task: str, reason: str) -> None:
    await database.execute(query("note_failing_task"), partition, task, reason)


async def clear_task_failures(database: Database, partition: int, task: str) -> None:
    await database.execute(query("forget_failing_task"), partition, task)


async def read_failing(database: Database, partition: int) -> list[FailingTask]:
    return [FailingTask(*row) for row in await database.fetch(query("read_failing_tasks"), partition)]

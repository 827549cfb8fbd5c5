"""The worker's failing tasks, one row each. task_supervisor.py stores them; the doctor, consistency.py and recover.py
read them, and consistency.py copies the fields by name into JSON."""

from datetime import datetime

import msgspec

from service.engine.record.pool import Database
from service.engine.record.queries import query


class FailingTask(msgspec.Struct, frozen=True):
    """A failing task: the number of failures, the last error's type, and the first failure's time."""

    task: str
    failures: int
    reason: str
    since: datetime


async def store_task_failure(database: Database, partition: int, task: str, reason: str) -> None:
    await database.execute(query("store_task_failure"), partition, task, reason)


async def clear_task_failures(database: Database, partition: int, task: str) -> None:
    await database.execute(query("clear_task_failures"), partition, task)


async def read_failing(database: Database, partition: int) -> list[FailingTask]:
    return [FailingTask(*row) for row in await database.fetch(query("read_failing_tasks"), partition)]

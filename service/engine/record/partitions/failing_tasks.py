"""The worker's failing tasks, one row each, and the things that they have set aside. task_supervisor.py and
set_aside.py store them; the doctor, consistency.py and recover.py read them, and consistency.py copies the fields by
name into JSON."""

from datetime import datetime
from typing import NamedTuple

import msgspec

from service.engine.record.pool import Database, count_changed
from service.engine.record.queries import query

MOST_READ = 1000


class FailingTask(msgspec.Struct, frozen=True):
    """A failing task, or a thing of a workspace that it has set aside: the number of failures, the last error's type,
    and the first failure's time."""

    task: str
    failures: int
    reason: str
    since: datetime
    thing: str = ""
    """'' for the whole task."""
    workspace: str | None = None
    """The name of the thing's workspace."""
    next_try_at: datetime | None = None


class Resting(NamedTuple):
    """How often a thing has failed, and for how long it is left out."""

    failures: int
    pause_s: float


async def store_task_failure(database: Database, partition: int, task: str, reason: str) -> None:
    await database.execute(query("store_task_failure"), partition, task, reason)


async def clear_task_failures(database: Database, partition: int, task: str, thing: str = "") -> None:
    await database.execute(query("clear_task_failures"), partition, task, thing)


async def read_failing(database: Database, partition: int, workspace: int | None = None) -> list[FailingTask]:
    """A partition's failing tasks, then what they have set aside of all workspaces, or of one."""
    return [
        FailingTask(*row) for row in await database.fetch(query("read_failing_tasks"), partition, workspace, MOST_READ)
    ]


async def set_aside(
    database: Database,
    partition: int,
    task: str,
    thing: str,
    workspace: int | None,
    reason: str,
    pauses_s: tuple[float, float],
) -> Resting:
    """Count a thing's failure. The task leaves the thing out, for a pause that doubles from the first of `pauses_s` to
    the second: queries ask `is_set_aside`."""
    row = await database.fetchrow(query("set_aside"), partition, task, thing, workspace, reason, *pauses_s)
    return Resting(*row)  # type: ignore[misc]


async def read_set_aside(database: Database, partition: int, task: str) -> set[str]:
    return {row[0] for row in await database.fetch(query("read_set_aside"), partition, task)}


async def read_resting(database: Database, partition: int, task: str) -> set[str]:
    """Those that are left out now."""
    return {row[0] for row in await database.fetch(query("read_resting"), partition, task)}


async def count_set_aside(database: Database) -> dict[tuple[int, str], int]:
    """How many things are set aside, by partition and task."""
    return {(row[0], row[1]): row[2] for row in await database.fetch(query("count_set_aside"))}


async def prune_set_aside(database: Database, limit: int) -> int:
    """Forget at most so many things that are gone; return their number."""
    return await count_changed(database, query("prune_set_aside"), limit)

"""The users to whom a job assigns codes, and what became of each."""

from collections.abc import Sequence
from typing import NamedTuple
from uuid import UUID

from service.formats.change_results import Result
from service.record.config.code_changes import TakenChange, advance
from service.record.pool import Connection, Database
from service.record.queries import query


class JobUser(NamedTuple):
    """A user, and its place in the request."""

    number: int
    user_id: str


class DecidedUser(NamedTuple):
    """What became of a user: the code that it has, '' for none, or the code of a refusal."""

    number: int
    result: Result
    code: str = ""
    reason: str = ""


class AssignedCode(NamedTuple):
    """A line of the results of a job that assigns codes, as CodeResult."""

    code: str
    result: Result
    before: str
    after: str
    reason: str
    user_id: str


async def read_undecided(database: Database, job_id: UUID) -> list[JobUser]:
    """The users who have no code yet, in the request's order."""
    return [JobUser(*row) for row in await database.fetch(query("undecided_users"), job_id)]


async def store_decided(
    connection: Connection, job: TakenChange, token: UUID, last: int, decided: Sequence[DecidedUser], lease_s: int
) -> str:
    """Store what became of users and the job's cursor, in the caller's transaction, and return the job's status. Raises
    LostLease."""
    status = await advance(connection, job, token, last, len(decided), [one.result for one in decided], lease_s)
    if decided:
        numbers, results, codes, reasons = (list(column) for column in zip(*decided, strict=True))
        await connection.execute(query("decide_users"), job.job_id, numbers, results, codes, reasons)
    return status


async def read_assigned(database: Database, job_id: UUID) -> list[AssignedCode]:
    """What became of a job's users so far."""
    return [AssignedCode(*row) for row in await database.fetch(query("assigned_users"), job_id)]

"""Read for the console who changed a code, alone, by its book or by a job; and who ordered a job. timelines.py and
overview.py call this. The names in `_FIELDS` are those of the audit and the console. The subject of a code's change is
as code_rows.py writes it."""

from collections.abc import Collection
from datetime import datetime
from typing import Any, Literal, NamedTuple
from uuid import UUID

import msgspec
from asyncpg import Record

from service.engine.record.actor import ActorKind, mask
from service.engine.record.pool import Database
from service.engine.record.queries import query
from service.server.in_postgres.change_results import unpack_results
from service.server.in_postgres.code_pages import CodePlace
from service.server.requests.code_change_requests import CodeChange

MAX_CHANGES = 50
"""Audited changes that are read, of a code and its book together."""
MAX_JOBS = 20
"""Jobs of the book in whose results the code is looked up."""

_FIELDS = {"switchOff": "status", "switchOn": "status", "expire": "expiresAt", "setExpiry": "expiresAt"}
"""What a job changes, by its action. What others do is in the facts."""


class ChangeActor(NamedTuple):
    """Who made a change: a key, whose name it has, a person, a command, or the service itself."""

    actor: ActorKind | None
    key_id: UUID | None
    key_name: str | None
    person: str | None

    @classmethod
    def of(cls, row: Record) -> "ChangeActor":
        return cls(row["actor"], row["key_id"], row["key_name"], row["person"])


UNKNOWN = ChangeActor(None, None, None, None)


class CodeHistoryEntry(NamedTuple):
    """A change of the code or of its book, or what a person or key did with the code in the console, with neither
    `before` nor `after`."""

    at: datetime
    scope: Literal["code", "book", "job"]
    action: str
    actor: ChangeActor
    job_id: UUID | None
    before: dict[str, Any]
    after: dict[str, Any]


async def read_job_actors(database: Database, workspace: int, job_ids: Collection[UUID]) -> dict[UUID, ChangeActor]:
    """Who ordered those of these jobs that the audit has."""
    if not job_ids:
        return {}
    rows = await database.fetch(query("read_job_actors"), workspace, list(map(str, job_ids)))
    return {row["job_id"]: ChangeActor.of(row) for row in rows}


async def read_rollback_actors(
    database: Database, workspace: int, subjects: Collection[str]
) -> list[tuple[str, datetime, ChangeActor]]:
    """Who rolled these redemptions or orders back in the console, and when."""
    rows = await database.fetch(query("read_rollback_actors"), workspace, list(subjects)) if subjects else []
    return [(row["subject"], row["at"], ChangeActor.of(row)) for row in rows]


async def read_code_history(database: Database, workspace: int, code: str, place: CodePlace) -> list[CodeHistoryEntry]:
    """The changes of a code and its book, the newest first. Those of the code alone are of any code of the book that is
    masked alike: the audit stores no whole codes."""
    subjects = [str(place.book_id), f"{place.book_id} {mask(code)}"]
    entries = [
        CodeHistoryEntry(
            row["at"],
            "book" if row["action"] == "book.changed" else "code",
            row["action"],
            ChangeActor.of(row),
            None,
            msgspec.json.decode(row["before"] or "{}"),
            msgspec.json.decode(row["after"] or "{}"),
        )
        for row in await database.fetch(query("audited_changes"), workspace, subjects, MAX_CHANGES)
    ]
    entries += await _changes_by_jobs(database, workspace, code, place)
    return sorted(entries, key=lambda entry: entry.at, reverse=True)


async def _changes_by_jobs(database: Database, workspace: int, code: str, place: CodePlace) -> list[CodeHistoryEntry]:
    """What jobs of the book have changed of the code; at the time when they were ordered."""
    jobs = await database.fetch(query("page_changes_of_book"), workspace, place.book, MAX_JOBS)
    actors = await read_job_actors(database, workspace, [job["job_id"] for job in jobs])
    entries = []
    for job in jobs:
        if not (field := _FIELDS.get(msgspec.json.decode(job["parameters"], type=CodeChange).action)):
            continue
        # A page of results has the position of the last of its codes, which is the oldest.
        page = await database.fetchrow(query("page_job_results"), job["job_id"], place.position + 1)
        entries += [
            CodeHistoryEntry(
                job["started_at"], "job", "coupon.changed", actors.get(job["job_id"], UNKNOWN), job["job_id"],
                {field: one.before or None}, {field: one.after or None},
            )
            for one in (unpack_results(page["lines"]) if page else ()) if one.code == code and one.result == "changed"
        ]  # fmt: skip
    return entries

"""Names of objects by their ids, for audit (audit.py) and console (overview.py). None contains a whole code."""

from collections.abc import Collection
from uuid import UUID

import msgspec

from service.engine.record.pool import Database
from service.engine.record.queries import query
from service.server.in_postgres.book_rows import mask_name


class ObjectName(msgspec.Struct, frozen=True):
    """The current name of a book or key, a webhook's address, or the name of a job's book. The code in the default name
    of a single coupon is masked."""

    name: str
    book_id: UUID | None


async def read_names(database: Database, workspace: int, ids: Collection[UUID]) -> dict[UUID, ObjectName]:
    """The names of those of these ids that are objects of the workspace."""
    if not ids:
        return {}
    rows = await database.fetch(query("names_of_objects"), workspace, list(ids))
    return {
        row["id"]: ObjectName(mask_name(row["name"]) if row["book_id"] else row["name"], row["book_id"]) for row in rows
    }

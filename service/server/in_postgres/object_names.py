"""Names of objects by their ids, for audit (audit.py), reports (reports.py) and console (overview.py)."""

from collections.abc import Collection
from uuid import UUID

from service.engine.record.pool import Database
from service.engine.record.queries import query
from service.server.in_postgres.book_rows import mask_name


async def read_names(database: Database, workspace: int, ids: Collection[UUID]) -> dict[UUID, str]:
    """The names of those of these ids that are objects of the workspace: the current name of a book or key, a webhook's
    address, or the name of a job's book. None contains a whole code."""
    rows = await database.fetch(query("names_of_objects"), workspace, list(ids)) if ids else []
    return {row["id"]: mask_name(row["name"]) if row["book_id"] else row["name"] for row in rows}

"""The audit: who changed what, written in the change's own transaction; and what was refused, counted."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

import msgspec

from service.access.actor import current_actor
from service.access.keyring import RejectionCount
from service.record.pool import Connection, Database
from service.record.queries import query

_LEFT_OUT = ("updatedAt", "jobId")


class AuditRow(msgspec.Struct, frozen=True, kw_only=True):
    """Something that was done; `before` and `after` are JSON."""

    position: int
    at: datetime
    actor: Literal["key", "command", "service"]
    key_id: UUID | None
    key_name: str | None
    ip: str | None
    user_agent: str | None
    request_id: str | None
    action: str
    subject: str
    before: str | None
    after: str | None


async def note(
    connection: Connection, workspace: int, action: str, subject: object, before: Any = None, after: Any = None
) -> None:
    """Say in this transaction what it does. Of two wholes only what differs is kept."""
    if before is not None and after is not None:
        old, new = msgspec.to_builtins(before), msgspec.to_builtins(after)
        changed = [name for name in new if name not in _LEFT_OUT and old.get(name) != new[name]]
        before, after = ({name: of[name] for name in changed} for of in (old, new))
    who = current_actor.get()
    await connection.execute(query("insert_audit"), workspace, *who, action, str(subject), _json(before), _json(after))


async def note_refused(connection: Connection, refused: Sequence[RejectionCount]) -> None:
    """Record the rejections. One with a revoked or expired key is recorded under that key's id."""
    digests = [one.digest for one in refused if one.digest is not None]
    owners = {row["secret_hash"]: row for row in await connection.fetch(query("read_key_owners"), digests)}
    counted: dict[tuple[int | None, str, str], int] = {}
    for one in refused:
        workspace, key_id = one.workspace, one.key_id
        if one.digest is not None and (owner := owners.get(one.digest)):
            workspace, key_id = owner["workspace"], owner["key_id"]
        whose = (workspace, "" if key_id is None else str(key_id), one.code)
        counted[whose] = counted.get(whose, 0) + one.times
    for (workspace, subject, code), count in counted.items():
        told = _json({"code": code, "count": count})
        await connection.execute(
            query("insert_audit"), workspace, "service", None, None, None, None, "attempts.refused", subject, None, told
        )


async def page_audit(
    database: Database,
    workspace: int,
    limit: int,
    before: int | None,
    action: str | None = None,
    actor: str | None = None,
    key_id: UUID | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
) -> list[AuditRow]:
    """What was done, newest first; of what is named only that. `since` belongs to it, `until` no more."""
    values = (workspace, before, limit, action, actor, key_id, since, until)
    records = await database.fetch(query("page_audit"), *values)
    return [AuditRow(**dict(record)) for record in records]


def _json(value: Any) -> str | None:
    return None if value is None else msgspec.json.encode(value).decode()

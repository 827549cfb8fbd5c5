"""The audit: who changed what, written in the change's own transaction; and counts of rejected attempts. Each
change of configuration calls `write_audit`. Names of actions are in the API, audit.js, audit.sql and 0005_audit.sql.
audit.py copies AuditRow's fields by name, and its CSV has them in their order. Pass no whole code."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

import msgspec
from asyncpg import Pool

from service.engine.record.actor import Actor, ActorKind
from service.engine.record.pool import FRESH_PLAN, IN_ORDER, Connection, bounded_read, set_locally
from service.engine.record.queries import query
from service.engine.record.stored_json import encode_json
from service.server.access.keyring import RejectionCount

NEWEST_FIRST = FRESH_PLAN | IN_ORDER
"""A cached plan, for any filters, expects few rows and so reads all of a workspace's first."""


class AuditRow(msgspec.Struct, frozen=True):
    """An audited action, in the order of the query's columns; `before` and `after` are JSON."""

    position: int
    at: datetime
    actor: ActorKind
    key_id: UUID | None
    key_name: str | None
    person: str | None
    ip: str | None
    user_agent: str | None
    request_id: str | None
    action: str
    subject: str
    before: str | None
    after: str | None


async def record_rejections(connection: Connection, rejections: Sequence[RejectionCount]) -> None:
    """Audit rejected attempts. One with a revoked or expired key is audited under that key's id."""
    digests = [rejection.digest for rejection in rejections if rejection.digest is not None]
    owners = {row["secret_hash"]: row for row in await connection.fetch(query("read_key_owners"), digests)}
    counted: dict[tuple[int | None, str, str], int] = {}
    for rejection in rejections:
        workspace, key_id = rejection.workspace, rejection.key_id
        if rejection.digest is not None and (owner := owners.get(rejection.digest)):
            workspace, key_id = owner["workspace"], owner["key_id"]
        group = (workspace, "" if key_id is None else str(key_id), rejection.code)
        counted[group] = counted.get(group, 0) + rejection.times
    for (workspace, subject, code), count in counted.items():
        values = (*Actor(), "attempts.refused", subject, None, encode_json({"code": code, "count": count}))
        await connection.execute(query("insert_audit"), workspace, *values)


async def page_audit(
    pool: Pool,
    workspace: int,
    limit: int,
    before: int | None,
    action: str | None = None,
    actor: str | None = None,
    key_id: UUID | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
    person: str | None = None,
) -> list[AuditRow]:
    """Audited actions, newest first, filtered by the given values; from `since` on and before `until`. Raises Refusal
    `invalid` if a filter takes too long."""
    values = (workspace, before, limit, action, actor, key_id, since, until, person)
    async with bounded_read(pool, "query", "export the audit instead") as connection:
        await set_locally(connection, NEWEST_FIRST)
        records = await connection.fetch(query("page_audit"), *values)
    return [AuditRow(*record) for record in records]

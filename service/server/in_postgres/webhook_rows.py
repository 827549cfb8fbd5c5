"""Webhooks, their deliveries, and notifications of events that are no facts. webhooks.py calls this; comparisons.py
notifies (`reconcile.drift`), housekeeping.py prunes. webhooks.py copies the fields of WebhookRow and DeliveryRow by
name, and both have the columns of their queries. The sender's own statements are in delivery_rows.py."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Literal, TypeVar, cast
from uuid import UUID

import msgspec
from asyncpg import Pool, Record

from service.engine.domain.errors import Refusal, invalid
from service.engine.record.audit_entries import write_audit
from service.engine.record.pool import Connection, Database, count_changed
from service.engine.record.queries import query
from service.engine.record.stored_json import encode_json
from service.server.requests.webhook_protocol import (
    KEEP_DAYS,
    MAX_PENDING,
    MAX_TESTS,
    MAX_WEBHOOKS,
    NO_DELIVERY,
    NO_WEBHOOK,
)

T = TypeVar("T")


class WebhookRow(msgspec.Struct, frozen=True, kw_only=True):
    """A webhook, without its secrets; `webhook` is its inner number."""

    webhook: int
    webhook_id: UUID
    url: str
    events: list[str]
    description: str
    status: Literal["active", "inactive"]
    reason: Literal["failing", "gone"] | None
    inactive_since: datetime | None
    failing_since: datetime | None
    created_at: datetime
    updated_at: datetime


class DeliveryRow(msgspec.Struct, frozen=True, kw_only=True):
    """An event for a webhook, and the state of its delivery."""

    position: int
    delivery_id: UUID
    event_id: str
    event: str
    status: Literal["pending", "delivered", "failed"]
    attempts: int
    last_status: int | None
    last_error: str | None
    created_at: datetime
    last_attempt_at: datetime | None
    next_attempt_at: datetime | None
    attempt_log: str = "[]"
    """JSON; only of a delivery that is read alone."""


async def notify_webhooks(connection: Connection, workspace: int, event: str, data: Mapping[str, Any]) -> int:
    """Make deliveries to the workspace's webhooks with this event, in the caller's transaction; return their number."""
    return cast("int", await connection.fetchval(query("notify_webhooks"), workspace, event, encode_json(data)))


async def create_webhook(
    pool: Pool, workspace: int, url: str, events: Sequence[str], description: str, secret: bytes
) -> WebhookRow:
    """Create a webhook for facts from now on. Raises Refusal `invalid` if there are too many."""
    async with pool.acquire() as connection, connection.transaction():
        await connection.execute(query("lock_webhooks"), workspace)
        values = (workspace, url, events, description, secret, MAX_WEBHOOKS)
        record = await connection.fetchrow(query("insert_webhook"), *values)
        if record is None:
            raise invalid("url", f"would be one more than the {MAX_WEBHOOKS} webhooks that a workspace may have")
        row = _row_of(WebhookRow, record)
        await write_audit(connection, workspace, "webhook.created", row.webhook_id, after=_to_audit(row))
    return row


async def read_webhook(database: Database, workspace: int, webhook_id: UUID) -> WebhookRow:
    """Raises Refusal `not_found`."""
    return _row_of(WebhookRow, await database.fetchrow(query("read_webhook"), workspace, webhook_id))


async def page_webhooks(database: Database, workspace: int, limit: int, before: int | None) -> list[WebhookRow]:
    """Newest first."""
    return [
        _row_of(WebhookRow, record) for record in await database.fetch(query("page_webhooks"), workspace, before, limit)
    ]


async def patch_webhook(
    pool: Pool,
    workspace: int,
    webhook_id: UUID,
    *,
    url: str | None = None,
    events: Sequence[str] | None = None,
    description: str | None = None,
    status: str | None = None,
) -> WebhookRow:
    """Change the values that are not None. Raises Refusal `not_found`."""
    async with pool.acquire() as connection, connection.transaction():
        before = await read_webhook(connection, workspace, webhook_id)
        values = (workspace, webhook_id, url, events, description, status, KEEP_DAYS)
        row = _row_of(WebhookRow, await connection.fetchrow(query("patch_webhook"), *values))
        if before.status == "inactive" and row.status == "active":  # now it gets the events since then
            await connection.execute(query("send_waiting"), row.webhook)
        await write_audit(connection, workspace, "webhook.changed", webhook_id, _to_audit(before), _to_audit(row))
    return row


async def rotate_secret(pool: Pool, workspace: int, webhook_id: UUID, secret: bytes, overlap_s: int) -> WebhookRow:
    """Sign with the new secret, and for so long also with the old one. Raises Refusal `not_found`."""
    async with pool.acquire() as connection, connection.transaction():
        row = _row_of(
            WebhookRow, await connection.fetchrow(query("rotate_secret"), workspace, webhook_id, secret, overlap_s)
        )
        await write_audit(connection, workspace, "webhook.rotated", webhook_id, after={"overlapSeconds": overlap_s})
    return row


async def delete_webhook(pool: Pool, workspace: int, webhook_id: UUID) -> bool:
    """Delete a webhook; return whether it existed."""
    async with pool.acquire() as connection, connection.transaction():
        if await connection.fetchval(query("delete_webhook"), workspace, webhook_id) is None:
            return False
        await write_audit(connection, workspace, "webhook.deleted", webhook_id)
    return True


async def send_test_event(pool: Pool, workspace: int, row: WebhookRow) -> DeliveryRow:
    """Make a delivery of a test event, to this webhook alone. Raises Refusal `rate_limited` if too many wait."""
    values = (row.webhook, encode_json({"webhookId": row.webhook_id}), MAX_TESTS)
    async with pool.acquire() as connection, connection.transaction():
        await connection.execute(query("lock_webhooks"), workspace)
        record = await connection.fetchrow(query("send_test_event"), *values)
    if record is None:
        detail = f"At most {MAX_TESTS} test events of a webhook wait; try again when one has been delivered."
        raise Refusal.temporary("rate_limited", detail, 1000, 3000)
    return _row_of(DeliveryRow, record)


async def page_deliveries(database: Database, webhook: int, limit: int, before: int | None) -> list[DeliveryRow]:
    """Newest first."""
    return [
        _row_of(DeliveryRow, record)
        for record in await database.fetch(query("page_deliveries"), webhook, before, limit)
    ]


async def read_delivery(database: Database, webhook: int, delivery_id: UUID) -> DeliveryRow:
    """Raises Refusal `not_found`."""
    return _row_of(DeliveryRow, await database.fetchrow(query("read_delivery"), webhook, delivery_id))


async def redeliver(pool: Pool, workspace: int, webhook: int, delivery_id: UUID) -> DeliveryRow:
    """Send the delivery once more. Raises Refusal `not_found`, and `rate_limited` for one more pending delivery than a
    webhook may have."""
    async with pool.acquire() as connection, connection.transaction():
        await connection.execute(query("lock_webhooks"), workspace)
        is_sent = await connection.fetchval(query("redeliver"), webhook, delivery_id, MAX_PENDING)
        row = await read_delivery(connection, webhook, delivery_id)
    if not is_sent:
        detail = f"At most {MAX_PENDING:,} deliveries of a webhook wait; try again when some have been delivered."
        raise Refusal.temporary("rate_limited", detail, 1000, 3000)
    return row


async def prune_webhooks(database: Database, limit: int) -> int:
    """Delete old deliveries, deleted webhooks with their deliveries, and expired secrets; at most so many deliveries
    of each kind. Return the number of old ones."""
    await database.execute(query("prune_old_secrets"))
    await database.execute(query("prune_webhooks"), limit)
    return await count_changed(database, query("prune_deliveries"), KEEP_DAYS, limit)


def _to_audit(row: WebhookRow) -> dict[str, Any]:
    return {name: getattr(row, name) for name in ("url", "events", "description", "status")}


def _row_of(kind: type[T], record: Record | None) -> T:
    if record is None:
        raise Refusal("not_found", NO_WEBHOOK if kind is WebhookRow else NO_DELIVERY)
    return kind(**dict(record))

"""Webhooks of a workspace, their deliveries, and telling what no fact tells."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Literal, cast
from uuid import UUID

import msgspec
from asyncpg import Pool, Record

from service.domain.errors import Refusal, invalid
from service.domain.webhook_protocol import KEEP_DAYS, MAX_WEBHOOKS
from service.record.config.audit_log import note
from service.record.pool import Connection, Database
from service.record.queries import query


class WebhookRow(msgspec.Struct, frozen=True, kw_only=True):
    """A webhook, as its workspace's operators see it; `webhook` is its inner number."""

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
    """An event for a webhook, and how its delivery went."""

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


async def tell(connection: Connection, workspace: int, event: str, data: Mapping[str, Any]) -> int:
    """Tell a workspace's webhooks that want to hear of it, in the caller's transaction: it is sent if that commits, and
    nothing is written where nobody listens. How many deliveries that makes."""
    packed = msgspec.json.encode(data).decode()
    return cast("int", await connection.fetchval(query("tell_webhooks"), workspace, event, packed))


async def create_webhook(
    pool: Pool, workspace: int, partition: int, url: str, events: Sequence[str], description: str, secret: bytes
) -> WebhookRow:
    """A webhook that hears of what is recorded from now on. Raises Refusal `invalid` where there are too many."""
    async with pool.acquire() as connection, connection.transaction():
        await connection.execute(query("lock_webhooks"), workspace)
        values = (workspace, partition, url, events, description, secret, MAX_WEBHOOKS)
        record = await connection.fetchrow(query("insert_webhook"), *values)
        if record is None:
            raise invalid("url", f"would be one more than the {MAX_WEBHOOKS} webhooks that a workspace may have")
        row = _webhook(record)
        await note(connection, workspace, "webhook.created", row.webhook_id, after=_told(row))
    return row


async def read_webhook(database: Database, workspace: int, webhook_id: UUID) -> WebhookRow:
    """A webhook. Raises Refusal `not_found`."""
    return _webhook(await database.fetchrow(query("read_webhook"), workspace, webhook_id))


async def page_webhooks(database: Database, workspace: int, limit: int, before: int | None) -> list[WebhookRow]:
    """Webhooks, newest first."""
    return [_webhook(record) for record in await database.fetch(query("page_webhooks"), workspace, before, limit)]


async def patch_webhook(
    pool: Pool,
    workspace: int,
    webhook_id: UUID,
    url: str | None,
    events: Sequence[str] | None,
    description: str | None,
    status: str | None,
) -> WebhookRow:
    """The webhook with what is not None changed. Raises Refusal `not_found`."""
    async with pool.acquire() as connection, connection.transaction():
        before = await read_webhook(connection, workspace, webhook_id)
        values = (workspace, webhook_id, url, events, description, status, KEEP_DAYS)
        row = _webhook(await connection.fetchrow(query("patch_webhook"), *values))
        if before.status == "inactive" and row.status == "active":
            await connection.execute(query("send_waiting"), row.webhook)
        await note(connection, workspace, "webhook.changed", webhook_id, _told(before), _told(row))
    return row


async def rotate_secret(pool: Pool, workspace: int, webhook_id: UUID, secret: bytes, overlap_s: int) -> WebhookRow:
    """The webhook, which signs with the new secret, and with the old one for so long. Raises Refusal `not_found`."""
    async with pool.acquire() as connection, connection.transaction():
        row = _webhook(await connection.fetchrow(query("rotate_secret"), workspace, webhook_id, secret, overlap_s))
        await note(connection, workspace, "webhook.rotated", webhook_id, after={"overlapSeconds": overlap_s})
    return row


async def delete_webhook(pool: Pool, workspace: int, webhook_id: UUID) -> bool:
    """Whether there was such a webhook; nothing more is sent to it."""
    async with pool.acquire() as connection, connection.transaction():
        if await connection.fetchval(query("delete_webhook"), workspace, webhook_id) is None:
            return False
        await note(connection, workspace, "webhook.deleted", webhook_id)
    return True


async def tell_webhook(database: Database, row: WebhookRow) -> DeliveryRow:
    """A test event for one webhook."""
    packed = msgspec.json.encode({"webhookId": row.webhook_id}).decode()
    return _delivery(await database.fetchrow(query("tell_webhook"), row.webhook, packed))


async def page_deliveries(database: Database, webhook: int, limit: int, before: int | None) -> list[DeliveryRow]:
    """A webhook's deliveries, newest first."""
    return [_delivery(record) for record in await database.fetch(query("page_deliveries"), webhook, before, limit)]


async def redeliver(database: Database, webhook: int, delivery_id: UUID) -> DeliveryRow:
    """The delivery, which is sent once more. Raises Refusal `not_found`."""
    await database.execute(query("redeliver"), webhook, delivery_id)
    return _delivery(await database.fetchrow(query("read_delivery"), webhook, delivery_id))


async def prune_webhooks(database: Database, limit: int) -> int:
    """Forget old deliveries, those of webhooks that are gone, and secrets that sign no more; at most so many
    deliveries of each kind. How many old ones there were."""
    await database.execute(query("prune_old_secrets"))
    await database.execute(query("prune_webhooks"), limit)
    return int((await database.execute(query("prune_deliveries"), KEEP_DAYS, limit)).split()[1])


def _told(row: WebhookRow) -> dict[str, Any]:
    return {name: getattr(row, name) for name in ("url", "events", "description", "status")}


def _webhook(record: Record | None) -> WebhookRow:
    if record is None:
        raise Refusal("not_found")
    return WebhookRow(**dict(record))


def _delivery(record: Record | None) -> DeliveryRow:
    if record is None:
        raise Refusal("not_found")
    return DeliveryRow(**dict(record))

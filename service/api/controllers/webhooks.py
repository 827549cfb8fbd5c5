"""Webhooks: who is told of what happens, and how that went."""

from typing import Annotated, Any, Literal
from uuid import UUID

import msgspec
from litestar import Controller, Request, Response, delete, get, patch, post
from litestar.params import PathParameter
from msgspec import UNSET

from service.api.auth import caller
from service.api.context import Context
from service.api.documented import documented
from service.api.idempotency import Answered, once
from service.api.reading import Listing, id_of, json_body, json_bytes, position, query
from service.domain.decoding import decode
from service.domain.errors import Refusal, invalid
from service.domain.field_types import Answer
from service.domain.times import Timestamp, from_ms, to_ms
from service.domain.webhook_addresses import BadAddress, parse_target
from service.domain.webhook_protocol import (
    CreateWebhook,
    Nothing,
    PatchWebhook,
    RotateSecret,
    format_secret,
    generate_secret,
)
from service.formats import page_cursors
from service.record.config import webhook_rows
from service.record.config.webhook_rows import DeliveryRow, WebhookRow

DEFAULT_OVERLAP_S = 86_400
_WEBHOOK_TIMES = "inactive_since failing_since created_at updated_at"
_DELIVERY_TIMES = "created_at last_attempt_at next_attempt_at"

_EXAMPLE = {
    "webhookId": "019aa0b2-8f02-7c11-9a3e-6f1d0c2b7e44",
    "url": "https://shop.example/scrip",
    "events": ["coupon.redeemed", "redemption.rolled_back"],
    "description": "orders service",
    "status": "active",
    "reason": None,
    "inactiveSince": None,
    "failingSince": None,
    "createdAt": "2026-11-20T09:14:00.123Z",
    "updatedAt": "2026-11-20T09:14:00.123Z",
}
_NEW = _EXAMPLE | {"secret": "whsec_…"}
_DELIVERY = {
    "deliveryId": "019aa0b3-11d0-7a55-b0c4-3b8f5e2a9d10",
    "eventId": "evt_3-118204-1",
    "event": "coupon.redeemed",
    "status": "pending",
    "attempts": 2,
    "lastStatus": 503,
    "lastError": "status 503",
    "createdAt": "2026-11-20T09:15:00.456Z",
    "lastAttemptAt": "2026-11-20T09:15:06.012Z",
    "nextAttemptAt": "2026-11-20T09:15:36.012Z",
}

WebhookId = Annotated[str, PathParameter(name="webhookId", description="The webhook's id.")]
DeliveryId = Annotated[str, PathParameter(name="deliveryId", description="The delivery's id.")]


class Webhook(Answer, kw_only=True):
    """A webhook, without its secret. `reason` says why it was switched off where nobody did: nothing got through for
    three days (`failing`), or its receiver answered 410 (`gone`)."""

    webhook_id: UUID
    url: str
    events: list[str]
    description: str
    status: Literal["active", "inactive"]
    reason: Literal["failing", "gone"] | None
    inactive_since: Timestamp | None
    failing_since: Timestamp | None
    created_at: Timestamp
    updated_at: Timestamp


class NewWebhook(Webhook, kw_only=True):
    """A webhook with its secret, which is shown this once; a repeated request gets null."""

    secret: str | None


class WebhookPage(Answer, kw_only=True):
    """A page of webhooks, newest first."""

    items: list[Webhook]
    next_cursor: str | None


class Delivery(Answer, kw_only=True):
    """An event for a webhook, and how its delivery goes: `eventId` is what the receiver knows as `webhook-id`."""

    delivery_id: UUID
    event_id: str
    event: str
    status: Literal["pending", "delivered", "failed"]
    attempts: int
    last_status: int | None
    last_error: str | None
    created_at: Timestamp
    last_attempt_at: Timestamp | None
    next_attempt_at: Timestamp | None


class DeliveryPage(Answer, kw_only=True):
    """A page of deliveries, newest first."""

    items: list[Delivery]
    next_cursor: str | None


_create = msgspec.json.Decoder(CreateWebhook)
_patch = msgspec.json.Decoder(PatchWebhook)
_rotate = msgspec.json.Decoder(RotateSecret)
_nothing = msgspec.json.Decoder(Nothing)


class Webhooks(Controller):
    """The workspace's webhooks."""

    path = "/v1/webhooks"

    @post(
        "/",
        **documented(
            "createWebhook", "Create a webhook", "Webhooks", body=CreateWebhook,
            example={"url": _EXAMPLE["url"], "events": _EXAMPLE["events"]}, answer=_NEW, idempotent=True, located=True,
        ),
    )  # fmt: skip
    async def create(self, request: Request[Any, Any, Any]) -> Response[NewWebhook]:
        """Make a webhook, which hears of what is recorded from now on. What it is sent is signed with the secret, which
        is in this answer and nowhere else. A workspace has at most 20. Scope `operate`."""
        who = caller(request)
        query(request)
        body = await json_bytes(request)
        said = decode(_create, body)
        context: Context = request.app.state.context
        _check_url(context, said.url)

        async def act() -> Answered[NewWebhook]:
            secret = generate_secret()
            row = await webhook_rows.create_webhook(
                *(context.pool, who.workspace, who.partition, said.url, said.events, said.description or "", secret)
            )
            return _secretly(row, secret, 201)

        return await once(request, who, body, act)

    @get(
        "/",
        **documented(
            "listWebhooks", "List webhooks", "Webhooks", query=Listing, answer={"items": [_EXAMPLE], "nextCursor": None}
        ),
    )
    async def page(self, request: Request[Any, Any, Any]) -> WebhookPage:
        """Webhooks, newest first. Scope `operate`."""
        who = caller(request)
        asked = query(request, Listing)
        before = position(asked, page_cursors.WEBHOOKS)
        rows = await webhook_rows.page_webhooks(_pool(request), who.workspace, asked.limit + 1, before)
        items = [Webhook(**_fields(row)) for row in rows[: asked.limit]]
        return WebhookPage(
            items=items, next_cursor=page_cursors.WEBHOOKS.encode_next(rows, asked.limit, lambda row: (row.webhook,))
        )

    @get(
        "/{webhookId:str}",
        **documented("getWebhook", "Read a webhook", "Webhooks", answer=_EXAMPLE, refusals="not_found"),
    )
    async def read(self, request: Request[Any, Any, Any], webhook_id: WebhookId) -> Webhook:
        """A webhook. Scope `operate`."""
        query(request)
        return Webhook(**_fields(await _found(request, webhook_id)))

    @patch(
        "/{webhookId:str}",
        **documented(
            "patchWebhook", "Change a webhook", "Webhooks", body=PatchWebhook, example={"status": "inactive"},
            answer=_EXAMPLE, refusals="not_found",
        ),
    )  # fmt: skip
    async def change(self, request: Request[Any, Any, Any], webhook_id: WebhookId) -> Webhook:
        """Change what is named. While it is inactive nothing is sent; one that is switched on again within 14 days
        hears of all that happened meanwhile, else of what happens from then on. Scope `operate`."""
        who = caller(request)
        query(request)
        found = id_of(webhook_id, "not_found")
        said = await json_body(request, _patch)
        if said.url is not UNSET:
            _check_url(request.app.state.context, said.url)
        description = "" if said.description is None else said.description
        values = [None if value is UNSET else value for value in (said.url, said.events, description, said.status)]
        return Webhook(**_fields(await webhook_rows.patch_webhook(_pool(request), who.workspace, found, *values)))  # type: ignore[arg-type]

    @delete("/{webhookId:str}", **documented("deleteWebhook", "Delete a webhook", "Webhooks", refusals="not_found"))
    async def forget(self, request: Request[Any, Any, Any], webhook_id: WebhookId) -> None:
        """Delete a webhook, with what waits for it. Scope `operate`."""
        who = caller(request)
        query(request)
        if not await webhook_rows.delete_webhook(_pool(request), who.workspace, id_of(webhook_id, "not_found")):
            raise Refusal("not_found")

    @post(
        "/{webhookId:str}/rotate",
        status_code=200,
        **documented(
            "rotateWebhookSecret", "Give a webhook a new secret", "Webhooks", body=RotateSecret, example={},
            answer=_NEW, refusals="not_found", idempotent=True,
        ),
    )  # fmt: skip
    async def rotate(self, request: Request[Any, Any, Any], webhook_id: WebhookId) -> Response[NewWebhook]:
        """A new secret, which is in this answer and nowhere else. For `overlapSeconds` more each delivery has a
        signature by the old one, too. Scope `operate`."""
        who = caller(request)
        query(request)
        found = id_of(webhook_id, "not_found")
        body = await json_bytes(request)
        said = decode(_rotate, body)
        overlap_s = DEFAULT_OVERLAP_S if said.overlap_seconds is None else said.overlap_seconds

        async def act() -> Answered[NewWebhook]:
            secret = generate_secret()
            row = await webhook_rows.rotate_secret(_pool(request), who.workspace, found, secret, overlap_s)
            return _secretly(row, secret, 200)

        return await once(request, who, body, act)

    @post(
        "/{webhookId:str}/test",
        status_code=202,
        **documented(
            "testWebhook", "Send a test event", "Webhooks", body=Nothing, example={}, answer=_DELIVERY,
            refusals="not_found", idempotent=True,
        ),
    )  # fmt: skip
    async def test(self, request: Request[Any, Any, Any], webhook_id: WebhookId) -> Response[Delivery]:
        """Send `webhook.test` to this webhook, once it is active. Scope `operate`."""
        who = caller(request)
        query(request)
        body = await json_bytes(request)
        decode(_nothing, body)

        async def act() -> Answered[Delivery]:
            found = await _found(request, webhook_id)
            return Answered(status=202, body=_delivery(await webhook_rows.tell_webhook(_pool(request), found)))

        return await once(request, who, body, act)

    @get(
        "/{webhookId:str}/deliveries",
        **documented(
            "listDeliveries", "List a webhook's deliveries", "Webhooks", query=Listing, refusals="not_found",
            answer={"items": [_DELIVERY], "nextCursor": None},
        ),
    )  # fmt: skip
    async def deliveries(self, request: Request[Any, Any, Any], webhook_id: WebhookId) -> DeliveryPage:
        """What the webhook was sent in the last 14 days, and what waits for it; newest first. Scope `operate`."""
        asked = query(request, Listing)
        before = position(asked, page_cursors.DELIVERIES)
        found = await _found(request, webhook_id)
        rows = await webhook_rows.page_deliveries(_pool(request), found.webhook, asked.limit + 1, before)
        items = [_delivery(row) for row in rows[: asked.limit]]
        return DeliveryPage(
            items=items, next_cursor=page_cursors.DELIVERIES.encode_next(rows, asked.limit, lambda row: (row.position,))
        )

    @post(
        "/{webhookId:str}/deliveries/{deliveryId:str}/redeliver",
        status_code=202,
        **documented(
            "redeliver", "Send a delivery again", "Webhooks", body=Nothing, example={}, answer=_DELIVERY,
            refusals="not_found", idempotent=True,
        ),
    )  # fmt: skip
    async def redeliver(
        self, request: Request[Any, Any, Any], webhook_id: WebhookId, delivery_id: DeliveryId
    ) -> Response[Delivery]:
        """Send it once more, under the same `webhook-id`; where it waits to be tried again, at once.

        Scope `operate`."""
        who = caller(request)
        query(request)
        wanted = id_of(delivery_id, "not_found")
        body = await json_bytes(request)
        decode(_nothing, body)

        async def act() -> Answered[Delivery]:
            found = await _found(request, webhook_id)
            return Answered(
                status=202, body=_delivery(await webhook_rows.redeliver(_pool(request), found.webhook, wanted))
            )

        return await once(request, who, body, act)


def _pool(request: Request[Any, Any, Any]) -> Any:
    return request.app.state.context.pool


async def _found(request: Request[Any, Any, Any], webhook_id: str) -> WebhookRow:
    return await webhook_rows.read_webhook(_pool(request), caller(request).workspace, id_of(webhook_id, "not_found"))


def _check_url(context: Context, url: str) -> None:
    """Refusal `invalid` for what no delivery could go to. A name is asked for only by the sender, each time anew."""
    try:
        parse_target(url, context.settings.webhooks_to_loopback)
    except BadAddress as bad:
        raise invalid("url", str(bad)) from None


def _secretly(row: WebhookRow, secret: bytes, status: int) -> Answered[NewWebhook]:
    fields = _fields(row)
    return Answered(
        status=status,
        body=NewWebhook(**fields, secret=format_secret(secret)),
        kept=NewWebhook(**fields, secret=None),
        location=f"/v1/webhooks/{row.webhook_id}" if status == 201 else "",
    )


def _fields(row: WebhookRow) -> dict[str, Any]:
    return _with_times(row, "webhook_id url events description status reason", _WEBHOOK_TIMES)


def _delivery(row: DeliveryRow) -> Delivery:
    return Delivery(
        **_with_times(row, "delivery_id event_id event status attempts last_status last_error", _DELIVERY_TIMES)
    )


def _with_times(row: WebhookRow | DeliveryRow, names: str, times: str) -> dict[str, Any]:
    found = {name: getattr(row, name) for name in times.split()}
    return {name: getattr(row, name) for name in names.split()} | {
        name: None if at is None else from_ms(to_ms(at)) for name, at in found.items()
    }

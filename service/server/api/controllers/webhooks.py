"""Webhooks and their deliveries. app.py registers it; roles.py has the scope of each operation id. Bodies copy the
fields of WebhookRow and DeliveryRow (webhook_rows.py) by name. No stored response has a secret."""

from functools import partial
from typing import Annotated, Any, Literal
from uuid import UUID

import msgspec
from litestar import Controller, Request, Response, delete, get, patch, post
from litestar.params import PathParameter
from msgspec import UNSET

from service.engine.domain.errors import Refusal, invalid
from service.engine.domain.field_types import Answer, Nothing, Page, Rotation
from service.engine.domain.times import Timestamp
from service.engine.operations.caller import Caller
from service.engine.operations.document_parts import REDEMPTION
from service.server.api.context import Context
from service.server.api.documented import describe_action, describe_route
from service.server.api.idempotency import ActionResult, run_once
from service.server.api.reading import Listing, decode_position, parse_id, read_json_body, unpack_request
from service.server.in_postgres import webhook_rows
from service.server.in_postgres.delivery_rows import read_due
from service.server.in_postgres.webhook_rows import DeliveryRow, WebhookRow
from service.server.requests import page_cursors
from service.server.requests.webhook_addresses import BadAddress, check_url
from service.server.requests.webhook_attempts import Attempt
from service.server.requests.webhook_protocol import (
    HEADERS,
    NO_DELIVERY,
    NO_WEBHOOK,
    CreateWebhook,
    PatchWebhook,
    format_secret,
    generate_secret,
)
from service.server.webhooks.payloads import render_bodies

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
_CREATE = {name: _EXAMPLE[name] for name in ("url", "events")}
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
_PAYLOAD = {
    "headers": {"User-Agent": "Scrip", "Content-Type": "application/json", "webhook-id": _DELIVERY["eventId"]},
    "bodyBytes": 471,
    "body": {"type": "coupon.redeemed", "timestamp": "2026-11-20T09:15:00.456Z", "data": REDEMPTION},
}
_ATTEMPTS = [
    {
        "at": "2026-11-20T09:15:00.789Z",
        "milliseconds": 15000,
        "status": None,
        "error": "no answer within 15 s",
        "response": None,
    },
    {
        "at": "2026-11-20T09:15:05.900Z",
        "milliseconds": 112,
        "status": 503,
        "error": None,
        "response": "database is starting",
    },
]
MAX_BODY_BYTES = 64 << 10
"""A larger body is not shown."""

WebhookId = Annotated[str, PathParameter(name="webhookId", description="The webhook's id.")]
DeliveryId = Annotated[str, PathParameter(name="deliveryId", description="The delivery's id.")]


class Webhook(Answer, kw_only=True):
    """A webhook, without its secret."""

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
    """A webhook with its secret."""

    secret: str | None


class WebhookPage(Page[Webhook]):
    """A page of webhooks, newest first."""


class Delivery(Answer, kw_only=True):
    """The delivery of an event to a webhook."""

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


class Payload(Answer, kw_only=True):
    """What an attempt sends. The body is made of the recorded facts: null if they are deleted, or if it is
    larger than 64 KiB. Each attempt adds `webhook-timestamp` and `webhook-signature`."""

    headers: dict[str, str]
    body_bytes: int | None
    body: dict[str, Any] | None


class SentDelivery(Delivery, kw_only=True):
    """A delivery with what is sent, and its newest attempts."""

    payload: Payload
    attempt_log: list[Attempt]


class DeliveryPage(Page[Delivery]):
    """A page of deliveries, newest first."""


class Webhooks(Controller):
    path = "/v1/webhooks"
    tags = ("Webhooks",)

    @post(
        "/",
        **describe_action(
            "createWebhook",
            "Create a webhook",
            returns="The new webhook with its secret.",
            body=CreateWebhook,
            example=_CREATE,
            answer=_NEW,
            located=True,
        ),
    )
    async def create(self, request: Request[Any, Any, Any]) -> Response[NewWebhook]:
        """Create a webhook, which receives the events recorded from now on. The secret signs its deliveries; only this
        response contains it. A workspace has at most 20 webhooks. Scope `operate`."""
        caller, context, _ = unpack_request(request)
        body, payload = await read_json_body(request, CreateWebhook)
        _check_url(context, payload.url)

        async def act() -> ActionResult[NewWebhook]:
            secret = generate_secret()
            fields = payload.url, payload.events, payload.description or ""
            row = await webhook_rows.create_webhook(context.pool, caller.workspace, *fields, secret)
            return _make_result(row, secret, 201)

        return await run_once(request, body, act)

    @get("/", **describe_route("listWebhooks", "List webhooks", returns="A page of webhooks.", item=_EXAMPLE))
    async def page(self, request: Request[Any, Any, Any]) -> WebhookPage:
        """Webhooks, newest first. Scope `operate`."""
        caller, context, params = unpack_request(request, Listing)
        before = decode_position(params, page_cursors.WEBHOOKS)
        rows = await webhook_rows.page_webhooks(context.pool, caller.workspace, params.limit + 1, before)
        page = page_cursors.WEBHOOKS.make_page(rows, params.limit, lambda row: (row.webhook,))
        return WebhookPage(items=[Webhook.from_row(row) for row in page.items], next_cursor=page.next_cursor)

    @get(
        "/{webhookId:str}",
        **describe_route("getWebhook", "Read a webhook", returns="The webhook.", answer=_EXAMPLE, refusals="not_found"),
    )
    async def read(self, request: Request[Any, Any, Any], webhook_id: WebhookId) -> Webhook:
        """A webhook. Scope `operate`."""
        caller, context, _ = unpack_request(request)
        return Webhook.from_row(await _read_row(context, caller, webhook_id))

    @patch(
        "/{webhookId:str}",
        **describe_route(
            "patchWebhook",
            "Change a webhook",
            returns="The changed webhook.",
            body=PatchWebhook,
            example={"status": "inactive"},
            answer=_EXAMPLE,
            refusals="not_found",
        ),
    )
    async def change(self, request: Request[Any, Any, Any], webhook_id: WebhookId) -> Webhook:
        """Change the given fields. An inactive webhook receives nothing. If it is reactivated within 14 days, it
        receives all events since then, else only later ones. Scope `operate`."""
        caller, context, _ = unpack_request(request)
        webhook = _parse_id(webhook_id)
        _, payload = await read_json_body(request, PatchWebhook)
        if payload.url is not UNSET:
            _check_url(context, payload.url)
        changes = payload.list_changes({"description": ""})
        return Webhook.from_row(await webhook_rows.patch_webhook(context.pool, caller.workspace, webhook, **changes))

    @delete(
        "/{webhookId:str}",
        **describe_route(
            "deleteWebhook",
            "Delete a webhook",
            returns="The webhook and its pending deliveries are deleted.",
            refusals="not_found",
        ),
    )
    async def forget(self, request: Request[Any, Any, Any], webhook_id: WebhookId) -> None:
        """Delete a webhook and its pending deliveries. Scope `operate`."""
        caller, context, _ = unpack_request(request)
        if not await webhook_rows.delete_webhook(context.pool, caller.workspace, _parse_id(webhook_id)):
            raise Refusal("not_found", NO_WEBHOOK)

    @post(
        "/{webhookId:str}/rotate",
        status_code=200,
        **describe_action(
            "rotateWebhookSecret",
            "Rotate a webhook's secret",
            returns="The webhook with its new secret.",
            body=Rotation,
            example={},
            answer=_NEW,
            refusals="not_found",
        ),
    )
    async def rotate(self, request: Request[Any, Any, Any], webhook_id: WebhookId) -> Response[NewWebhook]:
        """Create a new secret; only this response contains it. For `overlapSeconds` each delivery also has a signature
        by the old secret. Scope `operate`."""
        caller, context, _ = unpack_request(request)
        webhook = _parse_id(webhook_id)
        body, payload = await read_json_body(request, Rotation)

        async def act() -> ActionResult[NewWebhook]:
            secret = generate_secret()
            row = await webhook_rows.rotate_secret(context.pool, caller.workspace, webhook, secret, payload.overlap_s)
            return _make_result(row, secret, 200)

        return await run_once(request, body, act)

    @post(
        "/{webhookId:str}/test",
        status_code=202,
        **describe_action(
            "testWebhook",
            "Send a test event",
            returns="The delivery of the test.",
            body=Nothing,
            example={},
            answer=_DELIVERY,
            refusals="not_found",
        ),
    )
    async def test(self, request: Request[Any, Any, Any], webhook_id: WebhookId) -> Response[Delivery]:
        """Send `webhook.test` to this webhook. If it is inactive, the event waits until it is active. At most 10 wait;
        beyond that, `rate_limited`.

        Scope `operate`."""
        caller, context, _ = unpack_request(request)
        body, _ = await read_json_body(request, Nothing)

        async def act() -> ActionResult[Delivery]:
            webhook = await _read_row(context, caller, webhook_id)
            row = await webhook_rows.send_test_event(context.pool, caller.workspace, webhook)
            return ActionResult(status=202, body=Delivery.from_row(row))

        return await run_once(request, body, act)

    @get(
        "/{webhookId:str}/deliveries",
        **describe_route(
            "listDeliveries",
            "List a webhook's deliveries",
            returns="A page of deliveries.",
            item=_DELIVERY,
            refusals="not_found",
        ),
    )
    async def deliveries(self, request: Request[Any, Any, Any], webhook_id: WebhookId) -> DeliveryPage:
        """The webhook's deliveries of the last 14 days, and the pending ones; newest first. Scope `operate`."""
        caller, context, params = unpack_request(request, Listing)
        before = decode_position(params, page_cursors.DELIVERIES)
        webhook = await _read_row(context, caller, webhook_id)
        read = partial(webhook_rows.page_deliveries, context.pool, webhook.webhook, params.limit + 1, before)
        rows = await context.bulk.read(caller.workspace, params.limit, read)
        page = page_cursors.DELIVERIES.make_page(rows, params.limit, lambda row: (row.position,))
        items = await context.bulk.render(caller.workspace, page.items, Delivery.from_row)
        return DeliveryPage(items=items, next_cursor=page.next_cursor)

    @get(
        "/{webhookId:str}/deliveries/{deliveryId:str}",
        **describe_route(
            "getDelivery",
            "Read a delivery",
            returns="The delivery with its headers, body and attempts.",
            refusals="not_found",
            answer=_DELIVERY | {"payload": _PAYLOAD, "attemptLog": _ATTEMPTS},
        ),
    )
    async def delivery(
        self, request: Request[Any, Any, Any], webhook_id: WebhookId, delivery_id: DeliveryId
    ) -> SentDelivery:
        """A delivery with what is sent, and what the receiver has answered to each attempt. Scope `operate`."""
        caller, context, _ = unpack_request(request)
        wanted = parse_id(delivery_id, "not_found", NO_DELIVERY)
        webhook = (await _read_row(context, caller, webhook_id)).webhook
        row = await webhook_rows.read_delivery(context.pool, webhook, wanted)
        attempts = msgspec.json.decode(row.attempt_log, type=list[Attempt])
        payload = await _read_payload(context, caller.partition, row, webhook)
        return SentDelivery.from_row(row, payload=payload, attempt_log=attempts)

    @post(
        "/{webhookId:str}/deliveries/{deliveryId:str}/redeliver",
        status_code=202,
        **describe_action(
            "redeliver",
            "Send a delivery again",
            returns="The delivery, which is sent again.",
            body=Nothing,
            example={},
            answer=_DELIVERY,
            refusals="not_found",
        ),
    )
    async def redeliver(
        self, request: Request[Any, Any, Any], webhook_id: WebhookId, delivery_id: DeliveryId
    ) -> Response[Delivery]:
        """Send the event again with the same `webhook-id`. A delivery that waits for a retry is sent now. While 2,000
        wait, one that does not is `rate_limited`.

        Scope `operate`."""
        caller, context, _ = unpack_request(request)
        wanted = parse_id(delivery_id, "not_found", NO_DELIVERY)
        body, _ = await read_json_body(request, Nothing)

        async def act() -> ActionResult[Delivery]:
            webhook = await _read_row(context, caller, webhook_id)
            row = await webhook_rows.redeliver(context.pool, caller.workspace, webhook.webhook, wanted)
            return ActionResult(status=202, body=Delivery.from_row(row))

        return await run_once(request, body, act)


async def _read_row(context: Context, caller: Caller, webhook_id: str) -> WebhookRow:
    return await webhook_rows.read_webhook(context.pool, caller.workspace, _parse_id(webhook_id))


def _parse_id(webhook_id: str) -> UUID:
    return parse_id(webhook_id, "not_found", NO_WEBHOOK)


async def _read_payload(context: Context, partition: int, row: DeliveryRow, webhook: int) -> Payload:
    headers = {**HEADERS, "webhook-id": row.event_id}
    due = await read_due(context.pool, webhook, row.delivery_id)
    body = (await render_bodies(context.pool, partition, [due])).get(due.position) if due else None
    if not body:
        return Payload(headers=headers, body_bytes=None, body=None)
    payload = msgspec.json.decode(body) if len(body) <= MAX_BODY_BYTES else None
    return Payload(headers=headers, body_bytes=len(body), body=payload)


def _check_url(context: Context, url: str) -> None:
    """Raise Refusal `invalid` for an address that a webhook may not have. Only the sender resolves the host, for each
    delivery."""
    try:
        check_url(url, context.settings.embedded)
    except BadAddress as bad:
        raise invalid("url", str(bad)) from None


def _make_result(row: WebhookRow, secret: bytes, status: int) -> ActionResult[NewWebhook]:
    """The result with the secret; the response stored for repeats has none."""
    return ActionResult(
        status=status,
        body=NewWebhook.from_row(row, secret=format_secret(secret)),
        stored=NewWebhook.from_row(row, secret=None),
        location=f"/v1/webhooks/{row.webhook_id}" if status == 201 else "",
    )

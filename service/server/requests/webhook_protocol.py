"""Webhooks: their events, signatures (Standard Webhooks) and retries, for webhooks.py, webhook_rows.py and the sender.

Names of events are in the API's JSON, in Postgres and in deliveries; receivers verify what `sign_event` makes.
"""

import base64
import hmac
import random
import secrets
from typing import Annotated, Literal, get_args

import msgspec
from msgspec import UNSET, UnsetType

from service.engine.domain import field_types
from service.engine.domain.errors import BadField
from service.engine.domain.field_types import check_text, text_schema
from service.server.requests.webhook_addresses import MAX_URL

MAX_WEBHOOKS = 20
"""Of one workspace."""
MAX_TESTS = 10
"""Pending test events of a webhook."""
MAX_PENDING = 2000
"""Pending deliveries of a webhook; no more are made, as the facts stay in the record, and none is sent again."""
KEEP_DAYS = 14
"""How long deliveries are stored. A webhook that is reactivated within this time receives what it missed."""
NO_WEBHOOK = "No webhook of this workspace has this id. `GET /v1/webhooks` lists them."
NO_DELIVERY = f"No delivery of this webhook has this id. `GET …/deliveries` lists those of {KEEP_DAYS} days."
HEADERS = {"User-Agent": "Scrip", "Content-Type": "application/json"}
"""Of every request, beside its event's own."""
GIVE_UP_S = 72 * 3600
_SECRET_BYTES = 32
_PAUSES_S = (5, 30, 120, 600, 1800, 3600, 2 * 3600, 4 * 3600, 6 * 3600, 8 * 3600)
"""The pause after each failed attempt; the last one repeats until GIVE_UP_S after the first attempt."""
_JITTER = 0.2
_MAX_RETRY_AFTER_S = 3600

WebhookEvent = Literal[
    "coupon.assigned",
    "coupon.unassigned",
    "coupon.redeemed",
    "redemption.rolled_back",
    "book.low_stock",
    "book.exhausted",
    "book.budget_low",
    "job.finished",
    "reconcile.drift",
    "webhook.disabled",
]
EVENTS: tuple[str, ...] = get_args(WebhookEvent)
"""The events that a webhook can subscribe to. `webhook.test` is sent on request only."""

_Url = Annotated[
    str,
    msgspec.Meta(
        description="An `https` URL with a host on the public internet.",
        examples=["https://shop.example/scrip"],
        extra_json_schema={"maxLength": MAX_URL, "pattern": "^https?://"},
    ),
]
_Events = Annotated[
    list[WebhookEvent],
    msgspec.Meta(extra_json_schema={"minItems": 1, "uniqueItems": True}),
]
_Description = Annotated[str, text_schema(0, 2000, examples=["orders service"])]


class CreateWebhook(field_types.Request, kw_only=True):
    """A webhook to create."""

    url: _Url
    events: _Events
    description: _Description | None = None

    def __post_init__(self) -> None:
        _check(self.events, self.description)


class PatchWebhook(field_types.Request, kw_only=True):
    """Changes of a webhook."""

    url: _Url | UnsetType = UNSET
    events: _Events | UnsetType = UNSET
    description: _Description | UnsetType | None = UNSET
    status: Literal["active", "inactive"] | UnsetType = UNSET

    def __post_init__(self) -> None:
        _check(self.events, self.description)


def _check(events: list[WebhookEvent] | UnsetType, description: str | UnsetType | None) -> None:
    if events is not UNSET and (not events or len(set(events)) != len(events)):
        raise BadField("events", "must have at least one event, and each event once")
    check_text("description", description, 0, 2000)


def generate_secret() -> bytes:
    return secrets.token_bytes(_SECRET_BYTES)


def format_secret(secret: bytes) -> str:
    """The secret as the receiver stores it: `whsec_…`."""
    return "whsec_" + base64.b64encode(secret).decode()


def sign_event(secrets_: list[bytes], event_id: str, at_s: int, body: bytes) -> str:
    """The value of `webhook-signature`, with a signature for each of the secrets."""
    content = b"%b.%d.%b" % (event_id.encode(), at_s, body)
    digests = (base64.b64encode(hmac.digest(secret, content, "sha256")).decode() for secret in secrets_)
    return " ".join(f"v1,{digest}" for digest in digests)


def compute_pause_s(attempts: int, age_s: float, retry_after_s: int = 0) -> float | None:
    """The pause after `attempts` failed attempts, the first of them `age_s` ago. None when no attempt is left.

    `retry_after_s` is the receiver's Retry-After. The last attempt is GIVE_UP_S after the first.
    """
    left_s = GIVE_UP_S - age_s
    if left_s <= 0:
        return None
    planned = _PAUSES_S[min(attempts, len(_PAUSES_S)) - 1] * random.uniform(1 - _JITTER, 1 + _JITTER)  # noqa: S311
    return min(max(planned, min(retry_after_s, _MAX_RETRY_AFTER_S)), left_s)

"""Webhooks: what may be told, how it is signed (Standard Webhooks), and when it is tried again."""

import base64
import hmac
import random
import secrets
from typing import Annotated, Literal

import msgspec
from msgspec import UNSET, UnsetType

from service.domain import field_types
from service.domain.errors import BadField
from service.domain.field_types import check_text, text
from service.domain.webhook_addresses import MAX_URL

MAX_WEBHOOKS = 20
"""Of a workspace."""
KEEP_DAYS = 14
"""How long deliveries are kept, and how long a webhook may be switched off and still hear of what it missed."""
GIVE_UP_S = 72 * 3600
MAX_OVERLAP_S = 30 * 86_400
_SECRET_BYTES = 32
_PAUSES_S = (5, 30, 120, 600, 1800, 3600, 2 * 3600, 4 * 3600, 6 * 3600, 8 * 3600)
"""After each failure; the last again and again, until three days have gone by since the first attempt."""
_JITTER = 0.2
_LONGEST_ASKED_S = 3600

Event = Literal[
    "coupon.assigned",
    "coupon.unassigned",
    "coupon.redeemed",
    "redemption.rolled_back",
    "book.low_stock",
    "book.exhausted",
    "job.finished",
    "reconcile.drift",
    "webhook.disabled",
]
EVENTS: tuple[str, ...] = Event.__args__
"""What a webhook may ask for; `webhook.test` is sent when asked for alone."""

_Url = Annotated[
    str,
    msgspec.Meta(
        description="`https`, to a host of the public internet.",
        examples=["https://shop.example/scrip"],
        extra_json_schema={"maxLength": MAX_URL, "pattern": "^https?://"},
    ),
]
_Events = Annotated[
    list[Event],
    msgspec.Meta(description="What to tell.", extra_json_schema={"minItems": 1, "uniqueItems": True}),
]
_Description = Annotated[str, text(0, 2000, examples=["orders service"])]


class CreateWebhook(field_types.Request, kw_only=True):
    """A webhook to make."""

    url: _Url
    events: _Events
    description: _Description | None = None

    def __post_init__(self) -> None:
        _check(self.events, self.description)


class PatchWebhook(field_types.Request, kw_only=True):
    """What to change of a webhook."""

    url: _Url | UnsetType = UNSET
    events: _Events | UnsetType = UNSET
    description: _Description | UnsetType | None = UNSET
    status: Literal["active", "inactive"] | UnsetType = UNSET

    def __post_init__(self) -> None:
        _check(None if self.events is UNSET else self.events, None if self.description is UNSET else self.description)


class RotateSecret(field_types.Request, kw_only=True):
    """For how long the old secret signs, too."""

    overlap_seconds: Annotated[
        Annotated[int, msgspec.Meta(ge=0, le=MAX_OVERLAP_S)] | None,
        msgspec.Meta(description="A day where it is not given."),
    ] = None


class Nothing(field_types.Request, kw_only=True):
    """A request that says nothing more than its address."""


def _check(events: list[Event] | None, description: str | None) -> None:
    if events is not None and (not events or len(set(events)) != len(events)):
        raise BadField("events", "must have at least one event, and each once")
    check_text("description", description, 0, 2000)


def new_secret() -> bytes:
    """A secret to sign with."""
    return secrets.token_bytes(_SECRET_BYTES)


def shown_secret(secret: bytes) -> str:
    """A secret as its receiver keeps it: `whsec_…`."""
    return "whsec_" + base64.b64encode(secret).decode()


def signature(signing: list[bytes], event_id: str, at_s: int, body: bytes) -> str:
    """The value of `webhook-signature`: one for each secret that signs."""
    said = b"%b.%d.%b" % (event_id.encode(), at_s, body)
    digests = (base64.b64encode(hmac.digest(secret, said, "sha256")).decode() for secret in signing)
    return " ".join(f"v1,{digest}" for digest in digests)


def pause_s(attempts: int, age_s: float, asked_s: int = 0) -> float | None:
    """How long to wait after so many failed attempts, the first of them so long ago; None where it is given up.

    `asked_s` is what the receiver asked for by Retry-After. The last attempt is made when three days are over.
    """
    left_s = GIVE_UP_S - age_s
    if left_s <= 0:
        return None
    planned = _PAUSES_S[min(attempts, len(_PAUSES_S)) - 1] * random.uniform(1 - _JITTER, 1 + _JITTER)  # noqa: S311
    return min(max(planned, min(asked_s, _LONGEST_ASKED_S)), left_s)

"""Verify the webhooks that Scrip sends (Standard Webhooks), and read their events."""

import base64
import binascii
import hmac
import time
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import msgspec

TOLERANCE_S = 300


class InvalidSignature(ValueError):
    """The request is not Scrip's, or too old: answer 400, and do nothing."""


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """An event. The same one may come twice, with the same `id`."""

    id: str = ""
    type: str
    timestamp: datetime
    data: dict[str, Any]


def verify(body: bytes, headers: Mapping[str, str], secret: str) -> Event:
    """The event of a request. `body` is the bytes as received, `secret` that of the webhook (`whsec_…`).

    Raises InvalidSignature.
    """
    given = {name.lower(): value for name, value in headers.items()}
    event_id, sent_at = given.get("webhook-id", ""), given.get("webhook-timestamp", "")
    if not sent_at.isdecimal() or abs(time.time() - int(sent_at)) > TOLERANCE_S:
        raise InvalidSignature("webhook-timestamp is missing, or more than five minutes off")
    try:
        key = base64.b64decode(secret.removeprefix("whsec_"), validate=True)
    except binascii.Error as error:
        raise ValueError("the secret is not one of a webhook") from error
    expected = hmac.digest(key, b"%b.%b.%b" % (event_id.encode(), sent_at.encode(), body), "sha256")
    signatures = given.get("webhook-signature", "").split()
    wanted = b"v1," + base64.b64encode(expected)
    if not any(hmac.compare_digest(one.encode(), wanted) for one in signatures):
        raise InvalidSignature("webhook-signature has no signature of this body by this secret")
    return msgspec.structs.replace(msgspec.json.decode(body, type=Event), id=event_id)

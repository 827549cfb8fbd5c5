"""What a stranger without a key, or a tenant, sends to keep an API process busy: works of tenants.py."""

import asyncio
import json
from collections import Counter
from collections.abc import Callable, Coroutine
from typing import Any, Protocol

from loadtests.wire import ERRORS, Wire

CONNECTIONS = 4
LISTERS, PIPELINED = 300, 20
"""Connections that ask for large pages, and requests that each sends before it reads a response."""
ORDERING, LISTING_ITEMS = 64, 32
"""Connections that validate for a large order, and those that validate many items."""
CODE, ORDER, PLACES, ITEMS = "FLOOD-LARGE", "flood-large", 99, 1_000
PAUSE_S = 0.02
"""After each response, or each piece without one. A client of this machine that does not pause takes a core from the
service."""
OPERATIONS = 1_000


class Attacked(Protocol):
    """The service that is attacked, and the responses."""

    @property
    def run(self) -> Any:
        """The running service."""

    @property
    def counts(self) -> Counter[str]:
        """The responses by their labels."""


Flood = Callable[[Attacked], Coroutine[Any, Any, object]]


def _request(start: str, *headers: str, body: bytes = b"") -> bytes:
    lines = (f"{start} HTTP/1.1", "Host: scrip", *headers, f"Content-Length: {len(body)}")
    return "".join(f"{line}\r\n" for line in (*lines, "")).encode("latin-1") + body


def _flood(data: bytes, *, answers: int = 1, connections: int = CONNECTIONS, pause_s: float = PAUSE_S) -> Flood:
    """Send the same bytes, which get so many responses, again and again on some connections."""

    async def work(attacked: Attacked) -> None:
        async def send() -> None:
            wire = Wire(attacked.run.url, "")
            while True:
                try:
                    await wire.send(data)
                    for _ in range(answers):
                        attacked.counts[(await wire.answer()).label] += 1
                    if not answers:
                        attacked.counts["sent"] += 1
                except ERRORS as error:
                    attacked.counts[type(error).__name__] += 1
                    wire.abort()
                    wire = Wire(attacked.run.url, "")
                await asyncio.sleep(pause_s)

        await asyncio.gather(*(send() for _ in range(connections)))

    return work


def _post(path: str, key: str, body: dict[str, Any]) -> bytes:
    headers = (f"Authorization: Bearer {key}", "Content-Type: application/json")
    return _request(f"POST {path}", *headers, body=json.dumps(body).encode())


def _batches(operation: dict[str, Any], key: str) -> Flood:
    """Batches of operations that are refused without Redis."""
    return _flood(_post("/v1/batch", key, {"operations": [operation] * OPERATIONS}))


def _validations(connections: int, key: str, **more: Any) -> Flood:
    """Hot requests that each take long, one after the other without a pause: the service's time is what they want."""
    body = {"code": CODE, "userId": "flood", "orderValue": ITEMS} | more
    return _flood(_post("/v1/coupons/validate", key, body), connections=connections, pause_s=0)


def list_places() -> list[dict[str, Any]]:
    """The redemptions that make the order of `large-orders` large."""
    return [{"op": "redeem", "code": CODE, "userId": f"u-{n}", "orderId": ORDER} for n in range(PLACES)]


def make_floods(key: str) -> dict[str, Flood]:
    """By name; `key` is the tenant's."""
    lists = _request("GET /v1/audit?limit=1000", f"Authorization: Bearer {key}") * PIPELINED
    items = [{"sku": f"sku-{n}", "quantity": 1, "unitPrice": 1} for n in range(ITEMS)]
    return {
        "pipelined-lists": _flood(lists, answers=PIPELINED, connections=LISTERS),
        "large-orders": _validations(ORDERING, key, orderId=ORDER),
        "many-items": _validations(LISTING_ITEMS, key, items=items),
        "empty-lines": _flood(b"\r\n" * (128 << 10), answers=0),
        "cookies": _flood(_request("GET /v1/books", 'Cookie: a="' + '\\"' * 7_500)),
        "headers": _flood(_request("GET /v1/books", *(f"a{n}: {'b' * 140}" for n in range(95)))),
        "unknown-fields": _batches({"op": "redeem", "code": "ABCD", "userId": "u", "x": 1}, key),
        "odd-amounts": _batches({"op": "redeem", "code": "ABCD", "userId": "u", "orderValue": "1_0"}, key),
    }

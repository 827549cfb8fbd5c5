"""What a stranger without a key, or a tenant, sends to keep an API process busy: works of tenants.py."""

import asyncio
import json
from collections import Counter
from collections.abc import Callable, Coroutine
from typing import Any, Protocol

from loadtests.wire import ERRORS, Wire

CONNECTIONS = 4
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


def _flood(data: bytes, *, is_answered: bool = True) -> Flood:
    """Send the same bytes again and again on some connections."""

    async def work(attacked: Attacked) -> None:
        async def send() -> None:
            wire = Wire(attacked.run.url, "")
            while True:
                try:
                    await wire.send(data)
                    label = (await wire.answer()).label if is_answered else "sent"
                except ERRORS as error:
                    label = type(error).__name__
                    wire.abort()
                    wire = Wire(attacked.run.url, "")
                attacked.counts[label] += 1
                await asyncio.sleep(PAUSE_S)

        await asyncio.gather(*(send() for _ in range(CONNECTIONS)))

    return work


def _batches(operation: dict[str, Any], key: str) -> Flood:
    """Batches of operations that are refused without Redis."""
    body = json.dumps({"operations": [operation] * OPERATIONS}).encode()
    headers = (f"Authorization: Bearer {key}", "Content-Type: application/json")
    return _flood(_request("POST /v1/batch", *headers, body=body))


def make_floods(key: str) -> dict[str, Flood]:
    """By name; `key` is the tenant's."""
    return {
        "empty-lines": _flood(b"\r\n" * (128 << 10), is_answered=False),
        "cookies": _flood(_request("GET /v1/books", 'Cookie: a="' + '\\"' * 7_500)),
        "headers": _flood(_request("GET /v1/books", *(f"a{n}: {'b' * 140}" for n in range(95)))),
        "unknown-fields": _batches({"op": "redeem", "code": "ABCD", "userId": "u", "x": 1}, key),
        "odd-amounts": _batches({"op": "redeem", "code": "ABCD", "userId": "u", "orderValue": "1_0"}, key),
    }

"""Malformed requests over raw sockets: good ones of every route with bytes put in, taken out and changed, in bodies and
in heads: `python -m tests.hostile.malformed --inputs 1000000`, in `make fuzz`. None may be answered 5xx."""

import argparse
import asyncio
import json
import random
import re
import sys
import time
from collections import Counter

import httpx
import psutil

from loadtests.own import own_service
from loadtests.wire import Wire

CONNECTIONS = 16
IN_HEADS = 0.1
"""The share that may end a connection."""
PATIENCE_S = 30.0
_ID = "019aa0b2-6f0c-7b52-8a0e-5d1f3d1f9c11"
_PLACES = {"code": "SUMMER-B", "userId": "alice", "orderId": "A-1", "event": "x"}
_BODIES: tuple[object, ...] = (
    {"userId": "u", "orderId": "o", "orderValue": "25.00", "currency": "USD", "lockToken": "t",
     "metadata": {"a": [1, None]}},
    {"userId": "u"}, {"code": "SUMMER-B"}, {"bookId": "019aa0b2-6f0c-7b52-8a0e-5d1f3d1f9c11", "userId": "u"},
    {"name": "n", "discount": {"type": "tiered", "tiers": [{"from": 1, "type": "percentage", "value": 5}]},
     "tags": ["a"]},
    {"codes": ["ABCD-1", "x"]}, {"count": 1, "codePattern": "####-####"}, {"reason": "r", "restore": True},
    {"operations": [{"op": "lock", "code": "SUMMER-B", "userId": "u"}, {"op": "validate", "code": "X"}]},
    {"userId": "u", "items": [{"sku": "s", "quantity": 3, "unitPrice": 1.5}], "orderValue": 4.5, "orderId": "o"},
)  # fmt: skip
_TOKENS = (
    b"null", b"true", b"-1", b"0", b"1e999", b"NaN",
    b"9" * 40, b"1.00001", b'""', b"[]", b"{}", b"[" * 60,
    b'"\\ud800"', b"\xff", b"\x00", b"\xef\xbb\xbf", b"\\u0000", b'"a":1,', b",", b":", b'"', b"\\", b"'", b"{{",
    b"%00",    b"\xed\xa0\x80", b'"userId":"u",', b'"__proto__":1,', b"redis.call", b"'; DROP", b"{tag}", b"\r\n",
    b"\xe2\x80\xae", b"=1+1", b"..",
)  # fmt: skip
_IN_QUERIES = (b"%00", b"%ff", b"&", b"=", b"null", b"-1", b"%", b"+", b"999999999999", b"%F0%9F%98%80")
_IN_HEADS = (
    b"\r\n", b"\n", b"\r", b"\x00", b" ", b"\t", b":", b"Content-Length: 3\r\n", b"Transfer-Encoding: chunked\r\n",
    b"%", b"%ff", b"?a=b&", b"#", b"//", b"/../", b"Host: y\r\n", b"Expect: 100-continue\r\n", b"Upgrade: h2c\r\n",
    b"\xc3\xa9", b"A" * 9000, b"Prefer: durability=recorded, wait=1\r\n", b"Idempotency-Key: k\r\n",
    b"X-Forwarded-For: ,,\r\n", b"Cookie: a=b\r\n",
)  # fmt: skip

Document = dict[str, dict[str, dict[str, object]]]


class Maker:
    """Makes malformed requests."""

    def __init__(self, document: Document, seed: int) -> None:
        self._draw = random.Random(seed)
        self._routes = [
            (method.upper(), re.sub(r"\{(\w+)\}", lambda match: _PLACES.get(match[1], _ID), path))
            for path, operations in document["paths"].items()
            for method in operations
            if method in {"get", "post", "patch", "put"}
            and "/keys" not in path
            and not path.endswith(".csv")
            and path != "/health/ready"  # on a busy machine its answer may be 503
        ]
        self._routes += [route for route in self._routes if re.search("lock|redeem|assign|validate", route[1])] * 3

    def make(self) -> tuple[bytes, bool]:
        """A request, and whether it may end the connection."""
        draw = self._draw
        method, path = draw.choice(self._routes)
        body = b"" if method == "GET" else json.dumps(draw.choice(_BODIES)).encode()
        in_head = draw.random() < IN_HEADS
        if body and not in_head:
            body = self._changed(body, _TOKENS)
        elif not body and not in_head:
            query = self._changed(b"limit=10&cursor=x&status=a&q=b", _IN_QUERIES)
            path += "?" + query.decode("latin-1")
        kind = draw.choice(("application/json",) * 20 + ("text/csv", "text/plain", "multipart/form-data", "x", ""))
        head = (
            f"{method} {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer demo_admin\r\nContent-Type: {kind}\r\n"
            f"Content-Length: {len(body)}\r\n\r\n"
        ).encode()
        return (self._changed(head, _IN_HEADS) if in_head else head) + body, in_head

    def _bytes(self) -> bytes:
        return bytes(self._draw.choices(range(33, 127), k=self._draw.randint(0, 4)))

    def _changed(self, data: bytes, tokens: tuple[bytes, ...]) -> bytes:
        draw = self._draw
        for _ in range(draw.choice((1, 1, 1, 2, 3, 6))):
            start = draw.randrange(len(data) + 1)
            end = min(len(data), start + draw.choice((0, 0, 1, 2, 8, 40)))
            new = draw.choice(tokens) if draw.random() < 0.7 else self._bytes()
            data = data[:start] + new + data[end:]
        return data


async def send_all(url: str, inputs: int, seed: int, document: Document) -> tuple[Counter[int], list[bytes]]:
    """Send so many; the answers by status (0 for none), and the requests that got 5xx."""
    statuses: Counter[int] = Counter()
    failed: list[bytes] = []
    left = iter(range(inputs))

    async def work(number: int) -> None:
        maker, wire = Maker(document, seed * 1000 + number), Wire(url, "")
        for _ in left:
            data, ends = maker.make()
            status, closed = await _answer(wire, data, ends)
            statuses[status] += 1
            if status >= 500:
                failed.append(data)
            if ends or closed:
                wire.close()
                wire = Wire(url, "")
        wire.close()

    await asyncio.gather(*(work(number) for number in range(CONNECTIONS)))
    return statuses, failed


async def _answer(wire: Wire, data: bytes, ends: bool) -> tuple[int, bool]:
    """The last answer's status, and whether the connection ended with it."""
    try:
        async with asyncio.timeout(PATIENCE_S):
            await wire.send(data)
            if ends:
                wire.end()
            answer = await wire.answer()
            return answer.status, answer.headers.get("connection") == "close"
    except (asyncio.IncompleteReadError, ConnectionError, asyncio.LimitOverrunError):
        return 0, True


def main() -> int:
    """Send them to a service of our own, and print what they were answered."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--inputs", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=random.randrange(2**31))
    asked = parser.parse_args()
    with own_service() as run:
        document = httpx.get(f"{run.url}/schema/openapi.json").json()
        api = psutil.Process(run.facts["pids"]["api"][0])
        before, began_s = api.memory_info().rss, time.monotonic()
        statuses, failed = asyncio.run(send_all(run.url, asked.inputs, asked.seed, document))
        took_s, grown = time.monotonic() - began_s, api.memory_info().rss - before
        log = run.output.read_text()
    failures = log.count("request_failed")
    print(f"{sum(statuses.values()):,} malformed requests in {took_s:.0f} s, seed {asked.seed}")
    print("answers: " + ", ".join(f"{status or 'none'} {count:,}" for status, count in sorted(statuses.items())))
    print(f"{len(failed)} answers of 5xx, {failures} unforeseen errors; the API's memory grew by {grown / 1e6:.1f} MB")
    for data in failed[:10]:
        print(f"  {data[:600]!r}")
    return 1 if failed or failures else 0


if __name__ == "__main__":
    sys.exit(main())

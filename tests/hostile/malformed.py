"""Malformed requests over raw sockets: good ones of every route with bytes put in, taken out and changed, in bodies and
in heads, and with ids, times and numbers at the ends of their types in paths, queries and fields of bodies:
`python -m tests.hostile.malformed --inputs 1000000`, in `make fuzz`. None may be answered 5xx."""

import argparse
import asyncio
import json
import random
import re
import sys
import time
from collections import Counter
from typing import Any, NamedTuple
from urllib.parse import urlencode

import httpx
import psutil

from loadtests.own import own_service
from loadtests.wire import Wire
from tests import ends

CONNECTIONS = 16
IN_HEADS = 0.1
"""The share that may end a connection."""
AT_ENDS = 0.3
"""The share of the others that has an id, a time or a number at the end of its type, and is well formed."""
PATIENCE_S = 30.0
_PLACE = re.compile(r"\{(\w+)\}")
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

_CONSOLE = {
    "search": ("q",), "timeline": ("kind", "name"), "changes": ("code",), "jobs": ("cursor", "limit"),
    "redemptions": ("bookId", "userId", "since", "until", "cursor", "limit"), "charts": ("span",),
}  # fmt: skip
"""Routes that the document lacks, and their parameters."""

_is_lasting = re.compile(r"/v1/(workspace|webhooks|users|test/)").match
"""Routes of settings, which a well-formed request would change for all requests after it."""
_HEAVY = frozenset(("totalCodes", "count", "keepFree"))
"""Fields with numbers of codes to generate."""

Document = dict[str, Any]


class Route(NamedTuple):
    """An operation: its path with names, the parameters of its query, its body's fields, and an example of the body."""

    method: str
    path: str
    parameters: tuple[str, ...] = ()
    fields: tuple[str, ...] = ()
    example: dict[str, Any] | None = None


class Maker:
    """Makes malformed requests."""

    def __init__(self, document: Document, seed: int) -> None:
        self._draw = random.Random(seed)
        self._routes = [
            _read_route(method.upper(), path, operation, document)
            for path, operations in document["paths"].items()
            for method, operation in operations.items()
            if method in {"get", "post", "patch", "put"}
            and "/keys" not in path
            and not path.endswith(".csv")
            and path != "/health/ready"  # on a busy machine its answer may be 503
        ]
        self._routes += [route for route in self._routes if re.search("lock|redeem|assign|validate", route.path)] * 3
        self._routes += [Route("GET", f"/console/data/{name}", names) for name, names in _CONSOLE.items()]

    def make(self) -> tuple[bytes, bool]:
        """A request, and whether it may end the connection."""
        draw = self._draw
        route = draw.choice(self._routes)
        in_head = draw.random() < IN_HEADS
        if not in_head and draw.random() < AT_ENDS and (route.method == "GET" or not _is_lasting(route.path)):
            return self._make_at_ends(route), False
        method, path = route.method, _PLACE.sub(lambda match: _PLACES.get(match[1], _ID), route.path)
        body = b"" if method == "GET" else json.dumps(draw.choice(_BODIES)).encode()
        if body and not in_head:
            body = self._changed(body, _TOKENS)
        elif not body and not in_head:
            query = self._changed(b"limit=10&cursor=x&status=a&q=b", _IN_QUERIES)
            path += "?" + query.decode("latin-1")
        kind = draw.choice(("application/json",) * 20 + ("text/csv", "text/plain", "multipart/form-data", "x", ""))
        head = _make_head(method, path, kind, body)
        return (self._changed(head, _IN_HEADS) if in_head else head) + body, in_head

    def _make_at_ends(self, route: Route) -> bytes:
        """A request of this route with an end of a type in its path, its query, or a field of its body."""
        draw = self._draw
        places = ["path"] * ("{" in route.path) + ["query"] * bool(route.parameters) + ["body"] * bool(route.fields)
        at = draw.choice(places) if places else ""
        path = _PLACE.sub(
            lambda match: draw.choice(ends.TEXTS) if at == "path" else _PLACES.get(match[1], _ID), route.path
        )
        if at == "query":
            named = draw.sample(route.parameters, k=draw.randint(1, len(route.parameters)))
            path += "?" + urlencode({name: draw.choice((*ends.TEXTS, *ends.NUMBERS, "request")) for name in named})
        body = b""
        if route.method != "GET":
            members = {name: value for name, value in (route.example or {}).items() if name not in _HEAVY}
            if at == "body":
                members[draw.choice(route.fields)] = draw.choice((*ends.TEXTS, *ends.NUMBERS, *ends.LAST_NUMBERS))
            body = json.dumps(members).encode()
        return _make_head(route.method, path, "application/json", body) + body

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


def _read_route(method: str, path: str, operation: dict[str, Any], document: Document) -> Route:
    content = operation.get("requestBody", {}).get("content", {}).get("application/json", {})
    schema = content.get("schema", {})
    if "$ref" in schema:
        schema = document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    examples = [one["value"] for one in content.get("examples", {}).values()]
    parameters = tuple(one["name"] for one in operation.get("parameters", ()) if one["in"] == "query")
    example = content.get("example") or next(iter(examples), None)
    fields = tuple(name for name in schema.get("properties", ()) if name not in _HEAVY)
    return Route(method, path, parameters, fields, example)


def _make_head(method: str, path: str, kind: str, body: bytes) -> bytes:
    return (
        f"{method} {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer demo_admin\r\nContent-Type: {kind}\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    ).encode()


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

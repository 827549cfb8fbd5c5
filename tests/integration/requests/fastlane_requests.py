"""Requests to the hot addresses, good and bad, that the fast lane and Litestar must answer alike.

`{book}` and `{token}` are replaced by a workspace's own.
"""

import json
from collections.abc import Iterator
from typing import Any

from tests.harness.cases import filled
from tests.harness.described import descriptions

BOOKS: dict[str, dict[str, Any]] = {
    "PLAIN": {},
    "TWENTY": {"discount": {"type": "percentage", "value": 20, "minOrderValue": 10, "currency": "USD"}},
    "OFF": {"status": "inactive"},
    "OVER": {"validUntil": "2026-01-01T00:00:00Z"},
    "EARLY": {"validFrom": "2036-01-01T00:00:00Z"},
    "LOCKED": {"requireLock": True},
    "OWNED": {"requireAssignment": True},
    "ONCE": {"maxRedemptionsPerUser": 1, "maxCodesPerUser": 1},
    "MANY": {"maxRedemptionsPerCode": 2},
    "SINGLE": {},
    "SINGLE2": {},
    "TIGHT": {"lockSeconds": 3000, "maxLockSeconds": 3000},
}


def codes_of(book: str) -> list[str]:
    """Return a book's codes; a book for assigning any code has one."""
    return [f"{book}-{number}" for number in range(1, 2 if book.startswith("SINGLE") else 7)]


_GOOD = {
    one.row.route: filled(one.goods[0].body, {"book": "{book}", "code": "PLAIN-1"})
    for one in descriptions()
    if one.row.fast
}
"""A good body for each route of the fast lane."""
_NO_BODIES = (
    b"", b" ", b"{", b"[]", b"null", b"1", b'"x"', b"{}", b'{"userId":1}', b'{"userId":null}', b'{"userId":""}',
    b'{"userId":"a b"}', b'{"userId":"u","x":1}', b'{"userId":"u"}x', b'{"userId":"u"}{}', b'\xff{"userId":"u"}',
    b'{"userId":"\xff"}', b'{"userId":"\\ud800"}', b'{"userId":"u","userId":"v"}', b'{"userId":"u","orderId":"%s"}',
    b'{"userId":"u","orderValue":NaN}', b'{"userId":"u","orderValue":"1e3"}', b'{"userId":"u","orderValue":-1}',
    b'{"userId":"u","orderValue":1.005,"currency":"USD"}', b'{"userId":"u","currency":"usd"}', b"[" * 5000,
    b'{"userId":"u","lockSeconds":0}', b'{"userId":"u","lockSeconds":1.5}', b'{"lockToken":""}',
    b'{"lockToken":"t","x":1}', b'{"lockToken":"a b"}', b'{"code":"PLAIN-1","x":1}', b'{"code":1}', b'{"code":""}',
    b'{"code":"NO-SUCH"}',
    b'{"bookId":"x","userId":"u"}', b'{"bookId":"019aa0b2-6f0c-7b52-8a0e-5d1f3d1f9c11","userId":"u"}',
    b'{"userId":"u","metadata":{"a":"\\n"}}', b'{"userId":"u","metadata":{"a":"' + b"x" * 1100 + b'"}}',
    b'{"userId":"u","items":[{"sku":"a","quantity":0,"unitPrice":1}]}', b'{"userId":"u","items":[1]}',
)  # fmt: skip
_HEADERS = (
    "Idempotency-Key: \r\n", "Idempotency-Key: {x256}\r\n", "Idempotency-Key: \xe9\r\n", "Idempotency-Key: a b\r\n",
    "Idempotency-Key:  a \t\r\n", "idempotency-KEY: a\r\n", "Idempotency-Key: a\r\nIdempotency-Key: a\r\n",
    "Idempotency-Key: a\r\nIdempotency-Key: b\r\n", "X-Request-Id: mine\r\n", "X-Request-Id: not mine\r\n",
    "X-Request-Id: \r\n", "X-Request-Id: {x256}\r\n", "X-Request-Id: a\r\nX-Request-Id: b\r\n", "User-Agent: \r\n",
    "User-Agent: a b/1.0 (\xe9)\r\n", "User-Agent: {x256}{x256}{x256}\r\n", "User-Agent: a\r\nUser-Agent: b\r\n",
    "Content-Encoding: gzip\r\n", "Content-Encoding: identity\r\n", "Prefer: durability=recorded, wait=10\r\n",
    "Prefer: durability=recorded, wait=11\r\n", "Prefer: respond-async\r\n", "Expect: 100-continue\r\n",
    "Connection: close\r\n", "Connection: keep-alive\r\n", "Connection: Close\r\n", "Connection: close, x\r\n",
    "Connection: x\r\nConnection: close\r\n", "Accept: text/html\r\nAccept-Encoding: gzip\r\nCookie: a=b\r\n",
    "Origin: http://elsewhere\r\n", "X-Forwarded-For: 1.2.3.4\r\nForwarded: for=1.2.3.4\r\n", "Upgrade: h2c\r\n",
    "TE: trailers\r\n", "X-HTTP-Method-Override: GET\r\n", "Range: bytes=0-1\r\n", "If-None-Match: *\r\n",
)  # fmt: skip
_AUTHORIZATIONS = (
    "", "Authorization: \r\n", "Authorization: Bearer\r\n", "Authorization: Bearer \r\n",
    "Authorization: Bearer nonsense\r\n", "Authorization: Basic {key}\r\n", "Authorization: bearer {key}\r\n",
    "Authorization: BEARER   {key}  \r\n", "Authorization: Bearer\t{key}\r\n", "authorization: Bearer {key}\r\n",
    "Authorization: Bearer {key} x\r\n", "Authorization: Bearer \xe9\r\n", "Authorization: Bearer {rival}\r\n",
    "Authorization: Bearer {key}\r\nAuthorization: Bearer nonsense\r\n", "Authorization: Bearer {public}\r\n",
    "Authorization: Bearer {operate}\r\n",
)  # fmt: skip
_TYPES = (
    "", "Content-Type: \r\n", "Content-Type: text/plain\r\n", "Content-Type: APPLICATION/JSON\r\n",
    "Content-Type: application/json; charset=utf-8\r\n", 'Content-Type: application/json; charset="UTF-8"\r\n',
    "Content-Type: application/json; charset=latin-1\r\n", "Content-Type: application/json;x=y\r\n",
    "Content-Type: application/json\r\nContent-Type: application/json\r\n",
    "Content-Type: application/problem+json\r\n",
)  # fmt: skip
_ADDRESSES = (
    "POST /v1/coupons/lock/plain-1", "POST /v1/coupons/lock/PL%41IN-1", "POST /v1/coupons/lock/PLAIN-1/",
    "POST /v1/coupons/lock//PLAIN-1", "POST /v1/coupons/lock/PLAIN-1?", "POST /v1/coupons/lock/PLAIN-1?x=1",
    "POST /v1/coupons/lock/PLAIN-1?x", "POST /v1/coupons/lock/ABC", "POST /v1/coupons/lock/REDEEM",
    "POST /v1/coupons/lock/{x256}", "POST /v1/coupons/lock/a.b", "POST /v1/coupons/lock/%ff", "POST /v1/coupons/lock",
    "POST /v1/coupons/lock/", "POST /v1/coupons/LOCK/PLAIN-1", "POST /v1/coupons/validate/PLAIN-1",
    "POST /v1/coupons/assign/PLAIN-1/x", "POST /v1//coupons/lock/PLAIN-1", "POST http://x/v1/coupons/lock/PLAIN-1",
    "POST //x/v1/coupons/lock/PLAIN-1", "PUT /v1/coupons/lock/PLAIN-1", "GET /v1/coupons/lock/PLAIN-1",
    "GET /v1/coupons/validate", "OPTIONS /v1/coupons/lock/PLAIN-1", "DELETE /v1/coupons/redeem/PLAIN-1",
    "HEAD /v1/coupons/lock/PLAIN-1", "PATCH /v1/coupons/assign", "POST /v1/coupons/lock/PLAIN-1#x",
    "POST /v1/coupons/unassign/PLAIN-1", "POST /v1/coupons/codes", "POST /v1/coupons/lock/..", "POST *",
)  # fmt: skip
_LONG = {"x256": "x" * 256}


def asked(
    address: str,
    body: bytes,
    more: str = "",
    authorization: str = "Authorization: Bearer {key}\r\n",
    kind: str = "Content-Type: application/json\r\n",
) -> bytes:
    head = f"{address} HTTP/1.1\r\nHost: x\r\n{authorization}{kind}{more}Content-Length: {len(body)}\r\n\r\n"
    for name, text in _LONG.items():
        head = head.replace(f"{{{name}}}", text)
    return head.encode("latin-1") + body


def _json(**fields: Any) -> bytes:
    return json.dumps(fields).encode()


def shapes() -> Iterator[bytes]:
    """Each address with each unusual part of a request. None changes anything: they name an unknown code, or an empty
    book."""
    for route, good in _GOOD.items():
        address, body = route.replace("{code}", "NO-SUCH"), _json(**good)
        for no_body in _NO_BODIES:
            yield asked(address, no_body)
            yield asked(address.replace("NO-SUCH", "PLAIN-6"), no_body) if no_body == b"{}" else asked(address, body)
        for more in _HEADERS:
            yield asked(address, body, more)
        for authorization in _AUTHORIZATIONS:
            yield asked(address, body, authorization=authorization)
        for kind in _TYPES:
            yield asked(address, body, kind=kind)
        yield asked(address, body, authorization="", kind="")
        yield asked(address, body, "Idempotency-Key: \xe9\r\n", kind="")
        yield asked(address, b"[", "Idempotency-Key: \xe9\r\n")
        for size in ((64 << 10) - len(body), (64 << 10) - len(body) + 1, 100 << 10):
            yield asked(address, body + b" " * size)
        yield asked(address, body).replace(b"HTTP/1.1", b"HTTP/1.0", 1)
        yield asked(address, body).replace(b"Content-Length: ", b"Content-Length: 0")
        chunked = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
        head = asked(address, body).partition(b"\r\n\r\n")[0].rpartition(b"\r\n")[0]
        yield head + b"\r\nTransfer-Encoding: chunked\r\n\r\n" + chunked
        yield head + b"\r\n\r\n"
    for address in _ADDRESSES:
        yield asked(address, _json(userId="u"))


def stories() -> Iterator[bytes]:
    """Requests that change something, and their refusals, in an order that matters."""
    hot, recorded = "POST /v1/coupons/", "Prefer: durability=recorded, wait=10\r\n"
    agent = "User-Agent: shop/1.0 (\xe9) {x256}{x256}\r\n"
    public = "Authorization: Bearer {public}\r\n"
    for book in (name for name in BOOKS if len(codes_of(name)) > 1):
        for code, path, key in (("1", "lock", "a"), ("2", "redeem", "b"), ("3", "assign", "c")):
            for user in ("u", "u", "v"):
                fields = {"userId": user} if path == "assign" else {"userId": user, "orderId": f"{book}-{user}"}
                for more in ("", *[f"Idempotency-Key: {book}{key}{user}\r\n"] * 2):
                    yield asked(f"{hot}{path}/{book}-{code}", _json(**fields), more)
        order, lock_key = f"{book}-u", f"Idempotency-Key: {book}au\r\n"
        yield asked(f"{hot}lock/{book}-1", _json(userId="u", orderId=order), lock_key)
        yield asked(f"{hot}unlock/{book}-1", _json(lockToken="{token}"))
        yield asked(f"{hot}lock/{book}-1", _json(userId="u", orderId=order), lock_key)
        yield asked(f"POST /v1/orders/{order}/rollback", b"{}")
        yield asked(f"{hot}redeem/{book}-2", _json(userId="u", orderId=order), f"Idempotency-Key: {book}bu\r\n")
        for value in (None, 5, "25.00", 1e3, "12.345"):
            for currency in (None, "USD", "EUR", "JPY"):
                fields = {"userId": "w", "orderValue": value, "currency": currency}
                yield asked(f"{hot}validate", _json(code=f"{book}-4", **fields))
                yield asked(f"{hot}validate", _json(code=f"{book}-4", **fields), authorization=public)
        order = {"userId": "x", "orderId": f"{book}-x", "orderValue": 120, "currency": "USD"}
        yield asked(f"{hot}lock/{book}-5", _json(userId="x", orderId=f"{book}-x", lockSeconds=3000))
        yield asked(f"{hot}extend/{book}-5", _json(lockToken="{token}", lockSeconds=3100))
        yield asked(f"{hot}extend/{book}-5", _json(lockToken="{token}"), "Idempotency-Key: {x256}\r\n")
        yield asked(f"{hot}redeem/{book}-5", _json(**order, lockToken="wrong"))
        yield asked(f"{hot}redeem/{book}-5", _json(**order, lockToken="{token}", metadata={"a": [1, "é"]}), agent)
        yield asked(f"{hot}redeem/{book}-5", _json(**order, lockToken="{token}"), recorded)
        yield asked(f"{hot}redeem/{book}-5", _json(**order | {"userId": "y"}))
        yield asked(f"{hot}unlock/{book}-5", _json(lockToken="{token}"), f"Idempotency-Key: {book}un\r\n")
        yield asked(f"{hot}lock/{book}-6", _json(userId="x"))
        yield asked(f"{hot}unlock/{book}-6", _json(lockToken="{token}"), f"Idempotency-Key: {book}un\r\n")
        yield asked(f"{hot}unlock/{book}-6", _json(lockToken="{token}"), f"Idempotency-Key: {book}off\r\n")
        yield asked(f"{hot}unlock/{book}-6", _json(lockToken="{token}"), f"Idempotency-Key: {book}off\r\n")
        items = [{"sku": "a", "quantity": 3, "unitPrice": "5.00"}]
        yield asked(f"{hot}redeem/{book}-6", _json(userId="q", orderId=f"{book}-q", orderValue="15.00", items=items))
    for user in ("z", "z", "y"):
        body = _json(bookId="{SINGLE}", userId=user)
        for more in (recorded, "", f"Idempotency-Key: single{user}\r\n", f"Idempotency-Key: single{user}\r\n"):
            yield asked(f"{hot}assign", body, more)
    yield asked(f"{hot}assign", _json(bookId="{SINGLE2}", userId="z"), "Idempotency-Key: single\r\n")
    yield asked(f"{hot}assign", _json(bookId="{SINGLE2}", userId="z"), "Idempotency-Key: single\r\n")

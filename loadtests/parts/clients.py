"""Ten HTTP clients as they send a shop's requests by default: the fields of their heads in their order, and their JSON.
lane.py measures a mix of them."""

import json
import zlib
from typing import Any, NamedTuple


class Client(NamedTuple):
    """A client's head, with places for the values; the order of a body's members; and how JSON is written."""

    head: str
    first: tuple[str, ...] = ()
    spaced: bool = False
    more: str = ""
    """Further members of a redemption."""


CLIENTS = (
    Client(  # curl
        "POST {path} HTTP/1.1\nHost: shop:8000\nUser-Agent: curl/8.14.1\nAccept: */*\nAuthorization: Bearer {token}\n"
        "Content-Type: application/json\nContent-Length: {length}\n\n",
        spaced=True,
    ),
    Client(  # Python, requests
        "POST {path} HTTP/1.1\nHost: shop:8000\nUser-Agent: python-requests/2.34.2\nAccept-Encoding: gzip, deflate\n"
        "Accept: */*\nConnection: keep-alive\nAuthorization: Bearer {token}\nIdempotency-Key: {key}\n"
        "Content-Length: {length}\nContent-Type: application/json\n\n",
        spaced=True,
    ),
    Client(  # Python, httpx
        "POST {path} HTTP/1.1\nHost: shop:8000\nAccept: */*\nAccept-Encoding: gzip, deflate\nConnection: keep-alive\n"
        "User-Agent: python-httpx/0.28.1\nAuthorization: Bearer {token}\nContent-Length: {length}\n"
        "Content-Type: application/json\n\n"
    ),
    Client(  # Python, aiohttp
        "POST {path} HTTP/1.1\nHost: shop:8000\nAuthorization: Bearer {token}\nIdempotency-Key: {key}\nAccept: */*\n"
        "Accept-Encoding: gzip, deflate\nUser-Agent: Python/3.13 aiohttp/3.14.5\nContent-Length: {length}\n"
        "Content-Type: application/json\n\n",
        ("orderId",),
        spaced=True,
    ),
    Client(  # Go, net/http
        "POST {path} HTTP/1.1\nHost: shop:8000\nUser-Agent: Go-http-client/1.1\nContent-Length: {length}\n"
        "Authorization: Bearer {token}\nContent-Type: application/json\nIdempotency-Key: {key}\n"
        "Accept-Encoding: gzip\n\n",
        ("lockToken", "orderId"),
    ),
    Client(  # Node, fetch
        "POST {path} HTTP/1.1\nhost: shop:8000\nconnection: keep-alive\nauthorization: Bearer {token}\n"
        "content-type: application/json\nidempotency-key: {key}\naccept: */*\naccept-language: *\n"
        "sec-fetch-mode: cors\nuser-agent: node\naccept-encoding: gzip, deflate\ncontent-length: {length}\n\n"
    ),
    Client(  # Java, java.net.http
        "POST {path} HTTP/1.1\nContent-Length: {length}\nHost: shop:8000\nUser-Agent: Java-http-client/21.0.9\n"
        "Authorization: Bearer {token}\nContent-Type: application/json\nIdempotency-Key: {key}\n\n",
        ("orderId", "orderValue"),
    ),
    Client(  # PHP, Guzzle
        "POST {path} HTTP/1.1\nHost: shop:8000\nUser-Agent: GuzzleHttp/7\nAuthorization: Bearer {token}\n"
        "Content-Type: application/json\nContent-Length: {length}\n\n"
    ),
    Client(  # Ruby, Net::HTTP
        "POST {path} HTTP/1.1\nContent-Type: application/json\nAuthorization: Bearer {token}\n"
        "Accept-Encoding: gzip;q=1.0,deflate;q=0.6,identity;q=0.3\nAccept: */*\nUser-Agent: Ruby\nHost: shop:8000\n"
        "Content-Length: {length}\n\n",
        more=',"metadata":{"cart":"c-1"}',
    ),
    Client(  # .NET, HttpClient
        "POST {path} HTTP/1.1\nHost: shop:8000\nAuthorization: Bearer {token}\n"
        "traceparent: 00-{trace:032x}-{trace:016x}-01\nIdempotency-Key: {key}\n"
        "Content-Type: application/json; charset=utf-8\nContent-Length: {length}\n\n",
        ("lockToken",),
    ),
)
ONE_REQUEST = (0, 7)
"""Clients that make a connection for each request."""


def request_of(client: Client, path: str, token: str, key: str, body: dict[str, Any]) -> bytes:
    """The client's request with this body."""
    members = {name: body[name] for name in client.first if name in body} | body
    text = json.dumps(members, separators=(", ", ": ") if client.spaced else (",", ":"))
    if "orderValue" in body:
        text = f"{text[:-1]}{client.more}}}"
    trace = zlib.crc32(key.encode()) + 1
    head = client.head.replace("\n", "\r\n").format(path=path, token=token, key=key, length=len(text), trace=trace)
    return head.encode() + text.encode()

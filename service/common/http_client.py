"""The client of other HTTP servers: no redirects, proxies, cookies or compression. jwks.py, sign_in.py, public_http.py
and cli/demo.py send with it."""

from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager

from aiohttp import ClientResponse, ClientSession, ClientTimeout, DummyCookieJar, TCPConnector
from aiohttp.abc import AbstractResolver
from yarl import URL

IDLE_S = 4.0
"""How long a connection is kept for the next request. Many servers close theirs after five seconds."""
READ_BYTES = 16 << 10


def open_session(timeout_s: float, connect_s: float, resolver: AbstractResolver | None = None) -> ClientSession:
    """Return a session whose requests end within `timeout_s`, with `connect_s` for each address.

    TLS has at least version 1.2, and verifies the URL's name by the system's authorities, or those of `SSL_CERT_FILE`.
    Importing aiohttp reads them.
    """
    return ClientSession(
        connector=TCPConnector(resolver=resolver, limit=0, use_dns_cache=False, keepalive_timeout=IDLE_S),
        timeout=ClientTimeout(total=timeout_s, sock_connect=connect_s),
        cookie_jar=DummyCookieJar(),
        auto_decompress=False,
        skip_auto_headers=("Accept", "Accept-Encoding"),
        read_bufsize=READ_BYTES,
        trust_env=False,
    )


def send(
    session: ClientSession, method: str, url: str, headers: Mapping[str, str], body: bytes | None = None
) -> AbstractAsyncContextManager[ClientResponse]:
    """Send a request. Entering raises aiohttp.ClientError, TimeoutError, and what the resolver raises."""
    return session.request(method, URL(url, encoded=True), headers=headers, data=body, allow_redirects=False)


async def read_body(response: ClientResponse, max_bytes: int, body: bytearray | None = None) -> bytes:
    """Read a whole body; `body` has what came before ValueError (beyond `max_bytes`), ClientError or TimeoutError."""
    body = bytearray() if body is None else body
    async for part in response.content.iter_any():
        body += part
        if len(body) > max_bytes:
            raise ValueError("is too long")
    return bytes(body)


async def fetch(
    url: str,
    timeout_s: float,
    max_bytes: int,
    method: str = "GET",
    headers: Mapping[str, str] | None = None,
    body: bytes | None = None,
) -> bytes:
    """The body of a response with the status 200, on a connection of its own. Raises ValueError for another status or
    a body beyond `max_bytes`, OSError, aiohttp.ClientError."""
    sent = {"Accept": "application/json", "User-Agent": "Scrip", **(headers or {})}
    async with open_session(timeout_s, timeout_s) as session, send(session, method, url, sent, body) as response:
        if response.status != 200:
            raise ValueError(f"the status {response.status} is not 200")
        return await read_body(response, max_bytes)

"""The client of other HTTP servers: no redirects, proxies, cookies or compression. jwks.py, sign_in.py, public_http.py
and cli/demo.py send with it."""

import asyncio
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import Any

from aiohttp import ClientPayloadError, ClientResponse, ClientSession, ClientTimeout, DummyCookieJar, TCPConnector
from aiohttp.abc import AbstractResolver
from aiohttp.client_proto import ResponseHandler
from yarl import URL

IDLE_S = 4.0
"""How long a connection is kept for the next request. Many servers close theirs after five seconds."""
READ_BYTES = 16 << 10
HEAD_BYTES = 16 << 10
"""Of a response, beside its body: heads, sizes of chunks, trailers."""
MAX_HEADS, PIECE_BYTES = 10, 1 << 10
"""Unread heads: of a response, and of `100 Continue` and the like before it. They are counted after each piece."""


class _BoundedHandler(ResponseHandler):
    """A connection that takes so many bytes for each request. aiohttp parses all that arrives, also unread bodies:
    else `100 Continue` again and again would keep the event loop busy, and fill memory."""

    def __init__(self, loop: asyncio.AbstractEventLoop, max_bytes: int) -> None:
        super().__init__(loop)
        self._max_bytes = self._left = max_bytes

    def set_response_params(self, **params: Any) -> None:
        """aiohttp calls this before each request."""
        self._left = self._max_bytes
        super().set_response_params(**params)

    def data_received(self, data: bytes) -> None:
        """Parse the first bytes, and discard the others. The reader of a body then ends at its own bound, or in time;
        without a body the connection breaks."""
        for start in range(0, min(len(data), self._left), PIECE_BYTES):
            super().data_received(data[start : start + PIECE_BYTES])
            if len(self._buffer) > MAX_HEADS:
                self._left = 0
                break
        self._left -= len(data)
        if self._left < 0 and (self._payload is None or self._payload.is_eof()) and self.transport is not None:
            self.set_exception(ClientPayloadError("is too long"))
            self.transport.abort()


class _BoundedConnector(TCPConnector):
    def __init__(self, max_bytes: int, resolver: AbstractResolver | None) -> None:
        super().__init__(resolver=resolver, limit=0, use_dns_cache=False, keepalive_timeout=IDLE_S)
        self._factory = partial[ResponseHandler](_BoundedHandler, self._loop, max_bytes)


def open_session(
    timeout_s: float, connect_s: float, max_bytes: int, resolver: AbstractResolver | None = None
) -> ClientSession:
    """Return a session whose requests end within `timeout_s`, with `connect_s` for each address. Of a response,
    `max_bytes` and HEAD_BYTES are read; ClientPayloadError if its head is not within.

    TLS has at least version 1.2, and verifies the URL's name by the system's authorities, or those of `SSL_CERT_FILE`.
    Importing aiohttp reads them.
    """
    return ClientSession(
        connector=_BoundedConnector(max_bytes + HEAD_BYTES, resolver),
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
    async with (
        open_session(timeout_s, timeout_s, max_bytes) as session,
        send(session, method, url, sent, body) as response,
    ):
        if response.status != 200:
            raise ValueError(f"the status {response.status} is not 200")
        return await read_body(response, max_bytes)

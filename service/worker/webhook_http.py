"""Post to addresses that clients chose: only to public ones, within bounds, without redirects."""

import asyncio
import contextlib
import socket
import ssl
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any, NamedTuple

import httptools

from service.domain.webhook_addresses import BadAddress, Target, check_addresses, parse_target

RESOLVE_S, CONNECT_S, RESPONSE_S = 5.0, 5.0, 15.0
BODY_S = 1.0
"""How long to wait for the rest of a response whose status is known."""
MAX_RESPONSE = 64 << 10
IDLE_CONNECTIONS = 8
IDLE_S = 20.0
HEADERS = {"User-Agent": "Scrip", "Content-Type": "application/json"}
"""Of every request, beside its event's own."""
_READ = 16 << 10
_MAX_TRIED = 2
"""Addresses of a name to try."""

Resolve = Callable[[str, int], Awaitable[list[str]]]


class Posted(NamedTuple):
    """The outcome of an attempt: a status, or an error; and the pause that the receiver requests (Retry-After)."""

    status: int | None
    error: str | None = None
    retry_after_s: int = 0

    @property
    def delivered(self) -> bool:
        return self.status is not None and 200 <= self.status < 300


class _Failed(Exception):
    """No status. The message never quotes the receiver."""


class _Idle(NamedTuple):
    """A connection for reuse, until a time of the loop's clock."""

    connection: "_Connection"
    until_s: float


class Poster:
    """Posts to one webhook.

    1. Resolve the name once, unless an idle connection is open. Refuse all addresses if one is not public.
    2. Connect to a checked address by number; TLS verifies the name. There are no proxies.
    3. Read the status and at most 64 KiB. Redirects are not followed.
    4. Keep the connection if the response ended properly.
    """

    def __init__(self, url: str, resolve: Resolve, to_loopback: bool, tls: ssl.SSLContext) -> None:
        self._url, self._resolve, self._to_loopback, self._tls = url, resolve, to_loopback, tls
        self._idle: deque[_Idle] = deque(maxlen=IDLE_CONNECTIONS)
        self._closed = False

    async def post(self, headers: Mapping[str, str], body: bytes) -> Posted:
        """Post once; if an idle connection turns out to be closed, once more on a new one."""
        try:
            async with asyncio.timeout(RESPONSE_S):
                target = parse_target(self._url, self._to_loopback)
                request = _request(target, headers, body)
                if (idle := self._reuse()) is not None:
                    with contextlib.suppress(_Failed):
                        return await self._send(idle, request)
                return await self._send(await self._connect(target), request)
        except BadAddress as bad:
            return Posted(None, f"address refused: {bad}")
        except _Failed as failed:
            return Posted(None, str(failed))
        except TimeoutError:
            return Posted(None, f"no answer within {RESPONSE_S:.0f} s")

    def close(self) -> None:
        """Close idle connections, and keep no more."""
        self._closed = True
        while self._idle:
            self._idle.pop().connection.close()

    def _reuse(self) -> "_Connection | None":
        now_s = asyncio.get_running_loop().time()
        while self._idle:
            connection, until_s = self._idle.pop()
            if until_s > now_s and connection.is_quiet():
                return connection
            connection.close()
        return None

    async def _send(self, connection: "_Connection", request: bytes) -> Posted:
        is_reusable = False
        try:
            posted, is_reusable = await connection.send(request)
            return posted
        finally:
            if is_reusable and not self._closed and len(self._idle) < IDLE_CONNECTIONS:
                self._idle.append(_Idle(connection, asyncio.get_running_loop().time() + IDLE_S))
            else:
                connection.close()

    async def _connect(self, target: Target) -> "_Connection":
        try:
            async with asyncio.timeout(RESOLVE_S):
                addresses = await self._resolve(target.host, target.port)
        except (OSError, UnicodeError):  # TimeoutError among them
            raise _Failed("its name can't be resolved") from None
        check_addresses(addresses, self._to_loopback)
        reason = ""
        for address in addresses[:_MAX_TRIED]:
            try:
                async with asyncio.timeout(CONNECT_S):
                    return await self._connect_to(address, target)
            except ssl.SSLCertVerificationError:
                reason = "its certificate can't be verified"
            except ssl.SSLError:
                reason = "TLS failed"
            except OSError:
                reason = "no connection"
        raise _Failed(reason)

    async def _connect_to(self, address: str, target: Target) -> "_Connection":
        tls = {"ssl": self._tls, "server_hostname": target.host} if target.secure else {}
        reader, writer = await asyncio.open_connection(address, target.port, limit=_READ, **tls)
        return _Connection(reader, writer)


class _Connection:
    """A connection to a receiver, for one request at a time."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    def is_quiet(self) -> bool:
        """Whether the receiver has neither closed the connection nor sent anything."""
        return not self._reader.at_eof() and not self._writer.is_closing()

    def close(self) -> None:
        self._writer.transport.abort()

    async def send(self, request: bytes) -> tuple[Posted, bool]:
        """Return the outcome of a request, and whether the connection is reusable. Raises _Failed."""
        response = _Response()
        try:
            self._writer.write(request)
            await self._writer.drain()
            while response.status is None:
                await self._read(response)
            with contextlib.suppress(TimeoutError, OSError, httptools.HttpParserError, _Failed):
                async with asyncio.timeout(BODY_S):
                    while not response.is_whole:
                        await self._read(response)
        except httptools.HttpParserError:
            raise _Failed("its answer is not HTTP") from None
        except TimeoutError:
            raise
        except OSError:
            raise _Failed("the connection broke") from None
        return Posted(response.status, None, response.retry_after_s), response.is_whole and response.keeps_alive

    async def _read(self, response: "_Response") -> None:
        data = await self._reader.read(_READ)
        if not data:
            raise _Failed("the connection broke")
        response.feed(data)


class _Response:
    """A response as it is parsed; only its status and Retry-After are stored."""

    def __init__(self) -> None:
        self.status: int | None = None
        self.retry_after_s = 0
        self.is_whole = False
        self.keeps_alive = False
        self._bytes = 0
        self._parser: Any = httptools.HttpResponseParser(self)

    def feed(self, data: bytes) -> None:
        """Parse more. Raises _Failed beyond the size limit, HttpParserError if it is not HTTP."""
        self._bytes += len(data)
        if self._bytes > MAX_RESPONSE:
            raise _Failed("its answer is too long")
        self._parser.feed_data(data)

    def on_header(self, name: bytes, value: bytes) -> None:
        if name.lower() == b"retry-after" and value.isdigit() and len(value) < 8:
            self.retry_after_s = int(value)

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        if self.status is None and status >= 200:  # a 1xx is not the response
            self.status = status
            self.keeps_alive = self._parser.should_keep_alive()

    def on_message_complete(self) -> None:
        self.is_whole = self.status is not None


class Resolver:
    """The system's resolver, in its own threads: a slow name server delays only webhooks."""

    def __init__(self, threads: int = 8) -> None:
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="webhook-names")

    async def __call__(self, host: str, port: int) -> list[str]:
        """The name's addresses. Raises OSError."""
        loop = asyncio.get_running_loop()
        addresses = await loop.run_in_executor(self._threads, _addresses, host, port)
        return list(dict.fromkeys(addresses))

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)


def tls_context() -> ssl.SSLContext:
    """Verify certificates by the system's authorities, or those of `SSL_CERT_FILE`."""
    context = ssl.create_default_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    return context


@cache
def shared_tls_context() -> ssl.SSLContext:
    """The process's only one: to read the system's authorities takes a tenth of a second."""
    return tls_context()


def _addresses(host: str, port: int) -> list[str]:
    return [str(info[4][0]) for info in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]


def _request(target: Target, headers: Mapping[str, str], body: bytes) -> bytes:
    lines = {
        "Host": target.authority,
        **HEADERS,
        "Content-Length": str(len(body)),
        **headers,
    }
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    return f"POST {target.path} HTTP/1.1\r\n{head}\r\n".encode("ascii") + body

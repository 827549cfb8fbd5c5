"""Post to addresses that clients chose: only to public ones, within bounds, without redirects. endpoint.py calls this.
Merchants see the texts of errors, so they quote nothing of the receiver. webhook_attempts.py makes responses texts."""

import asyncio
import contextlib
import errno
import socket
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

from service.common.fair_queue import FairGate
from service.common.http_client import open_session, read_body, send
from service.server.requests.webhook_addresses import BadAddress, check_addresses, check_url
from service.server.requests.webhook_attempts import MAX_RESPONSE_BYTES, Posted
from service.server.requests.webhook_protocol import HEADERS

RESOLVE_S, CONNECT_S, RESPONSE_S = 5.0, 5.0, 15.0
RESOLVED_AT_ONCE, RESOLVED_OF_ONE = 16, 4
"""Names that are resolved at once, and of one workspace."""
BODY_S = 1.0
"""How long to wait for the rest of a response whose status is known."""
MAX_RESPONSE = 16 << 10
MAX_TRIED = 2
"""Addresses of a name to try."""

_REASONS: dict[type[Exception], str] = {
    aiohttp.ClientConnectorDNSError: "its name can't be resolved",
    aiohttp.ClientConnectorCertificateError: "its certificate can't be verified",
    aiohttp.ClientConnectorSSLError: "TLS failed",
    aiohttp.ClientConnectorError: "no connection",
    aiohttp.ConnectionTimeoutError: "no connection",
    aiohttp.ClientResponseError: "its answer is not HTTP",
    aiohttp.ClientPayloadError: "its answer is too long",
    aiohttp.ClientError: "the connection broke",
    TimeoutError: f"no answer within {RESPONSE_S:.0f} s",
}
"""The first that fits. The message never quotes the receiver."""

_workspace: ContextVar[int] = ContextVar("workspace")
"""Of the attempt. aiohttp calls the resolver without it."""


class Poster:
    """Posts to webhooks.

    1. Check the URL. Resolve its name once for each connection. Refuse all addresses if one is not public.
    2. Connect to a checked address by number; TLS verifies the name.
    3. Read the status and at most 16 KiB of the body.
    4. Keep the connection if the response ended properly.
    """

    def __init__(self, to_loopback: bool) -> None:
        self._to_loopback = to_loopback
        self._resolver = _CheckedResolver(to_loopback)
        self._session = open_session(RESPONSE_S, CONNECT_S, MAX_RESPONSE, self._resolver)

    async def post(self, workspace: int, url: str, headers: Mapping[str, str], body: bytes) -> Posted:
        """Post once, for a workspace."""
        _workspace.set(workspace)
        try:
            check_url(url, self._to_loopback)  # checks an IP address, which does not go through the resolver
            async with send(self._session, "POST", url, {**HEADERS, **headers}, body) as response:
                read = bytearray()
                with contextlib.suppress(TimeoutError, ValueError, aiohttp.ClientError):
                    async with asyncio.timeout(BODY_S):
                        await read_body(response, MAX_RESPONSE, read)
                retry_after_s = _parse_retry_after(response.headers.get("Retry-After", ""))
                return Posted(response.status, None, retry_after_s, bytes(read[: MAX_RESPONSE_BYTES + 1]))
        except BadAddress as bad:
            return Posted(None, f"address refused: {bad}")
        except (aiohttp.ClientError, TimeoutError) as error:
            return Posted(None, next(reason for kind, reason in _REASONS.items() if isinstance(error, kind)))

    async def aclose(self) -> None:
        """Close all connections, also busy ones."""
        await self._session.close()
        await self._resolver.close()


class _CheckedResolver(AbstractResolver):
    """Resolves names and checks their addresses; in its own threads, so a slow name server delays only webhooks.

    A thread can't be stopped: one whose name hangs counts until the system gives up, long after the deadline of the
    attempt. So a workspace whose names hang has only some of the threads.
    """

    def __init__(self, to_loopback: bool) -> None:
        self._to_loopback = to_loopback
        self._gate = FairGate(RESOLVED_AT_ONCE, RESOLVED_OF_ONE)
        self._threads = ThreadPoolExecutor(RESOLVED_AT_ONCE, thread_name_prefix="webhook-names")

    async def resolve(self, host: str, port: int = 0, family: int = socket.AF_UNSPEC) -> list[ResolveResult]:
        """Return the first of the name's addresses. Raises OSError; BadAddress if any is not public."""
        try:
            async with asyncio.timeout(RESOLVE_S):
                addresses = await self._get_addresses(_workspace.get(), host, port)
        except TimeoutError:
            addresses = []
        if not addresses:
            raise OSError(errno.EHOSTUNREACH, "can't be resolved")
        check_addresses(addresses, self._to_loopback)
        return [
            ResolveResult(hostname=host, host=address, port=port, family=family, proto=0, flags=0)
            for address in [*dict.fromkeys(addresses)][:MAX_TRIED]
        ]

    async def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _get_addresses(self, workspace: int, host: str, port: int) -> list[str]:
        await self._gate.enter(workspace)
        resolving = asyncio.get_running_loop().run_in_executor(self._threads, _get_addresses, host, port)
        resolving.add_done_callback(lambda _: self._gate.leave(workspace))
        return await asyncio.shield(resolving)  # else a cancelled future is done while its thread runs


def _get_addresses(host: str, port: int) -> list[str]:
    """The name's addresses; none if it can't be resolved."""
    try:
        return [str(info[4][0]) for info in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]
    except (OSError, UnicodeError):
        return []


def _parse_retry_after(value: str) -> int:
    return int(value) if value.isascii() and value.isdigit() and len(value) < 8 else 0

"""The port of metrics and health (SCRIP_METRICS_PORT), for operators alone: API processes and workers serve it."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from http import HTTPStatus
from typing import NamedTuple

from prometheus_client import REGISTRY, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.openmetrics import exposition as openmetrics

from service.common.free_ports import explain_use

MAX_CONNECTIONS = 16
"""The next one is closed."""
MAX_HEAD_BYTES = 16 << 10
TIMEOUT_S = 5.0
"""For a request to arrive, and for its response to be taken."""
FRESH_S = 1.0
"""How long all readers get the same rendered metrics: a rendering takes 10 to 30 ms, and the API's own port needs no
key."""
_JSON = "application/json"

CheckReadiness = Callable[[], Awaitable[tuple[bool, bytes]]]
"""Whether the process is ready, and the JSON that says why."""


class _Rendering(NamedTuple):
    """Metrics, and when they are rendered again."""

    stale_s: float
    text: bytes


_renderings: dict[str, _Rendering] = {}


def render_metrics(accept: str) -> tuple[bytes, str]:
    """All metrics, rendered at most FRESH_S ago, and their content type: OpenMetrics, with exemplars, if an `Accept`
    header names it.

    prometheus_client's choose_encoder fails for a version that is no number.
    """
    render, kind = generate_latest, CONTENT_TYPE_PLAIN_0_0_4
    if "application/openmetrics-text" in accept:
        render, kind = openmetrics.generate_latest, openmetrics.CONTENT_TYPE_LATEST
    last, now_s = _renderings.get(kind), time.monotonic()
    if last is None or now_s >= last.stale_s:
        last = _renderings[kind] = _Rendering(now_s + FRESH_S, render(REGISTRY))
    return last.text, kind


@contextlib.asynccontextmanager
async def serve_metrics(
    host: str, port: int | None, check_readiness: CheckReadiness, *, is_shared: bool = False
) -> AsyncIterator[None]:
    """Serve `GET /metrics`, `/health/live` and `/health/ready` within the block, if there is a port. `is_shared`: other
    processes serve it, too, and each connection goes to one of them. Raises StartError if the port is in use."""
    if port is None:
        yield
        return
    handler = _Handler(check_readiness)
    with explain_use(host, port, "SCRIP_METRICS_PORT"):
        server = await asyncio.start_server(
            handler.handle, host, port, limit=MAX_HEAD_BYTES, reuse_port=is_shared or None
        )
    with contextlib.closing(server):
        yield


class _Handler:
    """Answers one request a connection."""

    def __init__(self, check_readiness: CheckReadiness) -> None:
        self._check_readiness = check_readiness
        self._connections = 0

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connections += 1
        try:
            if self._connections <= MAX_CONNECTIONS:
                async with asyncio.timeout(TIMEOUT_S):
                    head = await reader.readuntil(b"\r\n\r\n")
                    writer.write(await self._answer(head.decode("latin-1")))
                    await writer.drain()
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass  # TimeoutError is an OSError; the client is slow, gone, or none
        finally:
            self._connections -= 1
            writer.close()

    async def _answer(self, head: str) -> bytes:
        request, *lines = head.split("\r\n")
        headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        method, _, rest = request.partition(" ")
        if method != "GET":
            return _response(HTTPStatus.METHOD_NOT_ALLOWED, b"", _JSON)
        match rest.partition(" ")[0].partition("?")[0]:
            case "/metrics":
                return _response(HTTPStatus.OK, *render_metrics(headers.get("accept", "")))
            case "/health/live":
                return _response(HTTPStatus.OK, b'{"status":"live"}', _JSON)
            case "/health/ready":
                is_ready, body = await self._check_readiness()
                return _response(HTTPStatus.OK if is_ready else HTTPStatus.SERVICE_UNAVAILABLE, body, _JSON)
        return _response(HTTPStatus.NOT_FOUND, b"", _JSON)


def _response(status: HTTPStatus, body: bytes, content_type: str) -> bytes:
    head = f"HTTP/1.1 {status.value} {status.phrase}\r\nContent-Type: {content_type}\r\n"
    return f"{head}Content-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode() + body

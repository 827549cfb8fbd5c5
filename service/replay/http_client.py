"""A small HTTP/1.1 client: one request at a time on a persistent connection."""

import asyncio
import json
import re
import time
from collections import Counter
from typing import Any, NamedTuple
from urllib.parse import urlsplit

RESPONSE_TIMEOUT_S = 30.0
RETRY_DEADLINE_S = 120.0
MAX_BODY_BYTES = 16 << 20
_RECONNECT_PAUSE_S = 0.5
_status = re.compile(r"HTTP/1\.[01] (\d{3})(?: |$)", re.ASCII)


class Unreachable(Exception):
    """The service did not answer a request, in spite of retries."""


class UnexpectedResponse(Exception):
    """The service refused a request that the replay depends on."""


class Response(NamedTuple):
    """A response. `was_retried`: the request was sent more than once."""

    status: int
    headers: dict[str, str]
    body: bytes
    was_retried: bool = False

    @property
    def outcome(self) -> str:
        """The status, followed by the problem's code if there is one."""
        return f"{self.status} {self.json.get('code', '')}".rstrip() if self.status >= 400 else str(self.status)

    @property
    def json(self) -> dict[str, Any]:
        """The body; {} if it is not a JSON object."""
        try:
            body = json.loads(self.body)
        except ValueError:
            return {}
        return body if isinstance(body, dict) else {}


class Client:
    """A client of one service. `retries` counts the retries by reason."""

    def __init__(self, url: str, retry_deadline_s: float = RETRY_DEADLINE_S) -> None:
        parts = urlsplit(url)
        self._host, self._tls = parts.hostname or "", parts.scheme == "https"
        self._port = parts.port or (443 if self._tls else 80)
        self._base = parts.path.rstrip("/")
        self._head = f"Host: {parts.netloc.rpartition('@')[2]}\r\nUser-Agent: scrip-replay\r\n"
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self._retry_deadline_s = retry_deadline_s
        self.retries: Counter[str] = Counter()

    async def request(
        self, method: str, path: str, token: str, body: bytes = b"", kind: str = "application/json", key: str = ""
    ) -> Response:
        """Send a request and return the response. After a 503 with Retry-After or a lost connection, send it again.

        Raises Unreachable if the connection still fails at the deadline, or the response is not usable HTTP/1.1.
        """
        head = f"{method} {self._base}{path} HTTP/1.1\r\n{self._head}Authorization: Bearer {token}\r\n"
        if key:
            head += f"Idempotency-Key: {key}\r\n"
        if method == "POST":
            head += f"Content-Type: {kind}\r\nContent-Length: {len(body)}\r\n"
        message = f"{head}\r\n".encode() + body
        deadline, was_retried = time.monotonic() + self._retry_deadline_s, False
        while True:
            try:
                response = await self._send(message)
            except asyncio.LimitOverrunError as error:
                raise Unreachable(f"{method} {path}: the head of the response is too long") from error
            except (OSError, asyncio.IncompleteReadError, TimeoutError) as error:
                self.close()
                reason, pause_s = "connection lost", _RECONNECT_PAUSE_S
                if time.monotonic() > deadline:
                    raise Unreachable(f"{method} {path}: {type(error).__name__} {error}") from error
            else:
                retry_after = response.headers.get("retry-after", "")
                if response.status != 503 or not retry_after.isdecimal() or time.monotonic() > deadline:
                    return response._replace(was_retried=was_retried)
                reason, pause_s = response.outcome, float(retry_after)
            self.retries[reason] += 1
            was_retried = True
            await asyncio.sleep(pause_s)

    def close(self) -> None:
        """Close the connection. The next request opens a new one."""
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None

    async def _send(self, message: bytes) -> Response:
        async with asyncio.timeout(RESPONSE_TIMEOUT_S):
            if self._streams is None:
                self._streams = await asyncio.open_connection(self._host, self._port, ssl=self._tls or None)
            reader, writer = self._streams
            writer.write(message)
            status_line, *lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            pairs = (line.partition(":") for line in lines if line)
            headers = {name.lower(): value.strip() for name, _, value in pairs}
            if not (match := _status.match(status_line)):
                raise Unreachable(f"a response is not HTTP/1.1 ({status_line[:100]!r})")
            status = int(match[1])
            size = headers.get("content-length", "0" if status == 204 else "none")
            if not size.isdecimal() or int(size) > MAX_BODY_BYTES:
                raise Unreachable(f"a response has no Content-Length up to {MAX_BODY_BYTES} ({status_line[:100]})")
            body = await reader.readexactly(int(size))
        if headers.get("connection", "").lower() == "close":
            self.close()
        return Response(status, headers, body)

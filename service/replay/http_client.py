"""A small HTTP/1.1 client: one request at a time on a connection that is kept."""

import asyncio
import json
import re
import time
from collections import Counter
from typing import Any, NamedTuple
from urllib.parse import urlsplit

ANSWER_TIMEOUT_S = 30.0
PATIENCE_S = 120.0
MAX_BODY_BYTES = 16 << 20
_LOST_RETRY_S = 0.5
_status = re.compile(r"HTTP/1\.[01] (\d{3})(?: |$)", re.ASCII)


class Unreachable(Exception):
    """No answer that ends the request, however often it was sent."""


class Refused(Exception):
    """The service refused what a replay can't do without."""


class Answer(NamedTuple):
    """What came back; `repeated` where the request was sent more than once."""

    status: int
    headers: dict[str, str]
    body: bytes
    repeated: bool = False

    @property
    def outcome(self) -> str:
        """The status, and the refusal's code."""
        return f"{self.status} {self.json.get('code')}" if self.status >= 400 else str(self.status)

    @property
    def json(self) -> dict[str, Any]:
        """The body; nothing where it is no JSON object."""
        try:
            found = json.loads(self.body)
        except ValueError:
            return {}
        return found if isinstance(found, dict) else {}


class Client:
    """Asks one service; what was sent again, and why, is counted in `retries`."""

    def __init__(self, url: str, patience_s: float = PATIENCE_S) -> None:
        parts = urlsplit(url)
        self._host, self._tls = parts.hostname or "", parts.scheme == "https"
        self._port = parts.port or (443 if self._tls else 80)
        self._base = parts.path.rstrip("/")
        self._head = f"Host: {parts.netloc.rpartition('@')[2]}\r\nUser-Agent: scrip-replay\r\n"
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self._patience_s = patience_s
        self.retries: Counter[str] = Counter()

    async def ask(
        self, method: str, path: str, token: str, body: bytes = b"", kind: str = "application/json", key: str = ""
    ) -> Answer:
        """The answer that ends the request: after a 503 or a broken connection the same bytes are sent again.

        Raises Unreachable where that takes too long.
        """
        head = f"{method} {self._base}{path} HTTP/1.1\r\n{self._head}Authorization: Bearer {token}\r\n"
        if key:
            head += f"Idempotency-Key: {key}\r\n"
        if method == "POST":
            head += f"Content-Type: {kind}\r\nContent-Length: {len(body)}\r\n"
        request = f"{head}\r\n".encode() + body
        deadline, repeated = time.monotonic() + self._patience_s, False
        while True:
            try:
                answer = await self._send(request)
            except asyncio.LimitOverrunError as error:
                raise Unreachable(f"{method} {path}: the head of the answer is too long") from error
            except (OSError, asyncio.IncompleteReadError, TimeoutError) as error:
                self.close()
                why, wait_s = "connection lost", _LOST_RETRY_S
                if time.monotonic() > deadline:
                    raise Unreachable(f"{method} {path}: {type(error).__name__} {error}") from error
            else:
                retry_after = answer.headers.get("retry-after", "")
                if answer.status != 503 or not retry_after.isdecimal() or time.monotonic() > deadline:
                    return answer._replace(repeated=repeated)
                why, wait_s = answer.outcome, float(retry_after)
            self.retries[why] += 1
            repeated = True
            await asyncio.sleep(wait_s)

    def close(self) -> None:
        """Let go of the connection; the next request opens another."""
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None

    async def _send(self, request: bytes) -> Answer:
        async with asyncio.timeout(ANSWER_TIMEOUT_S):
            if self._streams is None:
                self._streams = await asyncio.open_connection(self._host, self._port, ssl=self._tls or None)
            reader, writer = self._streams
            writer.write(request)
            status_line, *lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            pairs = (line.partition(":") for line in lines if line)
            headers = {name.lower(): value.strip() for name, _, value in pairs}
            if not (answered := _status.match(status_line)):
                raise Unreachable(f"an answer is not HTTP/1.1 ({status_line[:100]!r})")
            status = int(answered[1])
            size = headers.get("content-length", "0" if status == 204 else "none")
            if not size.isdecimal() or int(size) > MAX_BODY_BYTES:
                raise Unreachable(f"an answer has no Content-Length up to {MAX_BODY_BYTES} ({status_line[:100]})")
            body = await reader.readexactly(int(size))
        if headers.get("connection", "").lower() == "close":
            self.close()
        return Answer(status, headers, body)

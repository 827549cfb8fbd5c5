"""A client that repeats a request while the service can't answer. replay/ and `scrip demo` use it."""

import asyncio
import json
import time
from collections import Counter
from collections.abc import Mapping
from typing import Any, NamedTuple

from aiohttp import ClientError, ClientResponseError

from service.common.http_client import open_session, read_body, send

RESPONSE_TIMEOUT_S = 30.0
RETRY_DEADLINE_S = 120.0
MAX_BODY_BYTES = 16 << 20
_RECONNECT_PAUSE_S = 0.5


class Unreachable(Exception):
    """The service did not answer a request, in spite of retries."""


class UnexpectedResponse(Exception):
    """The service refused a request that the replay depends on."""


class Response(NamedTuple):
    """A response. `was_retried`: the request was sent more than once."""

    status: int
    headers: Mapping[str, str]
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
        self._url = url.rstrip("/")
        self._session = open_session(RESPONSE_TIMEOUT_S, RESPONSE_TIMEOUT_S)
        self._retry_deadline_s = retry_deadline_s
        self.retries: Counter[str] = Counter()

    async def request(
        self, method: str, path: str, token: str, body: bytes = b"", kind: str = "application/json", key: str = ""
    ) -> Response:
        """Send a request and return the response. After a 503 with Retry-After or a lost connection, send it again.

        Raises Unreachable if the connection still fails at the deadline, or the response is not usable HTTP/1.1.
        """
        headers = {"User-Agent": "scrip-replay", "Authorization": f"Bearer {token}"}
        if key:
            headers["Idempotency-Key"] = key
        if method == "POST":
            headers["Content-Type"] = kind
        deadline, was_retried = time.monotonic() + self._retry_deadline_s, False
        while True:
            try:
                response = await self._send(method, path, headers, body)
            except (ClientResponseError, ValueError) as error:
                raise Unreachable(f"{method} {path}: the response is not usable: {error}") from error
            except (ClientError, TimeoutError) as error:
                reason, pause_s = "connection lost", _RECONNECT_PAUSE_S
                if time.monotonic() > deadline:
                    raise Unreachable(f"{method} {path}: {type(error).__name__} {error}") from error
            else:
                retry_after = response.headers.get("Retry-After", "")
                if response.status != 503 or not retry_after.isdecimal() or time.monotonic() > deadline:
                    return response._replace(was_retried=was_retried)
                reason, pause_s = response.outcome, float(retry_after)
            self.retries[reason] += 1
            was_retried = True
            await asyncio.sleep(pause_s)

    async def aclose(self) -> None:
        await self._session.close()

    async def _send(self, method: str, path: str, headers: Mapping[str, str], body: bytes) -> Response:
        async with send(self._session, method, self._url + path, headers, body or None) as response:
            return Response(response.status, response.headers, await read_body(response, MAX_BODY_BYTES))

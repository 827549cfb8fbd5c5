"""Both clients on a scripted transport and a clock of the test's, with the same tests."""

import asyncio
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import httpx2
import pytest

from scrip_client import AsyncClient, Client, async_client, client, core
from service.engine.domain.outcomes import BY_CODE

Reply = httpx2.Response | Exception


class Shell:
    """A client whose requests get given replies, one after the other; the last one again and again. `requests` has the
    requests, `pauses` the waits between them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, is_async: bool) -> None:
        self.is_async = is_async
        self.now = 0.0
        self.requests: list[httpx2.Request] = []
        self.pauses: list[float] = []
        self._replies: Iterator[Reply] = iter(())
        self._last: Reply = httpx2.Response(204)
        monkeypatch.setattr(core, "monotonic", lambda: self.now)
        monkeypatch.setattr(client, "sleep", self._sleep)
        monkeypatch.setattr(async_client, "sleep", self._sleep_async)

    def do(self, use: Callable[[Any], Any], *replies: Reply, **options: Any) -> Any:
        """Return what `use` returns of the client, or awaits."""
        self._replies = iter(replies)
        if not self.is_async:
            transport = httpx2.MockTransport(self._answer)
            with Client("http://scrip.test/", "key", http=httpx2.Client(transport=transport), **options) as one:
                return use(one)

        async def run() -> Any:
            transport = httpx2.MockTransport(self._answer)
            http = httpx2.AsyncClient(transport=transport)
            async with AsyncClient("http://scrip.test/", "key", http=http, **options) as one:
                used = use(one)
                return [item async for item in used] if hasattr(used, "__aiter__") else await used

        return asyncio.run(run())

    def _answer(self, request: httpx2.Request) -> httpx2.Response:
        self.requests.append(request)
        self._last = next(self._replies, self._last)
        if isinstance(self._last, Exception):
            raise self._last
        return httpx2.Response(self._last.status_code, content=self._last.content, headers=self._last.headers)

    def _sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.now += seconds

    async def _sleep_async(self, seconds: float) -> None:
        self._sleep(seconds)


@pytest.fixture(params=["sync", "async"])
def shell(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Shell:
    return Shell(monkeypatch, request.param == "async")


def refuse(code: str, status: int, retry_after: int | None = None) -> httpx2.Response:
    """A refusal, as the service sends it."""
    problem = {"type": f"/problems/{code}", "title": "t", "status": status, "detail": "d", "code": code}
    problem |= {"for": BY_CODE[code].for_ if code in BY_CODE else "caller"}
    headers: Iterable[tuple[str, str]] = () if retry_after is None else [("Retry-After", str(retry_after))]
    return httpx2.Response(status, json=problem | {"instance": "/r", "requestId": "r1"}, headers=dict(headers))

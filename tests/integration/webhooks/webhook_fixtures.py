"""A receiver of webhooks on this machine, and senders for a partition."""

import asyncio
import contextlib
import json
import math
import ssl
import time
from collections.abc import AsyncIterator, Callable
from typing import Any, NamedTuple

import asyncpg
import pytest
import pytest_asyncio

from service.engine.worker.lease_keeper import Lease
from service.server.in_postgres import webhook_rows
from service.server.in_postgres.webhook_rows import WebhookRow
from service.server.requests.webhook_protocol import EVENTS, generate_secret
from service.server.webhooks import sender as webhook_sender
from service.server.webhooks.public_http import Poster
from service.server.webhooks.sender import Sender
from tests.harness.waiting import cancel, elapse, wait_until
from tests.integration.recording.record_fixtures import Record, make_workspace

__all__ = ["Got", "Office", "Receiver", "office", "receiver"]


class Got(NamedTuple):
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def event(self) -> dict[str, Any]:
        return json.loads(self.body)

    @property
    def type(self) -> str:
        return self.event["type"]

    @property
    def code(self) -> str:
        return self.event["data"]["code"]


class Receiver:
    """Answers each delivery with the status that `judge` returns, after a delay; closes the connection for 0."""

    def __init__(self) -> None:
        self.got: list[Got] = []
        self.judge: Callable[[Got], int] = lambda got: 204
        self.delay_s: Callable[[Got], float] = lambda got: 0.0
        self.headers = ""
        self.answer = b""
        self.connections = 0
        self.under_way = self.most_under_way = 0
        self.port = 0

    def url(self, path: str = "/hook") -> str:
        return f"http://127.0.0.1:{self.port}{path}"

    @contextlib.asynccontextmanager
    async def listening(self, tls: ssl.SSLContext | None = None) -> AsyncIterator["Receiver"]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", self.port, ssl=tls)
        self.port = server.sockets[0].getsockname()[1]
        with contextlib.closing(server):
            yield self

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            while head := (await reader.readuntil(b"\r\n\r\n")).decode():
                first, *lines = head.split("\r\n")[:-2]
                headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
                body = await reader.readexactly(int(headers["content-length"]))
                got = Got(first.split(" ")[1], headers, body)
                self.got.append(got)
                self.under_way += 1
                self.most_under_way = max(self.most_under_way, self.under_way)
                status = self.judge(got)
                await elapse(self.delay_s(got), "a receiver that takes its time")
                self.under_way -= 1
                if not status:
                    break
                answer = b"" if status == 204 else self.answer
                writer.write(f"HTTP/1.1 {status} X\r\n{self.headers}Content-Length: {len(answer)}\r\n\r\n".encode())
                writer.write(answer)
                await writer.drain()
        writer.close()


class _Sender(Sender):
    """Counts its turns that read the webhooks. `pass_s` writes all rows between turns, as it and a turn could deadlock;
    then a worker would start its sender again."""

    readings = 0
    turning: asyncio.Lock

    async def turn(self) -> None:
        is_reading = time.monotonic() >= self._next_read_at
        async with self.turning:
            await super().turn()
        self.readings += is_reading

    @property
    def is_idle(self) -> bool:
        return not any(endpoint.in_flight or endpoint.ready for endpoint in self._endpoints.values())


class Office:
    """A workspace with a book, webhooks of it, and senders."""

    def __init__(self, kept: Record, book_id: str) -> None:
        self.kept, self.pool, self.book_id = kept, kept.pool, book_id
        self._senders: list[_Sender] = []
        self._turning = asyncio.Lock()
        self._running: list[asyncio.Task[None]] = []

    async def webhook(self, url: str, *events: str, secret: bytes | None = None) -> WebhookRow:
        """Create a webhook of all events, or of these."""
        return await webhook_rows.create_webhook(self.pool, 1, url, events or EVENTS, "", secret or generate_secret())

    def send(self, fence: int | None = None, lives_until: float = math.inf) -> asyncio.Task[None]:
        """Start a sender; it ends with the test. Without renewals its lease lives until `lives_until`."""
        fence = self.kept.fence if fence is None else fence
        sender = _Sender(self.pool, 0, fence, lambda: Poster(to_loopback=True))
        sender.turning = self._turning
        self._senders.append(sender)
        self.lease = Lease()
        self.lease.due, self.lease.lives_until = frozenset({"sending"}), lives_until
        self._running.append(asyncio.create_task(sender.run(self.lease)))
        return self._running[-1]

    @property
    def is_ready(self) -> bool:
        """Whether the last sender has deliveries to send."""
        return any(endpoint.ready for endpoint in self._senders[-1]._endpoints.values())

    async def until_read(self) -> None:
        """Wait until each sender has read what there is to send."""
        goals = {sender: sender.readings + 2 for sender in self._senders}  # one may be under way
        await wait_until(lambda: all(sender.readings >= goal for sender, goal in goals.items()))

    async def until_idle(self) -> None:
        """Wait until each sender has read what there is to send, and sent what is due."""
        await self.until_read()
        await wait_until(lambda: all(sender.is_idle for sender in self._senders))

    async def stop(self) -> None:
        await cancel(*self._running)
        self._running.clear()
        self._senders.clear()

    async def pass_s(self, seconds: float) -> None:
        """Move all times of webhooks and deliveries into the past."""
        for table, times in (
            ("webhooks", "inactive_since failing_since old_secret_until created_at"),
            ("webhook_deliveries", "first_attempt_at last_attempt_at next_attempt_at created_at"),
        ):
            moved = ", ".join(f"{name} = {name} - $1 * interval '1 second'" for name in times.split())
            async with self._turning:
                await self.pool.execute(f"UPDATE {table} SET {moved}", seconds)

    async def deliveries(self) -> list[asyncpg.Record]:
        return await self.pool.fetch("SELECT * FROM webhook_deliveries ORDER BY position")

    async def statuses(self) -> dict[str, int]:
        rows = await self.pool.fetch("SELECT status, count(*) FROM webhook_deliveries GROUP BY 1")
        return {row[0]: row[1] for row in rows}

    async def statuses_are(self, **counts: int) -> bool:
        return await self.statuses() == counts

    async def attempts_are(self, attempts: int) -> bool:
        """Return whether Postgres counts so many attempts of the oldest delivery."""
        return (await self.deliveries())[0]["attempts"] == attempts

    async def is_off(self, row: WebhookRow) -> bool:
        return (await self.state(row)).status == "inactive"

    async def state(self, row: WebhookRow) -> WebhookRow:
        return await webhook_rows.read_webhook(self.pool, 1, row.webhook_id)


@pytest_asyncio.fixture
async def office(kept: Record, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Office]:
    """The only workspace of the partition."""
    monkeypatch.setattr(webhook_sender, "POLL_S", 0.05)
    office = Office(kept, str(await make_workspace(kept.pool)))
    yield office
    await office.stop()


@pytest_asyncio.fixture
async def receiver() -> AsyncIterator[Receiver]:
    """A receiver that answers 204."""
    async with Receiver().listening() as receiver:
        yield receiver

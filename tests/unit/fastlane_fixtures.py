"""A connection's protocol without a network: bytes of a client go in, bytes of the server come out."""

import asyncio
import hashlib
import json
import re
import time
from collections import deque
from typing import Any
from uuid import UUID

import uvicorn
from uvicorn.server import ServerState

from service.engine.domain.errors import Refusal
from service.engine.operations.caller import Caller
from service.server.access.keyring import Keyring
from service.server.fastlane.bounded_protocol import MAX_CONNECTIONS
from service.server.fastlane.connection_room import Room
from service.server.fastlane.protocol import Protocol
from service.server.fastlane.routes import Lane

BOOK = "019aa0b2-6f0c-7b52-8a0e-5d1f3d1f9c11"
REQUEST_ID = "X-Request-Id: r\r\n"
_KEYS = ("one", "two", "limited", "public")


class ByteTransport:
    """A transport that stores the written bytes."""

    def __init__(self) -> None:
        self.sent = b""
        self.unsent = 0
        self.closed = self.aborted = self.eof = False
        self.reading = True

    def write(self, data: bytes) -> None:
        assert not self.closed
        self.sent += data

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.closed = self.aborted = True

    def write_eof(self) -> None:
        self.eof = True

    def can_write_eof(self) -> bool:
        return True

    def is_closing(self) -> bool:
        return self.closed

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def get_write_buffer_size(self) -> int:
        return self.unsent

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return ("192.0.2.7", 4711) if name in {"peername", "sockname"} else default


class Decider:
    """Replies to scripts when a test asks for it."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, tuple[Any, ...]]] = []
        self.keys: list[str] = []
        """The Idempotency-Keys' entries."""
        self.waiting: deque[Any] = deque()
        self.refusal: Refusal | None = None

    def start(self, partition: int, script: str, names: Any, args: tuple[Any, ...], on_reply: Any) -> int:
        if self.refusal:
            raise self.refusal
        self.asked.append((script, args))
        self.keys.append(names[2])
        self.waiting.append(on_reply)
        return 1

    async def run_all(self, partition: int, runs: Any) -> list[Refusal | None]:
        return [self.refusal for _ in runs]

    def durability(self, _partition: int) -> str:
        return "fsynced"

    def interpret(self, partition: int, epoch: int, reply: Any) -> Any:
        if isinstance(reply, Refusal):
            raise reply
        return reply

    def reply(self, reply: Any = None) -> None:
        """Answer the oldest; a lock's reply where none is given."""
        _, args = self.asked[-len(self.waiting)]
        lock = [0, f"{BOOK} {args[1]} u - {'t' * 16} 1795189957123 300000", "", 0]
        self.waiting.popleft()(lock if reply is None else reply)


class Client:
    """One connection, of the same server as `beside`; call within an event loop. A request that isn't hot is answered
    with its path and its body's length."""

    def __init__(self, *, hot: bool = True, connections: int = MAX_CONNECTIONS, beside: "Client | None" = None) -> None:
        self.decider = beside.decider if beside else Decider()
        self.keyring, self.wire = Keyring(), ByteTransport()
        self.keyring.replace({hashlib.sha256(key.encode()).digest(): caller(key) for key in _KEYS})
        self.keyring.confirm(time.monotonic())
        self.passed: list[tuple[str, bytes]] = []
        self.headers: list[tuple[bytes, bytes]] = []
        self.left = 0
        """The number of requests that ended before they were whole."""
        config = uvicorn.Config(self._elsewhere, loop="none", ws="none", log_config=None, interface="asgi3")
        config.proxy_headers, config.timeout_keep_alive = False, 30
        config.load()
        self.state = beside.state if beside else ServerState()
        self.room = beside.room if beside else Room()
        self.state.default_headers = [(b"date", b"now")]
        lane = Lane(self.decider, self.keyring, None)  # type: ignore[arg-type]
        self.lane = beside.lane if beside else lane if hot else None
        loop = asyncio.get_running_loop()
        self.protocol = Protocol(
            config, self.state, {}, loop, max_connections=connections, room=self.room, lane=self.lane
        )
        self.protocol.connection_made(self.wire)  # type: ignore[arg-type]

    def send(self, data: bytes) -> None:
        """As if the data came in one part."""
        if not self.wire.closed:
            self.protocol.data_received(data)

    def answer(self, sent: bytes = b"", reply: Any = None) -> None:
        """Send a hot request, a good one by default, and have its script reply."""
        self.send(sent or request())
        self.decider.reply(reply)

    async def ask(self, *sent: bytes) -> list[int]:
        """Send these; the statuses of all answers once no task is left to run."""
        for data in sent:
            self.send(data)
        return statuses(await self.settle())

    def look(self, seconds: int) -> None:
        """Let so much time pass without any event."""
        for _ in range(seconds + 1):
            self.protocol._timer.cancel()
            self.protocol._check_progress()

    async def settle(self) -> bytes:
        """All bytes that the client receives once no task is left to run."""
        left = 20
        while left:
            left = 20 if self.protocol._is_due else left - 1
            await asyncio.sleep(0)
        return self.wire.sent

    async def _elsewhere(self, scope: Any, receive: Any, send: Any) -> None:
        body, more = b"", True
        while more:
            message = await receive()
            if message["type"] != "http.request":
                self.left += 1
                return
            body, more = body + message["body"], message["more_body"]
        self.passed.append((f"{scope['method']} {scope['path']}", body))
        self.headers = list(scope["headers"])
        body_sent = json.dumps([scope["path"], len(body)]).encode()
        headers = [(b"content-length", b"%d" % len(body_sent))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body_sent})


def caller(name: str) -> Caller:
    """The owner of the key of this name; `public` is of the workspace of `one`."""
    number, limits = _KEYS.index(name) % 3 + 1, "4 - - -" if name == "limited" else ""
    scopes = frozenset(["public" if name == "public" else "checkout"])
    return Caller(UUID(int=number), number, UUID(int=number), 0, "live", scopes, limits=limits)


def request(
    path: str = "/v1/coupons/lock/ABCD", body: bytes = b'{"userId":"u"}', more: str = REQUEST_ID, key: str = "one"
) -> bytes:
    head = (
        f"POST {path} HTTP/1.1\r\nHost: scrip\r\nAuthorization: Bearer {key}\r\n{more}"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode("latin-1") + body


def statuses(answers: bytes) -> list[int]:
    """The statuses of the answers; a detail may quote a part of a request."""
    return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d{3}) ", answers)]

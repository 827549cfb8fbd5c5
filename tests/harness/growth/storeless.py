"""An API process without stores and without a network: the application and the protocol are the real ones, every
script is refused with `unavailable`, and so is every use of Postgres."""

import asyncio
import hashlib
import time
from ipaddress import ip_network
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import uvicorn
from uvicorn.server import ServerState

from service.common.config import Settings
from service.common.forwarded_for import Proxies
from service.engine.domain.errors import Refusal
from service.engine.operations.caller import SCOPES, Caller
from service.server.access.keyring import Keyring, digest_session_secret
from service.server.access.user_tokens import Issuer, Tokens
from service.server.api.bulk import Bulk
from service.server.api.cors import Origins
from service.server.api.request_middleware import around
from service.server.fastlane.protocol import Protocol
from service.server.fastlane.routes import Lane
from service.serving.app import create_app

KEY, SESSION = "key", "session"


class _Away:
    """A store that is not there."""

    def __getattr__(self, name: str) -> Any:
        raise Refusal.temporary("unavailable")


class _Decider:
    """Refuses all scripts in the next turn of the event loop."""

    def start(self, partition: int, script: str, names: Any, args: Any, on_reply: Any) -> int:
        asyncio.get_running_loop().call_soon(on_reply, None)
        return 1

    def interpret(self, partition: int, epoch: int, reply: Any) -> Any:
        raise Refusal.temporary("unavailable")

    async def run(self, partition: int, script: str, names: Any, args: Any) -> Any:
        await asyncio.sleep(0)
        raise Refusal.temporary("unavailable")

    async def run_all(self, partition: int, requests: Any) -> list[Any]:
        await asyncio.sleep(0)
        return [Refusal.temporary("unavailable") for _ in requests]

    def durability(self, partition: int) -> str:
        return "fsynced"


class Storeless:
    """The process; make it within an event loop, and after `callers`."""

    def __init__(self, limits: str = "") -> None:
        settings = Settings(_env_file=None)
        keyring, one = Keyring(), UUID(int=1)
        caller = Caller(one, 1, one, 0, "live", frozenset(SCOPES), limits=limits)
        digests = (hashlib.sha256(KEY.encode()).digest(), digest_session_secret(SESSION))
        keyring.replace(dict.fromkeys(digests, caller))
        keyring.confirm(time.monotonic() + 1e6)
        keyring.tokens = Tokens([Issuer("https://id.example/", "scrip", "demo")])
        decider, away, app = _Decider(), _Away(), create_app(settings)
        app.state.context = SimpleNamespace(
            settings=settings, decider=decider, keyring=keyring, bulk=Bulk(), pool=away, hot=away, recorded=away,
            replica=away, projector=away, watch=away, deciding=away, key_messages=away,
        )  # fmt: skip
        proxies = Proxies([ip_network("192.0.2.0/24")])
        outer = around(app, proxies, Origins(["https://shop.example"]))
        self._config = uvicorn.Config(outer, loop="none", ws="none", log_config=None, interface="asgi3")
        self._config.load()
        self._lane = Lane(decider, keyring, None, proxies, answers_origins=True)  # type: ignore[arg-type]
        self.state = ServerState()
        self.state.default_headers = [(b"date", b"now")]

    async def send(self, *pieces: bytes) -> bytes:
        """Send these on a connection of their own; what is answered once nothing is left to run."""
        wire, loop = Wire(), asyncio.get_running_loop()
        protocol = Protocol(self._config, self.state, {}, loop, lane=self._lane)
        protocol.connection_made(wire)
        protocol._timer.cancel()  # under valgrind a second is short
        for piece in pieces:
            if wire.has_ended:
                break
            loop.call_soon(protocol.data_received, piece)
            await asyncio.sleep(0)
            while protocol._is_due or (self.state.tasks and not wire.is_reading()):  # noqa: ASYNC110
                await asyncio.sleep(0)
        while tasks := self.state.tasks:
            await asyncio.wait(tasks)
            await asyncio.sleep(0)
        await asyncio.sleep(0)
        protocol.connection_lost(None)
        return bytes(wire.answer)


class Wire(asyncio.Transport):
    """A transport that collects what is written."""

    def __init__(self) -> None:
        super().__init__({"peername": ("192.0.2.7", 4711), "sockname": ("192.0.2.8", 8000)})
        self.answer = bytearray()
        self.has_ended = False
        self._is_reading = True

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.answer += data

    def close(self) -> None:
        self.has_ended = True

    abort = write_eof = close

    def can_write_eof(self) -> bool:
        return True

    def is_closing(self) -> bool:
        return False

    def is_reading(self) -> bool:
        return self._is_reading

    def pause_reading(self) -> None:
        self._is_reading = False

    def resume_reading(self) -> None:
        self._is_reading = True

    def get_write_buffer_size(self) -> int:
        return 0

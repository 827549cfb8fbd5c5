"""What a hot request costs the API in Python of ours, without a network and without Redis.

64 connections (`--connections`) lock and redeem, each a request in a turn. Bytes as a client sends them go into the
protocol; the connection to Redis is the real one but for its transport, and gets replies as Redis gives them. What
uvloop and the kernel do is not in the figure. The machine may be shared: of many turns the fastest twentieth counts,
which others disturbed least. The mix is of ten clients' requests (clients.py).
`--count` adds instructions, by callgrind: they repeat.
"""

import argparse
import asyncio
import gc
import hashlib
import json
import logging
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple
from uuid import UUID

import structlog
import uvicorn
import uvloop
from uvicorn.server import ServerState

from loadtests.callgrind import InstructionCounter, require_callgrind, under_callgrind
from loadtests.figures import markdown
from loadtests.parts.clients import CLIENTS, ONE_REQUEST, request_of
from service.engine.formats.events import Redeemed, RequestPart, record_text
from service.engine.hot.connection import Connection
from service.engine.hot.decider import Decider
from service.engine.hot.link import Link
from service.engine.operations.base import Command, Reply
from service.engine.operations.caller import Caller
from service.server.access.keyring import Keyring
from service.server.fastlane import shapes
from service.server.fastlane.protocol import Protocol
from service.server.fastlane.routes import Lane

CONNECTIONS = 64
BODIES = 64
"""Different requests of each connection, one after the other."""
BOOK = "019aa0b2-6f0c-7b52-8a0e-5d1f3d1f9c11"
TOKEN = "demo_checkout"


class Sink:
    """A transport that counts what is written, and keeps the last of it."""

    def __init__(self) -> None:
        self.writes, self.last = 0, b""

    def write(self, data: bytes) -> None:
        self.writes += 1
        self.last = data

    def is_closing(self) -> bool:
        return False

    def abort(self) -> None:
        """Ignored: a late reply must not close this connection."""

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return ("127.0.0.1", 4711) if name in {"peername", "sockname"} else default

    def get_write_buffer_size(self) -> int:
        return 0


class Connected(Link):
    def __init__(self, connection: Connection) -> None:
        super().__init__("redis://unused", "bench")
        self._connection = connection


class Round(NamedTuple):
    """One request of each connection, and the replies to them. Before it, some of the connections are new."""

    requests: Sequence[bytes]
    replies: bytes
    new: Sequence[int] = ()


class Bench:
    """A server's protocols and its link, with nothing around them; call within an event loop."""

    def __init__(self, connections: int) -> None:
        self.redis = Connection()
        self.redis.connection_made(Sink())  # type: ignore[arg-type]
        decider, keyring = Decider(Connected(self.redis)), Keyring()
        decider.learn(0, 1, "nonce")
        one = UUID(int=1)
        caller = Caller(one, 1, one, 0, "live", frozenset(["checkout"]))
        keyring.replace({hashlib.sha256(TOKEN.encode()).digest(): caller})
        keyring.confirm(time.monotonic())
        config = uvicorn.Config(_elsewhere, loop="none", ws="none", log_config=None, interface="asgi3")
        config.load()
        state = ServerState()
        state.default_headers = [(b"date", b"Fri, 20 Nov 2026 09:14:00 GMT")]
        lane, loop = Lane(decider, keyring, _recall), asyncio.get_running_loop()
        self.clients = [Protocol(config, state, {}, loop, lane=lane) for _ in range(connections)]
        self.wires = [Sink() for _ in self.clients]
        for client, wire in zip(self.clients, self.wires, strict=True):
            client.connection_made(wire)  # type: ignore[arg-type]

    async def turn(self, batch: Round) -> None:
        """Have a request of each connection answered."""
        for number in batch.new:
            self.clients[number]._usual, self.clients[number]._misses = {}, 0
        for client, request in zip(self.clients, batch.requests, strict=True):
            client.data_received(request)
        await asyncio.sleep(0)
        self.redis.data_received(batch.replies)

    async def warm_up(self, turns: Sequence[Round]) -> None:
        """Have the first requests answered, so that all connections adopt their shapes. AssertionError if one fails."""
        shapes.ATTEMPTS_A_SECOND = 10**9
        for batch in turns[:6]:
            for client in self.clients:
                client._misses = 3
            await self.turn(batch)
            for wire in self.wires:
                assert wire.last.startswith(b"HTTP/1.1 201"), wire.last

    def written(self) -> int:
        """How many writes there were to clients."""
        return sum(wire.writes for wire in self.wires)


async def _recall(caller: Caller, command: Command, reply: Reply) -> Reply:
    raise AssertionError("nothing asked for facts")


async def _elsewhere(scope: Any, receive: Any, send: Any) -> None:
    raise AssertionError("the lane takes all of these")


def rounds(kind: str, connections: int) -> list[Round]:
    """Locks and redemptions in turn, with order and value; `full` with an Idempotency-Key, and a discount; `mix` of the
    clients in turn."""
    turns: list[Round] = []
    is_full = kind == "full"
    new = [number for number in range(connections) if kind == "mix" and number % len(CLIENTS) in ONE_REQUEST]
    for number in range(BODIES):
        units = range(number * connections, (number + 1) * connections)
        head = b"*%d\r\n" % connections if connections > 1 else b""  # of the one reply to a call of many requests
        replies = (b"".join(map(_locked, units)), b"".join(_redeemed(unit, is_full) for unit in units))
        for name, reply in zip(("lock", "redeem"), replies, strict=True):
            turns.append(Round([_request(name, unit, kind) for unit in units], head + reply, new))
    return turns


def _request(name: str, unit: int, kind: str) -> bytes:
    body: dict[str, Any] = {"userId": f"u-r1-{unit}", "orderId": f"o-r1-{unit}"}
    if name == "redeem":
        body |= {"orderValue": 59.9, "lockToken": f"{unit:016d}"}
    path, key = f"/v1/coupons/{name}/{_code(unit)}", f"r1-{unit}-{name}"
    if kind == "mix":
        return request_of(CLIENTS[unit % CONNECTIONS % len(CLIENTS)], path, TOKEN, key, body)
    text = json.dumps(body, separators=(",", ":"))
    field = f"Idempotency-Key: {key}\r\n" if kind == "full" else ""
    return (
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1:8000\r\nAuthorization: Bearer {TOKEN}\r\n"
        f"{field}Content-Type: application/json\r\nAccept: application/json\r\n"
        f"Content-Length: {len(text)}\r\n\r\n{text}"
    ).encode()


def _code(unit: int) -> str:
    return f"PEER-{unit:08d}"


def _locked(unit: int) -> bytes:
    return _reply(f"{BOOK} {_code(unit)} u-r1-{unit} o-r1-{unit} {unit:016d} 1795189957123 300000")


def _redeemed(unit: int, full: bool) -> bytes:
    request = RequestPart("127.0.0.1", key=f"r1-{unit}-redeem", op="redeem") if full else RequestPart("127.0.0.1")
    event = Redeemed(
        epoch=1, seq=unit, request=request, workspace=1, book=1, code=_code(unit), user=f"u-r1-{unit}",
        at_ms=1_795_189_957_123, order=f"o-r1-{unit}", value_e4=599_000, currency="USD", digits=2,
        discount_e4=119_800 if full else 0, slot=1, max_uses=1,
    )  # fmt: skip
    return _reply(f"{record_text(event)}\n{BOOK}")


def _reply(text: str) -> bytes:
    """Of a usual lock or redemption (service/engine/formats/script_replies.py)."""
    return f"${len(text)}\r\n{text}\r\n".encode()


async def measure(turns: list[Round], requests: int) -> tuple[float, float]:
    """CPU of one lock, and of one redemption, in µs."""
    connections = len(turns[0].requests)
    bench = Bench(connections)
    await bench.warm_up(turns)
    before, asked, took_s = bench.written(), 0, ([], [])
    gc.collect()
    gc.freeze()
    while asked < requests:
        for place, batch in enumerate(turns):
            began = time.process_time()
            await bench.turn(batch)
            took_s[place % 2].append(time.process_time() - began)
        asked += len(turns) * connections
    assert bench.written() - before == asked
    lock, redeem = (sorted(times)[len(times) // 20] / connections * 1e6 for times in took_s)
    return lock, redeem


async def count(turns: list[Round], counter: InstructionCounter) -> tuple[float, float]:
    """Instructions of one lock, and of one redemption."""
    connections = len(turns[0].requests)
    bench, counted = Bench(connections), []
    await bench.warm_up(turns)
    gc.collect()
    gc.freeze()
    for same in (turns[::2], turns[1::2]):
        before = await counter.read()
        for batch in same:
            await bench.turn(batch)
        counted.append((await counter.read() - before) / len(same) / connections)
    return counted[0], counted[1]


def add_options(options: argparse.ArgumentParser) -> None:
    options.add_argument("--requests", type=int, default=200_000)
    options.add_argument("--connections", type=int, default=CONNECTIONS, help="at most 64")
    options.add_argument("--count", action="store_true", help="instructions as well, by valgrind's callgrind")


def run(chosen: argparse.Namespace) -> int:
    """Print µs of CPU a request and, if asked, instructions; plain and full."""
    _print("µs of CPU", chosen.connections, partial(measure, requests=chosen.requests))
    return _run_under_callgrind(chosen.connections) if chosen.count else 0


def print_counts(out: Path, connections: int) -> None:
    """Print instructions a request. This process runs under callgrind, which writes to `out`."""
    counter = InstructionCounter(os.getpid(), out)
    _print("instructions", connections, partial(count, counter=counter))


def _print(unit: str, connections: int, figures: Callable[..., Coroutine[Any, Any, tuple[float, float]]]) -> None:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    lines: list[list[str]] = []
    for name in ("plain", "full", "mix"):
        lock, redeem = uvloop.run(figures(rounds(name, connections)))
        lines.append([name, *(f"{figure:,.2f}" for figure in (lock, redeem, (lock + redeem) / 2))])
    print(markdown([f"{unit} a request", "lock", "redeem", "mean"], lines), flush=True)


def _run_under_callgrind(connections: int) -> int:
    require_callgrind()
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out"
        code = f"from loadtests.parts.lane import Path, print_counts; print_counts(Path({str(out)!r}), {connections})"
        command = [*under_callgrind(out), sys.executable, "-c", code]
        return subprocess.run(command, check=False).returncode

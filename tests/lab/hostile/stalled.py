"""Connections that stall, and what honest buyers notice of them.

1. Ask for a while, on a few connections, as honest clients do, so many times a second, and count.
2. Stall on 2,000 connections, in every way there is; one that the server closes is opened again.
3. See what they alone cost the API; then count honest answers once more; and see that each of the others was closed in
   time.

The stalled and the honest share a machine here, whose cores they take from the API and from each other. So the honest
ask for less than would fill it; and what the stalled cost the API by themselves is judged too.
"""

import argparse
import asyncio
import contextlib
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field

import httpx

from loadtests.own import cpu_of, own_service
from loadtests.wire import Wire
from service.server.fastlane.bounded_protocol import BODY_S, CHECK_S, HEAD_S
from service.serving.server import KEEP_ALIVE_S

HONEST, EACH_S = 16, 0.004
"""Connections, and how often each asks: 4,000 requests a second at most."""
SLACK_S = CHECK_S + 2.0
_HEAD = b"POST %b HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer demo_admin\r\nContent-Type: application/json\r\n"
_HOT = _HEAD % b"/v1/coupons/lock/NO-SUCH-CODE" + b'Content-Length: 14\r\n\r\n{"userId":"u"}'
_COLD = _HEAD % b"/v1/books" + b'Content-Length: 12\r\n\r\n{"name":"n"}'
WAYS: dict[str, tuple[bytes, bytes, float]] = {
    "silent": (b"", b"", KEEP_ALIVE_S),
    "a head begun": (_HOT[:60], b"", HEAD_S),
    "a head byte by byte": (_HOT[:60], b"x", HEAD_S),
    "a hot body begun": (_HOT[:-5], b"", BODY_S),
    "another body begun": (_COLD[:-5], b"", BODY_S),
    "a body byte by byte": (_COLD.replace(b"Length: 12", b"Length: 999")[:-5], b" ", BODY_S),
    "chunks": (_COLD.replace(b"Content-Length: 12", b"Transfer-Encoding: chunked")[:-12] + b"5\r\n{", b"", BODY_S),
}
"""What is sent at once, what each second, and how long the server bears it."""


@dataclass
class Seen:
    """What became of the stalled."""

    opened: int = 0
    longest_s: dict[str, float] = field(default_factory=dict)
    late: int = 0
    unexpected: int = 0


async def _stall(port: int, way: str, until_s: float, seen: Seen) -> None:
    first, each, limit_s = WAYS[way]
    while time.monotonic() < until_s:
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            await asyncio.sleep(0.2)
            continue
        seen.opened += 1
        began_s = time.monotonic()
        writer.write(first)
        drip = asyncio.create_task(_drip(writer, each))
        answer = b""
        with contextlib.suppress(OSError):
            async with asyncio.timeout(limit_s + SLACK_S + 10):
                answer = await reader.read(-1)
        took_s = time.monotonic() - began_s
        seen.longest_s[way] = max(seen.longest_s.get(way, 0.0), took_s)
        seen.late += took_s > limit_s + SLACK_S
        seen.unexpected += not answer.startswith(b"HTTP/1.1 408 ") if first else answer != b""
        drip.cancel()
        writer.close()


async def _drip(writer: asyncio.StreamWriter, each: bytes) -> None:
    while each:
        await asyncio.sleep(1)
        writer.write(each)


async def _stall_all(port: int, connections: int, seconds: float) -> Seen:
    seen, until_s, ways = Seen(), time.monotonic() + seconds, list(WAYS)
    async with asyncio.TaskGroup() as group:
        for number in range(connections):
            group.create_task(_stall(port, ways[number % len(ways)], until_s, seen))
            if number % 100 == 99:
                await asyncio.sleep(0.05)
    return seen


def _stalling(port: int, connections: int, seconds: float) -> Seen:
    return asyncio.run(_stall_all(port, connections, seconds))


def _rate(port: int, seconds: float) -> float:
    """Honest answers a second."""
    began_s = time.monotonic()
    return asyncio.run(_honest(port, seconds)) / (time.monotonic() - began_s)


def _alone(api: int, seconds: float) -> float:
    """The part of a core that the API's process takes by itself."""
    before_s = cpu_of(api)
    time.sleep(seconds)
    return (cpu_of(api) - before_s) / seconds


async def _honest(port: int, seconds: float) -> int:
    """How many requests are answered in so many seconds."""
    until_s, answered = time.monotonic() + seconds, 0

    async def ask() -> None:
        nonlocal answered
        wire = Wire(f"http://127.0.0.1:{port}", "")
        due_s = time.monotonic()
        while due_s < until_s:
            await asyncio.sleep(due_s - time.monotonic())
            due_s = max(due_s + EACH_S, time.monotonic())
            await wire.send(_HOT)
            await wire.answer()
            answered += 1
        wire.close()

    async with asyncio.TaskGroup() as group:
        for _ in range(HONEST):
            group.create_task(ask())
    return answered


def main() -> int:
    """Measure and print. Fail if a connection closed late, or the stalled took a tenth of a core or of answers."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--connections", type=int, default=2000)
    parser.add_argument("--seconds", type=float, default=20.0, help="for each count of honest answers")
    parser.add_argument("--least", type=float, default=0.9, help="of a core, and of honest answers, that is left")
    asked = parser.parse_args()
    with own_service() as run, ProcessPoolExecutor(1) as aside:
        port, api = int(run.url.rpartition(":")[2]), run.facts["pids"]["api"][0]
        asyncio.run(_honest(port, 3))
        before = _rate(port, asked.seconds)
        stalling = aside.submit(_stalling, port, asked.connections, 2 * asked.seconds + 6)
        time.sleep(4)
        alone = _alone(api, asked.seconds)
        meanwhile = _rate(port, asked.seconds)
        seen = stalling.result(timeout=120)
        after = _rate(port, asked.seconds)
        live = httpx.get(f"{run.url}/health/live").status_code
    print(
        f"{asked.connections} stalled at a time, {seen.opened} in all: {seen.late} late, {seen.unexpected} unexpected"
    )
    for way, longest_s in sorted(seen.longest_s.items()):
        print(f"  {way}: closed after at most {longest_s:.1f} s of {WAYS[way][2]:.0f} + {SLACK_S:.0f}")
    print(f"honest answers a second: {before:.0f} before, {meanwhile:.0f} meanwhile, {after:.0f} after")
    print(f"what the stalled cost the API leaves {1 - alone:.0%} of a core to the honest")
    kept = min(1 - alone, meanwhile * 2 / (before + after))
    good = not seen.late and not seen.unexpected and live == 200 and kept >= asked.least
    return 0 if good else 1

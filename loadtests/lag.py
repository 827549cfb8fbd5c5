"""How the worker keeps up with what is redeemed, and what that costs: `python -m loadtests.lag`.

It starts a service of its own and sends its Redis the scripts that an API would. First while the worker is stopped, so
that a backlog waits for it: what it then records, and what each part spends on an event. Then at a steady rate, each
redeem after a lock: how far the record is behind. With `--against` rounds alternate between this tree's service and
another's, on the same machine in the same minutes."""

import argparse
import asyncio
import contextlib
import os
import signal
import socket
import time
from collections.abc import Iterator, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit
from uuid import uuid4

import asyncpg
import hiredis
from redis.asyncio import Redis

from loadtests.behind import Behind, longest_s
from loadtests.ground import Ground, new_codes, new_id
from loadtests.own import ROOT, cpu_s, own_service
from loadtests.wire import Barrage
from service.domain.identity import SCOPES, Caller
from service.domain.outcomes import OK
from service.hot.scripts import Scripts
from service.operations.base import Call, Command
from service.operations.lock import LockRequest, prepare_lock
from service.operations.redeem import RedeemRequest, prepare_redeem
from tests.running import Run

KEY = "demo_admin"
PATIENCE_S = 60.0
CHUNK = 500
"""Requests on their way at once."""
TICK_S = 0.01
"""How often a steady rate's requests go out."""
AT_ONCE = 20_000
"""Codes of one upload."""
AGENT = "Mozilla/5.0 (X11; Linux x86_64; rv:143.0) Gecko/20100101 Firefox/143.0"
PARTS = ("worker", "postgres", "redis")
_WORKSPACE = "SELECT workspace, workspace_id, partition FROM workspaces WHERE name = 'demo'"
_EPOCH = "SELECT epoch, nonce FROM partitions WHERE id = $1"
_RECORDED = "SELECT count(*) FROM redemptions"


class Spent(NamedTuple):
    """What a phase took: events, seconds, CPU seconds by part, and the longest that the record was behind."""

    events: int
    seconds: float
    cpu_s: dict[str, float]
    lag_s: float

    def each_us(self, part: str) -> float:
        """CPU µs an event."""
        return self.cpu_s[part] / self.events * 1e6


class Feeder:
    """One connection on which requests go out many at a time, packed before; it costs this machine next to nothing."""

    def __init__(self, redis_url: str, scripts: Scripts) -> None:
        where = urlsplit(redis_url)
        self._socket = socket.create_connection((where.hostname, where.port), timeout=PATIENCE_S)
        self._reader = hiredis.Reader()
        self._digests = scripts.digests
        self.ask([_packed("SCRIPT", "LOAD", text) for text in scripts.texts.values()])

    def packed(self, command: Command) -> bytes:
        """A run of a script as it is sent."""
        names = command.keys
        return _packed("EVALSHA", self._digests[command.script], len(names), *names, *command.args)

    def ask(self, requests: Sequence[bytes]) -> None:
        """Send all, and wait for the answers; AssertionError where something was refused."""
        self._socket.sendall(b"".join(requests))
        for _ in requests:
            while (reply := self._reader.gets()) is False:
                self._reader.feed(self._socket.recv(1 << 16))
            assert not isinstance(reply, hiredis.ReplyError), reply
            assert not isinstance(reply, list) or reply[0] == OK, reply

    def ask_steadily(self, requests: Sequence[bytes], rate: int) -> None:
        """As ask, so many a second; fewer where Redis can't take them."""
        sent, began = 0, time.monotonic()
        while sent < len(requests):
            due = min(len(requests), sent + CHUNK, int((time.monotonic() - began) * rate))
            self.ask(requests[sent:due])
            sent = due
            time.sleep(TICK_S)

    def close(self) -> None:
        """End the connection."""
        self._socket.close()


class Subject:
    """A `scrip run` of one tree, and its Redis as an API sees it."""

    def __init__(self, run: Run, keyed: int) -> None:
        self._run = run
        self._keyed = keyed

    async def open(self) -> None:
        """Connect to its servers, and load the scripts."""
        facts = self._run.facts
        self._pids: dict[str, list[int]] = facts["pids"]
        self._postgres = await asyncpg.connect(facts["databaseUrl"])
        self._redis = Redis.from_url(facts["redisUrl"])
        workspace, workspace_id, partition = await self._postgres.fetchrow(_WORKSPACE)  # type: ignore[misc]
        self._caller = Caller(uuid4(), workspace, workspace_id, partition, "live", frozenset(SCOPES))
        epoch, nonce = await self._postgres.fetchrow(_EPOCH, partition)  # type: ignore[misc]
        self._feeder = Feeder(facts["redisUrl"], Scripts(partition, epoch, nonce, ["lock", "redeem"]))
        self._behind = Behind(self._redis, self._postgres, partition)

    async def close(self) -> None:
        """End it."""
        self._feeder.close()
        await self._redis.aclose()
        await self._postgres.close()

    async def shop(self, codes: int, lock: bool) -> list[bytes]:
        """What is to be asked of so many new codes: of each its redemption, after a lock or without."""
        ground = Ground(Barrage(self._run.url, KEY), 1)
        new = new_codes(codes)
        book = await ground.book(discount={"type": "percentage", "value": 20})
        for start in range(0, codes, AT_ONCE):
            await ground.add(book, new[start : start + AT_ONCE])
        ground.barrage.close()
        return [request for number, code in enumerate(new) for request in self._asked(number, code, lock)]

    def _asked(self, number: int, code: str, lock: bool) -> list[bytes]:
        user, order = new_id(), new_id()
        keyed = self._keyed and number % self._keyed == 0
        call = Call(self._caller, *((new_id(), new_id()) if keyed else ()), ip="203.0.113.7", user_agent=AGENT)
        body = RedeemRequest(user_id=user, order_id=order, order_value=Decimal(100))
        redeem = self._feeder.packed(prepare_redeem(call, code, body))
        if not lock:
            return [redeem]
        held = prepare_lock(Call(self._caller), code, LockRequest(user_id=user, order_id=order))
        return [self._feeder.packed(held), redeem]

    async def backlog(self, asked: Sequence[bytes]) -> Spent:
        """Have all of it redeemed while the worker is stopped, and let that record it."""
        with self._stopped():
            for start in range(0, len(asked), CHUNK):
                await asyncio.to_thread(self._feeder.ask, asked[start : start + CHUNK])
            before, began = self._cpu_s(), time.monotonic()
        await self._behind.caught_up()
        return self._spent(len(asked), before, began)

    async def steady(self, asked: Sequence[bytes], rate: int) -> Spent:
        """Have so many a second of it redeemed, each after its lock, and watch the record."""
        before, began = self._cpu_s(), time.monotonic()
        async with self._behind.watched() as lags:
            await asyncio.to_thread(self._feeder.ask_steadily, asked, rate * 2)
        return self._spent(len(asked) // 2, before, began, longest_s(lags))

    async def check(self, redemptions: int) -> None:
        """AssertionError where the record doesn't have as many."""
        recorded = await self._postgres.fetchval(_RECORDED)
        assert recorded == redemptions, f"{recorded} recorded of {redemptions}"

    @contextlib.contextmanager
    def _stopped(self) -> Iterator[None]:
        for pid in self._pids["worker"]:
            os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            for pid in self._pids["worker"]:
                os.kill(pid, signal.SIGCONT)

    def _cpu_s(self) -> dict[str, float]:
        return {part: sum(cpu_s(pid) for pid in self._pids[part]) for part in PARTS}

    def _spent(self, events: int, before: dict[str, float], began: float, lag_s: float = 0.0) -> Spent:
        seconds, after = time.monotonic() - began, self._cpu_s()
        return Spent(events, seconds, {part: after[part] - before[part] for part in PARTS}, lag_s or seconds)


def _packed(*words: Any) -> bytes:
    return hiredis.pack_command(words)


def _line(name: str, phase: str, spent: Spent) -> str:
    # While it is fed, Redis's time is the scripts'.
    redis = f"{spent.each_us('redis'):.1f}" if phase == "backlog" else ""
    cells = [
        name,
        phase,
        f"{spent.events / spent.seconds:,.0f}",
        *(f"{spent.each_us(p):.1f}" for p in PARTS[:2]),
        redis,
    ]
    return f"| {' | '.join([*cells, f'{spent.lag_s:.2f}', f'{os.getloadavg()[0]:.1f}'])} |"


async def measure(tree: Path, name: str, events: int, rate: int, seconds: int, keyed: int) -> None:
    """One round on one tree."""
    with own_service(tree) as run:
        subject = Subject(run, keyed)
        await subject.open()
        asked = await subject.shop(events, lock=False)
        print(_line(name, "backlog", await subject.backlog(asked)), flush=True)
        asked = await subject.shop(rate * seconds, lock=True)
        print(_line(name, f"{rate:,} a second", await subject.steady(asked, rate)), flush=True)
        await subject.check(events + rate * seconds)
        await subject.close()


def main() -> None:
    """The command."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--events", type=int, default=200_000, help="of the backlog")
    options.add_argument("--rate", type=int, default=8_000, help="redemptions a second, each after a lock")
    options.add_argument("--seconds", type=int, default=10, help="for so long")
    options.add_argument(
        "--keyed", type=int, default=1, metavar="N", help="every Nth has an Idempotency-Key; 0 for none"
    )
    options.add_argument("--against", type=Path, help="another checkout, to compare with")
    options.add_argument("--rounds", type=int, default=1)
    chosen = options.parse_args()
    print("| service | events | recorded/s | worker µs | Postgres µs | Redis µs | lag s | load |", flush=True)
    print("|---|---|---|---|---|---|---|---|", flush=True)
    trees = [("other", chosen.against)] if chosen.against else []
    for _ in range(chosen.rounds):
        for name, tree in [*trees, ("this", ROOT)]:
            asyncio.run(measure(tree, name, chosen.events, chosen.rate, chosen.seconds, chosen.keyed))


if __name__ == "__main__":
    main()

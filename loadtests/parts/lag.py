"""How the worker keeps up with what is redeemed, and what that costs.

A service of its own, whose Redis is sent the scripts that an API would send. First while the worker is stopped, so that
a backlog waits for it: what it then records, and what each part spends on an event. Then at a steady rate, each redeem
after a lock: how far the record is behind (Redis's time then is the scripts', and isn't shown)."""

import argparse
import asyncio
import os
import socket
import time
from collections.abc import Iterator, Sequence
from decimal import Decimal
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import hiredis

from loadtests.figures import Row, say, table
from loadtests.ground import new_codes, new_id
from loadtests.own import Meter, own_service
from loadtests.subject import Subject, opened
from service.access.caller import SCOPES, Caller
from service.domain.outcomes import OK
from service.hot.scripts import Scripts
from service.operations.base import Call, Command
from service.operations.lock import LockRequest, prepare_lock
from service.operations.redeem import RedeemRequest, prepare_redeem

PATIENCE_S = 60.0
CHUNK = 500
"""Requests on their way at once."""
TICK_S = 0.01
"""How often a steady rate's requests go out."""
AGENT = "Mozilla/5.0 (X11; Linux x86_64; rv:143.0) Gecko/20100101 Firefox/143.0"
RECORDING = ("worker", "postgres")
"""Whose CPU is the recording's."""
_WORKSPACE = """
SELECT workspace, workspace_id, partition, epoch, nonce FROM workspaces JOIN partitions ON id = partition
WHERE name = 'demo'
"""


class Feeder:
    """One connection on which requests go out many at a time, packed before; it costs this machine next to nothing."""

    def __init__(self, redis_url: str, scripts: Scripts) -> None:
        where = urlsplit(redis_url)
        self._socket = socket.create_connection((where.hostname, where.port), timeout=PATIENCE_S)
        self._reader = hiredis.Reader()
        self._scripts = scripts
        self.ask([_packed("SCRIPT", "LOAD", text) for text in scripts.texts.values()])

    def packed(self, command: Command) -> bytes:
        """A run of a script as it is sent."""
        return _packed(*self._scripts.call(command.script, command.keys, command.args))

    def ask(self, requests: Sequence[bytes], rate: int = 0) -> None:
        """Send all and wait for the answers; so many a second where a rate is given, fewer where Redis can't take them.
        AssertionError where something was refused."""
        sent, began = 0, time.monotonic()
        while sent < len(requests):
            due = min(len(requests), sent + CHUNK)
            if rate:
                time.sleep(TICK_S)
                due = min(due, int((time.monotonic() - began) * rate))
            self._ask_at_once(requests[sent:due])
            sent = due

    def _ask_at_once(self, requests: Sequence[bytes]) -> None:
        self._socket.sendall(b"".join(requests))
        for _ in requests:
            while (reply := self._reader.gets()) is False:
                self._reader.feed(self._socket.recv(1 << 16))
            assert not isinstance(reply, hiredis.ReplyError), reply
            assert not isinstance(reply, list) or reply[0] == OK, reply

    def close(self) -> None:
        """End the connection."""
        self._socket.close()


def _packed(*words: Any) -> bytes:
    return hiredis.pack_command(words)


class Recorded:
    """A service, and its Redis as an API sees it."""

    def __init__(self, subject: Subject, keyed: int) -> None:
        self._subject, self._keyed = subject, keyed
        self.rows: list[Row] = []

    async def go(self, events: int, rate: int, seconds: int) -> None:
        """The backlog, the steady rate, and whether all was recorded."""
        postgres, facts = self._subject.postgres, self._subject.run.facts
        workspace, workspace_id, partition, epoch, nonce = await postgres.fetchrow(_WORKSPACE)  # type: ignore[misc]
        self._caller = Caller(uuid4(), workspace, workspace_id, partition, "live", frozenset(SCOPES))
        self._feeder = Feeder(facts["redisUrl"], Scripts(partition, epoch, nonce, ["lock", "redeem"]))
        await self._backlog(await self._asked(events, lock=False))
        await self._steady(await self._asked(rate * seconds, lock=True), rate)
        self._feeder.close()
        recorded = await postgres.fetchval("SELECT count(*) FROM redemptions")
        assert recorded == events + rate * seconds, f"{recorded} recorded of {events} and {rate * seconds}"

    async def _asked(self, codes: int, lock: bool) -> list[bytes]:
        """What is to be asked of so many new codes: of each its redemption, after a lock or without."""
        ground, new = self._subject.ground, new_codes(codes)
        await ground.book(new, discount={"type": "percentage", "value": 20})
        return [request for number, code in enumerate(new) for request in self._packed(number, code, lock)]

    def _packed(self, number: int, code: str, lock: bool) -> Iterator[bytes]:
        user, order = new_id(), new_id()
        if lock:
            request = LockRequest(user_id=user, order_id=order)
            yield self._feeder.packed(prepare_lock(Call(self._caller), code, request))
        keyed = self._keyed and number % self._keyed == 0
        call = Call(self._caller, *((new_id(), new_id()) if keyed else ()), ip="203.0.113.7", user_agent=AGENT)
        request = RedeemRequest(user_id=user, order_id=order, order_value=Decimal(100))
        yield self._feeder.packed(prepare_redeem(call, code, request))

    async def _backlog(self, asked: Sequence[bytes]) -> None:
        """Have all of it redeemed while the worker is stopped, and let that record it."""
        with self._subject.run.asleep("worker"):
            await asyncio.to_thread(self._feeder.ask, asked)
            meter, began = Meter(self._subject.run), time.monotonic()
        await self._subject.behind.caught_up()
        seconds = time.monotonic() - began
        self._add("backlog", len(asked), seconds, meter.spent_s(), seconds)

    async def _steady(self, asked: Sequence[bytes], rate: int) -> None:
        """Have so many a second of it redeemed, each after its lock, and watch the record."""
        meter, began = Meter(self._subject.run), time.monotonic()
        async with self._subject.behind.watched() as lags:
            await asyncio.to_thread(self._feeder.ask, asked, rate * 2)
        seconds = time.monotonic() - began
        self._add(f"{rate:,} a second", len(asked) // 2, seconds, meter.spent_s(), max(lags, default=0.0), RECORDING)

    def _add(
        self, phase: str, events: int, seconds: float, cpu_s: dict[str, float], lag_s: float,
        parts: Sequence[str] = (*RECORDING, "redis"),
    ) -> None:  # fmt: skip
        row = Row(
            part="lag",
            what=phase,
            unit="events",
            a_second=events / seconds,
            codes=events,
            request_us={part: cpu_s[part] / events * 1e6 for part in parts},
            lag_s=lag_s,
            machine_load=os.getloadavg()[0],
        )
        self.rows.append(row)
        say(f"{row.what}: {row.a_second:,.0f} a second, {lag_s:.2f} s behind")


async def measure(chosen: argparse.Namespace) -> list[Row]:
    """The rows."""
    with own_service() as run:
        async with opened(run) as subject:
            recorded = Recorded(subject, chosen.keyed)
            await recorded.go(chosen.events, chosen.rate, chosen.seconds)
            return recorded.rows


def add_options(options: argparse.ArgumentParser) -> None:
    """How much."""
    options.add_argument("--events", type=int, default=200_000, help="of the backlog")
    options.add_argument("--rate", type=int, default=8_000, help="redemptions a second, each after a lock")
    options.add_argument("--seconds", type=int, default=10, help="for so long")
    options.add_argument("--keyed", type=int, default=1, metavar="N", help="every Nth has an Idempotency-Key; 0: none")


def run(chosen: argparse.Namespace) -> None:
    """Print the table."""
    print(table(asyncio.run(measure(chosen))))

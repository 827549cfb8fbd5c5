"""The replica's confirmation, on real servers (docs/decisions/0047)."""

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from service.hot import fencing
from service.hot.connection import Connection, connect
from service.hot.fencing import Confirmed, choose_nonce
from service.hot.fitness import ask_replication
from service.hot.replica_poll import ask_replica
from tests.conftest import require
from tests.faults.nodes import Node, wait_until
from tests.harness.servers import VALKEY
from tests.waiting import elapse


class Pair:
    """A primary and its only replica."""

    def __init__(self, primary: Node, replica: Node, connection: Connection) -> None:
        self.primary, self.replica, self.connection = primary, replica, connection
        self.confirmed: Confirmed

    async def open(self) -> None:
        server = await ask_replication(self.connection.call)
        self.confirmed = Confirmed(choose_nonce("one", "lag", server), time.monotonic())
        assert self.confirmed.nonce.fencing == "lag"

    async def is_confirmed(self) -> bool:
        """Whether the replica confirms the epoch now, if no confirmation is too old."""
        sent_at = time.monotonic()
        sent, server = await ask_replica(self.connection)
        before = self.confirmed._replace(at=sent_at - 0.001)
        return before.by_replica(sent_at, sent_at, sent, server).at == sent_at


@pytest_asyncio.fixture(params=["valkey-server", "redis-server"])
async def pair(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Pair]:
    binary = VALKEY if request.param == "valkey-server" else Path(require(request.param))
    primary, replica = (Node(binary, tmp_path / name, "nothing", None) for name in "ab")
    connection: Connection | None = None
    try:
        for node in (primary, replica):
            await node.link.start()
            await node.start()
        await replica.follow(primary)
        connection = await connect(f"redis://127.0.0.1:{primary.port}/0", "tests")
        one = Pair(primary, replica, connection)
        await wait_until(one_is_online(one), "an online replica")
        await one.open()
        yield one
    finally:
        for node in (primary, replica):
            if node.runs:
                node.signal(signal.SIGCONT)
            await node.close()
        if connection:
            connection.close()


def one_is_online(pair: Pair):
    async def is_online() -> bool:
        return fencing.only_replica(await ask_replication(pair.connection.call)) != ""

    return is_online


async def test_a_replica_confirms_while_it_follows(pair: Pair) -> None:
    """A replica that follows confirms; one that hangs does not, and does again when it goes on. A promoted one does
    not, even if acknowledgements wait in the socket of a primary that was stopped meanwhile."""
    await wait_until(pair.is_confirmed, "a confirmation")
    pair.replica.signal(signal.SIGSTOP)
    assert not await pair.is_confirmed()
    pair.replica.signal(signal.SIGCONT)
    await wait_until(pair.is_confirmed, "the replica")

    assert pair.primary.process
    os.kill(pair.primary.process.pid, signal.SIGSTOP)
    await elapse(1.5, "acknowledgements come once a second")
    await pair.replica.lead()
    asking = asyncio.ensure_future(pair.is_confirmed())
    await wait_until(lambda: pair.connection.waiting, "a question in the primary's socket")
    os.kill(pair.primary.process.pid, signal.SIGCONT)
    assert not await asking
    assert not await pair.is_confirmed()


async def test_a_second_replica_ends_the_confirmations(pair: Pair, tmp_path: Path) -> None:
    """Beside a second replica, and after it has gone, the first one confirms nothing in this epoch."""
    binary = pair.primary._binary
    second = Node(binary, tmp_path / "c", "nothing", None)
    try:
        await second.link.start()
        await second.start()
        await second.follow(pair.primary)
        now = time.monotonic()
        confirmed = pair.confirmed._replace(at=now - 0.001)
        seen = confirmed.by_replica(now, now, *await ask_replica(pair.connection))
        assert (seen.at, seen.had_other_replica) == (confirmed.at, True)
    finally:
        await second.close()
    pair.confirmed = seen
    await wait_until(one_is_online(pair), "the first replica alone")
    assert not await pair.is_confirmed()

"""The supervisor of several API processes, with small stand-ins: how it distributes connections and restarts."""

import asyncio
import contextlib
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from service.serving import supervisor
from service.serving.supervisor import Processes, bind_sockets
from tests.waiting import PATIENCE_S, cancel, wait_until

_STAND_IN = """#!{python}
import os, pathlib, signal, socket, sys
words = dict(zip(sys.argv[4::2], sys.argv[5::2]))
here = pathlib.Path({folder!r})
with (here / "starts").open("a") as starts:
    starts.write(words["--block"] + "\\n")
if (here / "broken").exists():
    sys.exit(1)
channel = socket.socket(fileno=int(words["--channel"]))
signal.signal(signal.SIGTERM, lambda *_: channel.shutdown(socket.SHUT_WR))
channel.send(b"s" if (here / "slow").exists() else b"sr")
held = []
while True:
    data, descriptors, _, _ = socket.recv_fds(channel, 1, 1)
    if not data:
        break
    held += [socket.socket(fileno=descriptor) for descriptor in descriptors]
    held[-1].send(b"%d\\n" % os.getpid())
"""
"""A process that answers each connection with its pid, and holds it."""


class Site:
    """An address with its processes."""

    def __init__(self, running: Processes, again: asyncio.Event, port: int, folder: Path) -> None:
        self.processes, self.again, self.folder = running, again, folder
        self._port = port

    @property
    def pids(self) -> list[int]:
        return [process.child.pid for process in self.processes.all if process.child.pid]

    async def connect(self) -> int:
        """Open a connection, which stays open; return the pid that answers."""
        reader, _ = await asyncio.open_connection("127.0.0.1", self._port)
        async with asyncio.timeout(PATIENCE_S):
            return int(await reader.readline())

    @property
    def starts(self) -> int:
        """The number of starts so far."""
        return len((self.folder / "starts").read_text().split())


@pytest.fixture
async def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Site]:
    stand_in = tmp_path / "stand-in"
    stand_in.write_text(_STAND_IN.format(python=sys.executable, folder=str(tmp_path)))
    stand_in.chmod(0o700)
    monkeypatch.setattr(supervisor.sys, "executable", str(stand_in))
    with bind_sockets("127.0.0.1", 0) as listeners:
        again = asyncio.Event()
        running = Processes(2, listeners, None)
        working = asyncio.create_task(running.run(again))
        site = Site(running, again, listeners[0].getsockname()[1], tmp_path)
        try:
            await wait_until(lambda: listeners[0].getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))
            yield site
        finally:
            await cancel(working)
            await running.stop()


async def test_even(site: Site) -> None:
    """Of 64 connections at once each of two processes gets 32."""
    answered = await asyncio.gather(*(site.connect() for _ in range(64)))
    assert sorted(map(answered.count, site.pids)) == [32, 32]


async def test_the_emptier_one_first(site: Site) -> None:
    """A new process gets all connections until it has as many as the other."""
    await asyncio.gather(*(site.connect() for _ in range(20)))
    killed, other = site.pids
    os.kill(killed, signal.SIGKILL)
    await wait_until(lambda: len(site.pids) == 2 and killed not in site.pids and _count_ready(site) == 2)
    answered = [await site.connect() for _ in range(10)]
    assert answered.count(other) == 0


async def test_a_replacement_that_fails(site: Site) -> None:
    """While new processes fail to start, the old ones serve, until a later try succeeds."""
    old = site.pids
    (site.folder / "broken").touch()
    site.again.set()
    await wait_until(lambda: site.starts == 3 and len(site.processes.all) == 2)
    assert site.pids == old
    assert {await site.connect() for _ in range(4)} == set(old)

    (site.folder / "broken").unlink()
    site.again.set()
    await wait_until(lambda: len(site.pids) == 2 and not {*old} & {*site.pids})
    assert {await site.connect() for _ in range(4)} == set(site.pids)


async def test_a_process_that_is_not_ready(site: Site) -> None:
    """A process that is not ready gets no connection while another is."""
    (site.folder / "slow").touch()
    killed, other = site.pids
    os.kill(killed, signal.SIGKILL)
    await wait_until(lambda: killed not in site.pids and all(process.is_started for process in site.processes.all))
    assert {await site.connect() for _ in range(6)} == {other}


async def test_all_are_killed(site: Site) -> None:
    """Connections wait while there is no process, and go to the next one."""
    (site.folder / "broken").touch()
    killed = site.pids
    for pid in killed:
        os.kill(pid, signal.SIGKILL)
    await wait_until(lambda: not site.pids)
    waiting = [asyncio.create_task(site.connect()) for _ in range(5)]
    await wait_until(lambda: site.processes.waiting)
    (site.folder / "broken").unlink()
    assert not set(await asyncio.gather(*waiting)) & set(killed)


async def test_one_gets_sigterm(site: Site) -> None:
    """A process with SIGTERM gets no more connections, answers those it has, and is replaced."""
    connections = [asyncio.create_task(site.connect()) for _ in range(30)]
    ended, other = site.pids
    os.kill(ended, signal.SIGTERM)
    assert set(await asyncio.gather(*connections)) <= {ended, other}
    await wait_until(lambda: ended not in site.pids and _count_ready(site) == 2)


def _count_ready(site: Site) -> int:
    return sum(process.ready.is_set() for process in site.processes.all)


def test_an_address_in_use() -> None:
    """An address in use is a StartError that names the port, before any process starts."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(supervisor.StartError, match=str(port)), contextlib.ExitStack() as stack:
            stack.enter_context(bind_sockets("127.0.0.1", port))

"""Several API processes on one address: what starts them, hands them connections, and replaces them."""

import asyncio
import contextlib
import json
import os
import signal
import socket
import sys
import tempfile
from collections import deque
from collections.abc import Iterable, Iterator

import structlog

from service.common import logs
from service.common.child_processes import ChildProcess, StartError
from service.common.config import Settings
from service.common.tally import OPEN, PID, Tally

STARTED, READY, TAKEN, LEAVING = b"s", b"r", b"t", b"l"
"""What a process says: it takes connections; once, it can decide what they ask; it has taken one; it takes those that
are in the channel and no more."""
BACKLOG = 2048
"""Connections that wait in the kernel while no process takes any."""
_ACCEPTS = 64
"""In one turn of the loop."""
_HEARS_BYTES = 4096
_RETRY_S = 0.02
"""While no process takes anything."""
_FULL_S = 1.0
"""While the system gives no connection."""
_READY_S = 30.0
"""For a new process to be able to decide; after that the old one is kept."""

_log = structlog.get_logger(__name__)


def supervise(settings: Settings, tell_fd: int | None) -> None:
    """Serve with several processes until SIGTERM or SIGINT. Raises StartError where the address can't be used."""
    logs.configure(settings, "api supervisor")
    asyncio.run(_supervise(settings, tell_fd))


async def _supervise(settings: Settings, tell_fd: int | None) -> None:
    stop, again = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGHUP, again.set)
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    with bound(settings.host, settings.port) as listeners:
        processes = Processes(settings.api_processes, listeners, tell_fd)
        working = asyncio.create_task(processes.run(again))
        stopping = asyncio.create_task(stop.wait())
        await asyncio.wait({working, stopping}, return_when=asyncio.FIRST_COMPLETED)
        working.cancel()
        ended, _ = await asyncio.gather(working, processes.stop(), return_exceptions=True)
        stopping.cancel()
        if isinstance(ended, Exception):
            raise ended


class Process:
    """One of the processes, and the channel through which it is handed connections.

    It is started anew whenever it ends, as any ChildProcess. When it wants to end it says so and closes its half of the
    channel; it is handed nothing from then on, and takes what is still in the channel before it drains. What it was
    handed is kept until it has taken it: if it dies before, another gets that.
    """

    def __init__(self, processes: "Processes", block: int) -> None:
        self._processes, self.block = processes, block
        self._cells = processes.tally.blocks[block]
        self._channel: socket.socket | None = None
        self._theirs: socket.socket | None = None
        self._given: deque[socket.socket] = deque()
        """Connections that it hasn't taken yet."""
        self.given_at = 0
        self.started = False
        self.settled, self.ready = asyncio.Event(), asyncio.Event()
        """It has started, or failed to, once; it can decide."""
        env = os.environ | {"SCRIP_API_PROCESSES": str(processes.number)}
        self.part = ChildProcess("api", [], env, before_start=self._before, on_change=self._changed)
        self.part.orphan_signal = signal.SIGTERM

    @property
    def load(self) -> int:
        """Connections that it has, or that are on their way to it."""
        return self._cells[OPEN] + len(self._given)

    def give(self, connection: socket.socket) -> bool:
        """Hand it a connection, and close that here once it is taken; False where it takes none now."""
        try:
            if self._channel is None:
                return False
            socket.send_fds(self._channel, [b"c"], [connection.fileno()])
        except OSError:  # it is stuck, so that the channel is full, or has just died
            return False
        self._given.append(connection)
        self.given_at = self._processes.turn()
        return True

    async def until_ready(self) -> bool:
        """Whether it can decide, soon; False also where it ended."""
        waits = [asyncio.create_task(wait) for wait in (self.ready.wait(), self.part.wait())]
        await asyncio.wait(waits, timeout=_READY_S, return_when=asyncio.FIRST_COMPLETED)
        for wait in waits:
            wait.cancel()
        return self.ready.is_set()

    async def stop(self) -> None:
        """Let it answer what it has, and end."""
        await self.part.stop()
        self._changed()

    def _before(self) -> None:
        """A channel of its own for each start: what was in another's is another's."""
        self._close()
        self._channel, self._theirs = socket.socketpair()
        self._channel.setblocking(False)
        self._cells[OPEN] = 0
        tally, channel = str(self._processes.tally_file.fileno()), str(self._theirs.fileno())
        options = {"--channel": channel, "--tally": tally, "--block": str(self.block)}
        words = [word for option in options.items() for word in option]
        self.part.argv = [sys.executable, "-m", "service", "api-process", *words]
        self.part.more_fds = (int(tally), int(channel))

    def _changed(self) -> None:
        if self.part.pid is None:
            self._close()
            self._cells[OPEN] = 0
            self.settled.set()
        elif self._channel is not None and self._theirs is not None:
            self._theirs.close()
            self._theirs = None
            asyncio.get_running_loop().add_reader(self._channel, self._hear)
        self._cells[PID] = self.part.pid or 0
        self._processes.tell()

    def _hear(self) -> None:
        said = self._said()
        if said is None:
            return
        if not said or LEAVING in said:
            self._close()
        else:
            self.started = True
            self.settled.set()
            if READY in said:
                self.ready.set()

    def _said(self) -> bytes | None:
        """What it has said since it was heard last; empty where it can say no more."""
        try:
            said = self._channel.recv(_HEARS_BYTES) if self._channel is not None else b""
        except BlockingIOError:
            return None
        except OSError:
            return b""
        taken = len(self._given) if LEAVING in said else said.count(TAKEN)
        for _ in range(taken):
            self._given.popleft().close()
        return said

    def _close(self) -> None:
        while self._said():
            pass
        self.started = False
        self.ready.clear()
        if self._channel is not None:
            asyncio.get_running_loop().remove_reader(self._channel)
            self._channel.close()
        if self._theirs is not None:
            self._theirs.close()
        self._channel = self._theirs = None
        self._processes.hand_on(self._given)
        self._given.clear()


class Processes:
    """All of the processes.

    1. Start them, and listen once each has started or failed to.
    2. Accept, and hand each connection to the process that has the fewest, of those that can decide.
    3. Asked to, replace one after the other: start a new one, wait until it can decide, let the old one drain.
    4. At the end hand on what has connected, stop listening, and let all of them drain at the same time.
    """

    def __init__(self, number: int, listeners: list[socket.socket], tell_fd: int | None) -> None:
        self.number = number
        self._listeners, self._tell_fd = listeners, tell_fd
        blocks = number + 1  # one more lives while another is replaced
        self.tally_file = tempfile.TemporaryFile()  # noqa: SIM115 - open as long as this process lives
        self.tally_file.truncate(Tally.size_bytes(blocks))
        self.tally = Tally(blocks, fd=self.tally_file.fileno())
        self._turns = 0
        self.held: deque[socket.socket] = deque()
        """Connections that no process takes now."""
        self.all = [Process(self, block) for block in range(number)]

    async def run(self, again: asyncio.Event) -> None:
        """Serve until cancelled; replace all processes whenever `again` is set. Raises OSError where none starts."""
        for process in self.all:
            await process.part.start()
            process.part.watch()
        for process in self.all:
            await process.settled.wait()
        for listener in self._listeners:
            listener.listen(BACKLOG)
        self._resume()
        _log.info("listening", processes=self.number)
        while True:
            await again.wait()
            again.clear()
            await self._replace_all()

    async def stop(self) -> None:
        """Stop listening, and end all processes."""
        loop = asyncio.get_running_loop()
        for listener in self._listeners:
            loop.remove_reader(listener)
            for _ in range(BACKLOG // _ACCEPTS):
                if not self._accept(listener):
                    break
            listener.close()
        await asyncio.gather(*(process.stop() for process in self.all))
        while self.held:
            self.held.popleft().close()

    def turn(self) -> int:
        """A number that grows."""
        self._turns += 1
        return self._turns

    def hand_on(self, connections: Iterable[socket.socket]) -> None:
        """Hand these to other processes than the one that died before it took them."""
        waiting, before = list(connections), len(self.held)
        self.held.extend(waiting)
        if waiting and not before:
            self._pause(0.0)

    def tell(self) -> None:
        """Say which processes live, where somebody asked for it: a line of JSON."""
        if self._tell_fd is not None:
            pids = [process.part.pid for process in self.all if process.part.pid is not None]
            os.write(self._tell_fd, json.dumps(pids).encode() + b"\n")

    async def _replace_all(self) -> None:
        for old in list(self.all):
            free = set(range(self.number + 1)) - {process.block for process in self.all}
            new = Process(self, free.pop())
            self.all.append(new)
            leaving = new
            try:
                await new.part.start()
                if await new.until_ready():
                    new.part.watch()
                    leaving = old
                else:
                    _log.error("not replaced, since the new process is not ready", pid=old.part.pid)
            except OSError as error:
                _log.error("not replaced, since no process can be started", error=str(error))
            finally:
                await leaving.stop()
                self.all.remove(leaving)
                self.tell()
            if leaving is new:
                return
        _log.info("replaced", processes=self.number)

    def _resume(self) -> None:
        loop = asyncio.get_running_loop()
        while self.held:
            if not self._give(self.held[0]):
                loop.call_later(_RETRY_S, self._resume)
                return
            self.held.popleft()
        for listener in self._listeners:
            if listener.fileno() >= 0:
                loop.add_reader(listener, self._accept, listener)

    def _pause(self, seconds: float = _RETRY_S) -> None:
        loop = asyncio.get_running_loop()
        for listener in self._listeners:
            loop.remove_reader(listener)
        loop.call_later(seconds, self._resume)

    def _accept(self, listener: socket.socket) -> bool:
        """Hand on some connections; whether there may be more."""
        for _ in range(_ACCEPTS):
            try:
                connection, _ = listener.accept()
            except BlockingIOError:
                return False
            except ConnectionAbortedError:
                continue
            except OSError as error:
                _log.error("can't accept", error=str(error))
                self._pause(_FULL_S)
                return False
            if not self._give(connection):
                self.held.append(connection)
                self._pause()
                return False
        return True

    def _give(self, connection: socket.socket) -> bool:
        started = [process for process in self.all if process.started]
        able = [process for process in started if process.ready.is_set()] or started
        able.sort(key=lambda process: (process.load, process.given_at))
        return any(process.give(connection) for process in able)


@contextlib.contextmanager
def bound(host: str, port: int) -> Iterator[list[socket.socket]]:
    """Sockets on all of the host's addresses, which don't listen yet. Raises StartError where one can't be used."""
    with contextlib.ExitStack() as stack:
        found: list[socket.socket] = []
        try:
            for family, kind, protocol, _, address in socket.getaddrinfo(
                host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            ):
                listener = stack.enter_context(socket.socket(family, kind, protocol))
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                if family == socket.AF_INET6:
                    listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                listener.bind(address)
                listener.setblocking(False)
                found.append(listener)
        except OSError as error:
            raise StartError(f"{host}:{port} can't be used: {error.strerror}.") from error
        yield found

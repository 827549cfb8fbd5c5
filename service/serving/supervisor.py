"""The supervisor of several API processes: it starts and replaces them, and hands them connections."""

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
from service.common.tally import IN_FLIGHT, OPEN, PID, Tally

STARTED, READY, TAKEN, LEAVING = b"s", b"r", b"t", b"l"
"""Messages from a process. STARTED: it accepts connections. READY: it can decide requests; sent once. TAKEN: it has
received one connection. LEAVING: it receives the connections in the channel and no more."""
BACKLOG = 2048
"""Connections that the kernel queues while no process accepts any."""
_MAX_ACCEPTS_PER_TURN = 64
"""Connections accepted in one turn of the event loop."""
_RECEIVE_BYTES = 4096
_RETRY_S = 0.02
"""Pause while no process accepts a connection."""
_ACCEPT_ERROR_PAUSE_S = 1.0
"""Pause after accept() has failed, for example for lack of file descriptors."""
_READY_TIMEOUT_S = 30.0
"""Time for a new process to become ready; after it, the old process stays."""

_log = structlog.get_logger(__name__)


def supervise(settings: Settings, tell_fd: int | None) -> None:
    """Serve with several processes until SIGTERM or SIGINT.

    After each change, the pids of the processes are written to `tell_fd` as a line of JSON. Raises StartError if the
    address can't be used.
    """
    logs.configure(settings, "api supervisor")
    asyncio.run(_supervise(settings, tell_fd))


async def _supervise(settings: Settings, tell_fd: int | None) -> None:
    stop, replace = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGHUP, replace.set)
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    with bind_sockets(settings.host, settings.port) as listeners:
        processes = Processes(settings.api_processes, listeners, tell_fd, embedded=settings.embedded)
        working = asyncio.create_task(processes.run(replace))
        stopping = asyncio.create_task(stop.wait())
        await asyncio.wait({working, stopping}, return_when=asyncio.FIRST_COMPLETED)
        working.cancel()
        ended, _ = await asyncio.gather(working, processes.stop(), return_exceptions=True)
        stopping.cancel()
        if isinstance(ended, Exception):
            raise ended


class Process:
    """One API process, and the channel through which it receives connections.

    1. The process is restarted whenever it ends, like every ChildProcess.
    2. `give` sends it a connection. The supervisor keeps its own copy until the process sends TAKEN; if the process
       dies before that, another process gets the connection.
    3. Before it ends, it sends LEAVING and closes its half of the channel. From then on it gets no new connection; it
       receives what is still in the channel, then drains.
    """

    def __init__(self, processes: "Processes", block: int) -> None:
        self._processes, self.block = processes, block
        self._cells = processes.tally.blocks[block]
        self._channel: socket.socket | None = None
        self._child_end: socket.socket | None = None
        self._unconfirmed: deque[socket.socket] = deque()
        """Connections without a TAKEN yet, oldest first."""
        self.given_at = 0
        """Turn of the last `give`, see Processes.next_turn."""
        self.is_started = False
        self.first_start_ended, self.ready = asyncio.Event(), asyncio.Event()
        """`first_start_ended`: the first start has succeeded or failed. `ready`: the process can decide requests."""
        env = os.environ | {"SCRIP_API_PROCESSES": str(processes.number)}
        self.child = ChildProcess("api", [], env, before_start=self._open_channel, on_change=self._update_state)
        self.child.orphan_signal = signal.SIGTERM

    @property
    def load(self) -> int:
        """The number of connections that the process has or that are on their way to it."""
        return self._cells[OPEN] + len(self._unconfirmed)

    def give(self, connection: socket.socket) -> bool:
        """Send a connection to the process; the copy here is closed at TAKEN. False: the process accepts none now."""
        try:
            if self._channel is None:
                return False
            socket.send_fds(self._channel, [b"c"], [connection.fileno()])
        except OSError:  # the process has died, or hangs and the channel is full
            return False
        self._unconfirmed.append(connection)
        self.given_at = self._processes.next_turn()
        return True

    async def wait_until_ready(self) -> bool:
        """Wait until the process is ready. Returns False at the timeout, or if the process ends first."""
        waits = [asyncio.create_task(wait) for wait in (self.ready.wait(), self.child.wait())]
        await asyncio.wait(waits, timeout=_READY_TIMEOUT_S, return_when=asyncio.FIRST_COMPLETED)
        for wait in waits:
            wait.cancel()
        return self.ready.is_set()

    async def stop(self) -> None:
        """Let the process finish its requests, and end it."""
        await self.child.stop()
        self._update_state()

    def _open_channel(self) -> None:
        """Open a new channel for each start; the connections in the old one go to other processes."""
        self._close_channel()
        self._channel, self._child_end = socket.socketpair()
        self._channel.setblocking(False)
        self._cells[OPEN] = 0
        tally, channel = str(self._processes.tally_file.fileno()), str(self._child_end.fileno())
        options = {"--channel": channel, "--tally": tally, "--block": str(self.block)}
        arguments = [text for option in options.items() for text in option]
        if self._processes.embedded:
            arguments.append("--embedded")
        self.child.argv = [sys.executable, "-m", "service", "api-process", *arguments]
        self.child.more_fds = (int(tally), int(channel))

    def _update_state(self) -> None:
        """Update channel, tally and published pids after the process has started or ended."""
        if self.child.pid is None:
            self._close_channel()
            self._cells[OPEN] = self._cells[IN_FLIGHT] = 0
            self.first_start_ended.set()
        elif self._channel is not None and self._child_end is not None:
            self._child_end.close()
            self._child_end = None
            asyncio.get_running_loop().add_reader(self._channel, self._handle_messages)
        self._cells[PID] = self.child.pid or 0
        self._processes.publish_pids()

    def _handle_messages(self) -> None:
        messages = self._receive_messages()
        if messages is None:
            return
        if not messages or LEAVING in messages:
            self._close_channel()
        else:
            self.is_started = True
            self.first_start_ended.set()
            if READY in messages:
                self.ready.set()

    def _receive_messages(self) -> bytes | None:
        """Receive messages, and close the connections that they confirm. None: no message; empty: channel closed."""
        try:
            messages = self._channel.recv(_RECEIVE_BYTES) if self._channel is not None else b""
        except BlockingIOError:
            return None
        except OSError:
            return b""
        taken = len(self._unconfirmed) if LEAVING in messages else messages.count(TAKEN)
        for _ in range(taken):
            self._unconfirmed.popleft().close()
        return messages

    def _close_channel(self) -> None:
        while self._receive_messages():
            pass
        self.is_started = False
        self.ready.clear()
        if self._channel is not None:
            asyncio.get_running_loop().remove_reader(self._channel)
            self._channel.close()
        if self._child_end is not None:
            self._child_end.close()
        self._channel = self._child_end = None
        self._processes.redistribute(self._unconfirmed)
        self._unconfirmed.clear()


class Processes:
    """All API processes.

    1. Start them, and listen once each has started or failed.
    2. Accept connections. Each goes to the process with the fewest, among those that are ready.
    3. On request, replace the processes one by one: start a new one, wait until it is ready, let the old one drain.
    4. To stop, accept the queued connections, stop listening, and let all processes drain in parallel.
    """

    def __init__(
        self, number: int, listeners: list[socket.socket], tell_fd: int | None, *, embedded: bool = False
    ) -> None:
        """`embedded` is as in Settings."""
        self.number, self.embedded = number, embedded
        self._listeners, self._tell_fd = listeners, tell_fd
        blocks = number + 1  # one more for the new process during a replacement
        self.tally_file = tempfile.TemporaryFile()  # noqa: SIM115 - stays open as long as this process runs
        self.tally_file.truncate(Tally.size_bytes(blocks))
        self.tally = Tally(blocks, fd=self.tally_file.fileno())
        self._turns = 0
        self.waiting: deque[socket.socket] = deque()
        """Accepted connections that no process accepts now."""
        self.all = [Process(self, block) for block in range(number)]

    async def run(self, replace: asyncio.Event) -> None:
        """Serve until cancelled; replace all processes whenever `replace` is set.

        Raises OSError if the first start of a process fails.
        """
        for process in self.all:
            await process.child.start()
            process.child.watch()
        for process in self.all:
            await process.first_start_ended.wait()
        for listener in self._listeners:
            listener.listen(BACKLOG)
        self._resume_accepting()
        _log.info("listening", processes=self.number)
        while True:
            await replace.wait()
            replace.clear()
            await self._replace_all()

    async def stop(self) -> None:
        """Stop listening, and end all processes."""
        loop = asyncio.get_running_loop()
        for listener in self._listeners:
            loop.remove_reader(listener)
            for _ in range(BACKLOG // _MAX_ACCEPTS_PER_TURN):
                if not self._accept_some(listener):
                    break
            listener.close()
        await asyncio.gather(*(process.stop() for process in self.all))
        while self.waiting:
            self.waiting.popleft().close()

    def next_turn(self) -> int:
        self._turns += 1
        return self._turns

    def redistribute(self, connections: Iterable[socket.socket]) -> None:
        """Hand over connections again whose process ended before it received them."""
        unreceived, was_empty = list(connections), not self.waiting
        self.waiting.extend(unreceived)
        if unreceived and was_empty:
            self._pause_accepting(0.0)

    def publish_pids(self) -> None:
        """Write the pids of the running processes to `tell_fd`, if given: a line of JSON."""
        if self._tell_fd is not None:
            pids = [process.child.pid for process in self.all if process.child.pid is not None]
            os.write(self._tell_fd, json.dumps(pids).encode() + b"\n")

    async def _replace_all(self) -> None:
        for old in list(self.all):
            free = set(range(self.number + 1)) - {process.block for process in self.all}
            new = Process(self, free.pop())
            self.all.append(new)
            leaving = new
            try:
                await new.child.start()
                if await new.wait_until_ready():
                    new.child.watch()
                    leaving = old
                else:
                    _log.error("not replaced, since the new process is not ready", pid=old.child.pid)
            except OSError as error:
                _log.error("not replaced, since no process can be started", error=str(error))
            finally:
                await leaving.stop()
                self.all.remove(leaving)
                self.publish_pids()
            if leaving is new:
                return
        _log.info("replaced", processes=self.number)

    def _resume_accepting(self) -> None:
        loop = asyncio.get_running_loop()
        while self.waiting:
            if not self._hand_over(self.waiting[0]):
                loop.call_later(_RETRY_S, self._resume_accepting)
                return
            self.waiting.popleft()
        for listener in self._listeners:
            if listener.fileno() >= 0:
                loop.add_reader(listener, self._accept_some, listener)

    def _pause_accepting(self, seconds: float = _RETRY_S) -> None:
        loop = asyncio.get_running_loop()
        for listener in self._listeners:
            loop.remove_reader(listener)
        loop.call_later(seconds, self._resume_accepting)

    def _accept_some(self, listener: socket.socket) -> bool:
        """Accept some connections and hand them over. Returns whether the listener may have more."""
        for _ in range(_MAX_ACCEPTS_PER_TURN):
            try:
                connection, _ = listener.accept()
            except BlockingIOError:
                return False
            except ConnectionAbortedError:
                continue
            except OSError as error:
                _log.error("can't accept", error=str(error))
                self._pause_accepting(_ACCEPT_ERROR_PAUSE_S)
                return False
            if not self._hand_over(connection):
                self.waiting.append(connection)
                self._pause_accepting()
                return False
        return True

    def _hand_over(self, connection: socket.socket) -> bool:
        """Give a connection to the ready process with the fewest, else to a started one. False: none accepts it."""
        started = [process for process in self.all if process.is_started]
        candidates = [process for process in started if process.ready.is_set()] or started
        candidates.sort(key=lambda process: (process.load, process.given_at))
        return any(process.give(connection) for process in candidates)


@contextlib.contextmanager
def bind_sockets(host: str, port: int) -> Iterator[list[socket.socket]]:
    """Yield sockets bound to all addresses of `host`, not yet listening. Raises StartError if one can't be bound."""
    with contextlib.ExitStack() as stack:
        sockets: list[socket.socket] = []
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
                sockets.append(listener)
        except OSError as error:
            raise StartError(f"{host}:{port} can't be used: {error.strerror}.") from error
        yield sockets

"""Start, restart and stop child processes: `scrip run` (local_service.py) and its servers (valkey.py, postgres.py)."""

import asyncio
import contextlib
import ctypes
import os
import signal
import sys
import time
from asyncio.subprocess import DEVNULL, STDOUT, Process
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

import click
import structlog

_MIN_PAUSE_S = 0.1
_MAX_PAUSE_S = 5.0
_HEALTHY_AFTER_S = 10.0
_PROGRESS_LOG_S = 10.0
_POLL_S = 0.02
_LOG_TAIL_BYTES = 16_384

_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None) if sys.platform == "linux" else None

_log = structlog.get_logger(__name__)


class StartError(click.ClickException):
    """A server, a process or the API can't start. The message says what to do next."""

    exit_code = 2


@dataclass(slots=True)
class ChildProcess:
    """One child process.

    1. `start` runs the child in a session of its own, so that Ctrl-C in the terminal reaches only the parent.
    2. If the parent is killed, Linux sends `orphan_signal` to the child.
    3. `watch` restarts the child whenever it ends. The pause doubles from 0.1 s to 5 s; a life of 10 s resets it.
    4. `stop` sends `stop_signal`, waits, and sends SIGKILL after `stop_deadline_s`.
    """

    name: str
    argv: list[str]
    env: dict[str, str]
    on_change: Callable[[], None] = lambda: None
    """Called after each start, and when a watched child ends by itself."""
    account: tuple[int, int] | None = None
    """The user and group that the child runs as. None: the parent's."""
    log: Path | None = None
    """File that the output is appended to. None: the parent's output."""
    keep_fd: int | None = None
    """File descriptor that the child keeps open until it ends, for example a lock."""
    stop_signal: signal.Signals = signal.SIGTERM
    stop_deadline_s: float = 10.0
    orphan_signal: signal.Signals = signal.SIGKILL

    _process: Process | None = field(default=None, init=False)
    _watcher: asyncio.Task[None] | None = field(default=None, init=False)
    _log_offset: int = field(default=0, init=False)

    @property
    def pid(self) -> int | None:
        """The pid; None while the child does not run."""
        return None if self._process is None or self._process.returncode is not None else self._process.pid

    async def start(self) -> None:
        """Start the child. Raises OSError if its program can't be run."""
        with contextlib.ExitStack() as files:
            output = None
            if self.log is not None:
                self.log.touch(mode=0o600)
                output = files.enter_context(self.log.open("ab"))
                self._log_offset = output.tell()
            self._process = await asyncio.create_subprocess_exec(
                *self.argv,
                cwd="/" if self.account else None,
                env=self.env,
                stdin=DEVNULL,
                stdout=output,
                stderr=None if output is None else STDOUT,
                start_new_session=True,
                pass_fds=() if self.keep_fd is None else (self.keep_fd,),
                user=self.account[0] if self.account else None,
                group=self.account[1] if self.account else None,
                extra_groups=[] if self.account else None,
                preexec_fn=_make_orphan_hook(self.orphan_signal),
            )
        self.on_change()

    async def wait(self) -> int:
        """Wait until the child ends. Returns its exit code, or the negative number of the signal that ended it."""
        if self._process is None:
            raise RuntimeError(f"{self.name} was never started")
        return await self._process.wait()

    async def wait_until(self, is_ready: Callable[[], Awaitable[bool]]) -> bool:
        """Wait until the child is ready. Returns False if it ends first.

        There is no deadline while it runs: a server with a large log needs long to load it.
        """
        started = logged = time.monotonic()
        while self.pid is not None:
            if await is_ready():
                return True
            now = time.monotonic()
            if now - logged >= _PROGRESS_LOG_S:
                logged = now
                _log.info("child_still_starting", part=self.name, seconds=round(now - started))
            await asyncio.sleep(_POLL_S)
        return False

    def watch(self) -> None:
        """From now on, restart the child whenever it ends."""
        self._watcher = asyncio.create_task(self._keep_running())

    def read_log_tail(self) -> list[str]:
        """Return the last lines, up to 16 KiB, that the child wrote to its log since its last start."""
        if self.log is None:
            return []
        with self.log.open("rb") as file:
            end = file.seek(0, os.SEEK_END)
            file.seek(max(self._log_offset, end - _LOG_TAIL_BYTES))
            return file.read().decode(errors="replace").splitlines()

    async def stop(self) -> None:
        """Stop watching, then end the child: `stop_signal` first, SIGKILL after `stop_deadline_s`."""
        if self._watcher is not None:
            self._watcher.cancel()
            await asyncio.gather(self._watcher, return_exceptions=True)
        if self._process is None or self.pid is None:
            return
        self._send_signal(self.stop_signal)
        try:
            await asyncio.wait_for(self._process.wait(), self.stop_deadline_s)
        except TimeoutError:
            _log.warning("child_killed", part=self.name, seconds=self.stop_deadline_s)
            self._send_signal(signal.SIGKILL)
            await self._process.wait()

    def _send_signal(self, number: signal.Signals) -> None:
        if self._process is not None and self.pid is not None:
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(number)

    async def _keep_running(self) -> None:
        pause_s = _MIN_PAUSE_S
        started = time.monotonic()
        while True:
            if self.pid is not None:
                code = await self.wait()
                self.on_change()
                if time.monotonic() - started >= _HEALTHY_AFTER_S:
                    pause_s = _MIN_PAUSE_S
                _log.warning("child_ended", part=self.name, code=code, pause_s=pause_s)
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 2, _MAX_PAUSE_S)
            started = time.monotonic()
            try:
                await self.start()
            except OSError as error:
                _log.error("child_not_started", part=self.name, error=str(error))


def _make_orphan_hook(orphan_signal: signal.Signals) -> Callable[[], None]:
    """Return a function that the new process runs first: it makes Linux send `orphan_signal` when the parent dies.

    It runs after the change of user, which would clear the request. Linux watches the thread that forked, so only the
    main thread may start children. The function must not import, and hardly allocate: at the fork, other threads may
    hold locks.
    """
    parent = os.getpid()

    def request_orphan_signal() -> None:
        if _libc is not None:
            _libc.prctl(_PR_SET_PDEATHSIG, int(orphan_signal), 0, 0, 0)
            if os.getppid() != parent:
                os.kill(os.getpid(), signal.SIGKILL)

    return request_orphan_signal

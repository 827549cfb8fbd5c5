"""Processes that we start, watch, start again and stop."""

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

_FIRST_PAUSE_S = 0.1
_LONGEST_PAUSE_S = 5.0
_HEALTHY_AFTER_S = 10.0
_PATIENCE_S = 10.0
_POLL_S = 0.02
_LAST_WORDS_BYTES = 16_384

_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None) if sys.platform == "linux" else None

_log = structlog.get_logger(__name__)


class StartError(click.ClickException):
    """Something can't be started; the message says what to do about it."""


@dataclass(slots=True)
class Account:
    """Whom a process runs as."""

    uid: int
    gid: int


@dataclass(slots=True)
class Part:
    """One process.

    1. `start` runs it in a session of its own, so that the terminal's Ctrl-C reaches us alone.
    2. Where we are killed, Linux sends it `orphan_signal`.
    3. `watch` starts it again whenever it ends, after a pause that doubles from 0.1 s to 5 s until it has lived 10 s.
    4. `stop` asks it to end, waits, and kills it after its deadline.
    """

    name: str
    argv: list[str]
    env: dict[str, str]
    on_change: Callable[[], None] = lambda: None
    """Called after each change of `pid`."""
    before_start: Callable[[], None] = lambda: None
    """Called before each start; it may change what follows, and `argv`."""
    more_fds: tuple[int, ...] = ()
    """Files that it inherits, besides `keep_fd`."""
    account: Account | None = None
    """None is ours."""
    log: Path | None = None
    """Where its output is appended; None is our own output."""
    keep_fd: int | None = None
    """A file that it holds open as long as it lives."""
    stop_signal: signal.Signals = signal.SIGTERM
    stop_deadline_s: float = 10.0
    orphan_signal: signal.Signals = signal.SIGKILL

    _process: Process | None = field(default=None, init=False)
    _watcher: asyncio.Task[None] | None = field(default=None, init=False)
    _log_offset: int = field(default=0, init=False)

    @property
    def pid(self) -> int | None:
        """The pid while it runs."""
        return None if self._process is None or self._process.returncode is not None else self._process.pid

    async def start(self) -> None:
        """Start it once. Raises OSError where it can't be run."""
        self.before_start()
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
                pass_fds=self.more_fds if self.keep_fd is None else (*self.more_fds, self.keep_fd),
                user=self.account.uid if self.account else None,
                group=self.account.gid if self.account else None,
                extra_groups=[] if self.account else None,
                preexec_fn=_dying_with_us(self.orphan_signal),
            )
        self.on_change()

    async def wait(self) -> int:
        """Wait for its end; negative is the signal that ended it."""
        if self._process is None:
            raise RuntimeError(f"{self.name} was never started")
        return await self._process.wait()

    async def until(self, ready: Callable[[], Awaitable[bool]]) -> bool:
        """Wait until it is ready; False where it ended first. Patient while it lives: a large log takes its time."""
        asked = told = time.monotonic()
        while self.pid is not None:
            if await ready():
                return True
            now = time.monotonic()
            if now - told >= _PATIENCE_S:
                told = now
                _log.info("still starting", part=self.name, seconds=round(now - asked))
            await asyncio.sleep(_POLL_S)
        return False

    def watch(self) -> None:
        """From here on, start it again whenever it ends."""
        self._watcher = asyncio.create_task(self._keep_running())

    def last_words(self) -> list[str]:
        """The last lines it wrote to its log since it was started."""
        if self.log is None:
            return []
        with self.log.open("rb") as file:
            end = file.seek(0, os.SEEK_END)
            file.seek(max(self._log_offset, end - _LAST_WORDS_BYTES))
            return file.read().decode(errors="replace").splitlines()

    async def stop(self) -> None:
        """End it: its signal first, SIGKILL after its deadline."""
        if self._watcher is not None:
            self._watcher.cancel()
            await asyncio.gather(self._watcher, return_exceptions=True)
        if self._process is None or self.pid is None:
            return
        self._signal(self.stop_signal)
        try:
            await asyncio.wait_for(self._process.wait(), self.stop_deadline_s)
        except TimeoutError:
            _log.warning("killed, since it did not stop in time", part=self.name, seconds=self.stop_deadline_s)
            self._signal(signal.SIGKILL)
            await self._process.wait()

    def _signal(self, which: signal.Signals) -> None:
        if self._process is not None and self.pid is not None:
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(which)

    async def _keep_running(self) -> None:
        pause_s = _FIRST_PAUSE_S
        started = time.monotonic()
        while True:
            if self.pid is not None:
                code = await self.wait()
                self.on_change()
                if time.monotonic() - started >= _HEALTHY_AFTER_S:
                    pause_s = _FIRST_PAUSE_S
                _log.warning("ended, starting it again", part=self.name, code=code, pause_s=pause_s)
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 2, _LONGEST_PAUSE_S)
            started = time.monotonic()
            try:
                await self.start()
            except OSError as error:
                _log.error("can't be started", part=self.name, error=str(error))


def _dying_with_us(orphan_signal: signal.Signals) -> Callable[[], None]:
    """What a new process does first: ask Linux for a signal when we die.

    It runs after the change of user, which would clear the request. Linux watches the thread that forked, so parts are
    started by the main thread alone. Nothing here imports or allocates much: other threads may hold locks at the fork.
    """
    us = os.getpid()

    def ask() -> None:
        if _libc is not None:
            _libc.prctl(_PR_SET_PDEATHSIG, int(orphan_signal), 0, 0, 0)
            if os.getppid() != us:
                os.kill(os.getpid(), signal.SIGKILL)

    return ask

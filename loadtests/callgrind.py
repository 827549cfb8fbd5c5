"""Instructions of a process that runs under valgrind's callgrind: they repeat within a few in a thousand."""

import asyncio
import shutil
from asyncio.subprocess import DEVNULL
from pathlib import Path

from loadtests.figures import say


def require_callgrind() -> None:
    """Exit with 2 if this machine has no callgrind."""
    if shutil.which("callgrind_control") is None:
        say("--count needs valgrind.")
        raise SystemExit(2)


def under_callgrind(out: Path) -> tuple[str, ...]:
    """The words before a command that is to run under callgrind, and to be read by InstructionCounter(pid, out)."""
    return ("valgrind", "-q", "--tool=callgrind", f"--callgrind-out-file={out}")


class InstructionCounter:
    """Counts a process that was started by `under_callgrind(out)`; a process may count itself."""

    def __init__(self, pid: int, out: Path) -> None:
        self._pid, self._out, self._sum, self._dumps = pid, out, 0, 0

    async def read(self) -> float:
        """Instructions since it began."""
        asked = await asyncio.create_subprocess_exec(
            "callgrind_control", "--dump", str(self._pid), stdout=DEVNULL, stderr=DEVNULL
        )
        await asyncio.wait_for(asked.wait(), 60)
        self._dumps += 1
        self._sum += _total(Path(f"{self._out}.{self._dumps}"))
        return self._sum


def _total(dump: Path) -> int:
    return int(dump.read_text().rpartition("totals: ")[2].split()[0])

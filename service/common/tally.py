"""Counters of all API processes, in shared memory: accounting.py adds and reads, api_processes.py makes the blocks."""

import contextlib
import fcntl
import mmap
import os
import sys
import tempfile
from multiprocessing.reduction import DupFd
from typing import Any

STATUSES = 600
"""Cells 0 to 599: the number of answers with that HTTP status."""
PID, IN_FLIGHT, DROPPED_NOTES, TIME_US = range(STATUSES, STATUSES + 4)
"""Cells for the pid (0: no process yet), requests in flight, notes of locks that were dropped, and the sum of response
times in µs; the next cells count response times by class (service/common/durations.py)."""
_CELLS = 1024
_CELL_BYTES = 8
_BLOCK_BYTES = _CELLS * _CELL_BYTES


class Tally:
    """One block of 64-bit cells for each process. A process writes only its own block, and reads all blocks.

    A new process continues the counts of a block whose process has ended, so that no sum ever falls.
    """

    def __init__(self, blocks: int = 1, fd: int | None = None) -> None:
        """Map the memory behind `fd`; None: new memory. The first block is this process's until `take_block`."""
        self._fd = _open_memory(blocks * _BLOCK_BYTES) if fd is None else fd
        cells = memoryview(mmap.mmap(self._fd, blocks * _BLOCK_BYTES)).cast("Q")
        self.blocks = [cells[block * _CELLS : (block + 1) * _CELLS] for block in range(blocks)]
        self.own = self.blocks[0]

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle this for a child process that is being started: it maps the same memory."""
        return _attach, (len(self.blocks), DupFd(self._fd))

    def take_block(self) -> None:
        """Make the first block that no living process has this process's own: its lock ends with the process."""
        for number, block in enumerate(self.blocks):
            with contextlib.suppress(BlockingIOError):
                fcntl.lockf(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB, _BLOCK_BYTES, number * _BLOCK_BYTES)
                block[PID], block[IN_FLIGHT] = os.getpid(), 0
                self.own = block
                return
        raise RuntimeError(f"All {len(self.blocks)} blocks of the tally have a living process.")

    def total(self, cell: int) -> int:
        return sum(block[cell] for block in self.blocks)

    def living(self) -> list[memoryview]:
        """The blocks of processes that live."""
        return [block for block in self.blocks if block[PID] and is_alive(block[PID])]


def _attach(blocks: int, duplicate: Any) -> Tally:
    return Tally(blocks, duplicate.detach())


def _open_memory(size_bytes: int) -> int:
    """Open shared memory without a name. Only systems other than Linux need a writable folder for it."""
    if sys.platform == "linux":
        fd = os.memfd_create("scrip-tally")
    else:
        with tempfile.TemporaryFile() as file:
            fd = os.dup(file.fileno())
    os.ftruncate(fd, size_bytes)
    return fd


def is_alive(pid: int) -> bool:
    """Whether there is a process of this number, of any user."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True

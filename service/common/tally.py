"""Counters of all API processes, in shared memory."""

import mmap

STATUSES = 600
"""Cells 0 to 599: the number of answers with that HTTP status."""
CPU_US, OPEN, PID, IN_FLIGHT = range(STATUSES, STATUSES + 4)
"""Cells for CPU time in µs, open connections, the pid (0: no process), and requests in flight."""
TIME_US = IN_FLIGHT + 1
"""Cell for the sum of response times in µs; the next cells count them by class (service/common/durations.py)."""
_CELLS = 1024
DROPPED_NOTES = _CELLS - 1
"""Cell for notes of locks that were dropped: the last one, far from the classes of times."""
_CELL_BYTES = 8


class Tally:
    """One block of 64-bit cells for each process. A process writes only its own block, and reads all blocks.

    A new process continues the counts of the block that it takes over, so that no sum ever falls.
    """

    def __init__(self, blocks: int = 1, own: int = 0, fd: int = -1) -> None:
        """Map `fd`, a file of `Tally.size_bytes(blocks)` bytes; -1: private memory. `own` is this process's block."""
        cells = memoryview(mmap.mmap(fd, self.size_bytes(blocks))).cast("Q")
        self.blocks = [cells[block * _CELLS : (block + 1) * _CELLS] for block in range(blocks)]
        self.own = self.blocks[own]

    @staticmethod
    def size_bytes(blocks: int) -> int:
        return blocks * _CELLS * _CELL_BYTES

    def total(self, cell: int) -> int:
        return sum(block[cell] for block in self.blocks)

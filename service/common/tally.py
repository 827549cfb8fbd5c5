"""What the API's processes count together, in memory that all of them map."""

import mmap

STATUSES = 600
"""A cell for each status comes first: how many answers had it."""
CPU_US, OPEN, PID = range(STATUSES, STATUSES + 3)
"""CPU time spent; connections that are open; the process's pid, 0 for none."""
COUNTED = PID + 1
"""The first of the cells for what was done and refused, one for each name, in the order that requests.py gives them."""
_CELLS = 1024
_CELL_BYTES = 8


class Tally:
    """A block of cells for each process, 64-bit numbers that it alone writes while it lives and that all may read.

    A process that takes over another's block counts on from there, so that no sum of counts ever falls.
    """

    def __init__(self, blocks: int = 1, own: int = 0, fd: int = -1) -> None:
        """`fd` is of a file of `Tally.size_bytes(blocks)`; -1 is memory of this process alone."""
        cells = memoryview(mmap.mmap(fd, self.size_bytes(blocks))).cast("Q")
        self.blocks = [cells[block * _CELLS : (block + 1) * _CELLS] for block in range(blocks)]
        self.own = self.blocks[own]

    @staticmethod
    def size_bytes(blocks: int) -> int:
        """Of the file that so many blocks take."""
        return blocks * _CELLS * _CELL_BYTES

    def total(self, cell: int) -> int:
        """A cell's sum over all blocks."""
        return sum(block[cell] for block in self.blocks)

"""Counters of all API processes, in shared memory: accounting.py adds and reads, busiest.py counts
by workspace, process_metrics.py writes the gauges, api_processes.py makes the blocks."""

import contextlib
import fcntl
import mmap
import os
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from multiprocessing.reduction import DupFd
from typing import Any

GAUGES = PID, IN_FLIGHT, CONNECTIONS, REDIS_IN_FLIGHT, POOL_IDLE, POOL_USED, POOL_WAITING = range(7)
"""Cells for the pid (0: no process yet), and for what a process measures of itself."""
SLOTS = 50
"""One for each of the busiest workspaces; service/server/answers/busiest.py knows what its cells are."""
SLOT_CELLS = 5
MAX_NAMES = 1536
"""Places for counters of one process."""
_SPARE = 16
"""The last places are for counters `other` alone: so counts a new counter that finds no place before them."""
_USED = len(GAUGES)
_FIRST_SLOT = _USED + 1
_FIRST_COUNT = _FIRST_SLOT + SLOTS * SLOT_CELLS
_CELLS = _FIRST_COUNT + MAX_NAMES
_CELL_BYTES, _NAME_BYTES = 8, 128
_BLOCK_BYTES = _CELLS * _CELL_BYTES + MAX_NAMES * _NAME_BYTES
_HEAD_BYTES = SLOTS * _CELL_BYTES

Name = tuple[str, ...]


class Block:
    """The counters of one process, by name. Names are only ever added, so readers need no lock."""

    def __init__(self, memory: memoryview) -> None:
        self.cells = memory[: _CELLS * _CELL_BYTES].cast("Q")
        self.slots = [self.cells[_FIRST_SLOT + n * SLOT_CELLS :][:SLOT_CELLS] for n in range(SLOTS)]
        self._texts = memory[_CELLS * _CELL_BYTES :]
        self._names: list[Name] = []
        self._places: dict[Name, int] = {}

    def add(self, name: Name, count: int = 1) -> None:
        """Add to a counter of this process's own block."""
        place = self._places.get(name)
        self.cells[_FIRST_COUNT + (self._find(name) if place is None else place)] += count

    def counts(self) -> Iterator[tuple[Name, int]]:
        self._read_names()
        return zip(self._names, self.cells[_FIRST_COUNT:], strict=False)

    def _read_names(self) -> None:
        for place in range(len(self._names), self.cells[_USED]):
            text = bytes(self._texts[place * _NAME_BYTES :][:_NAME_BYTES]).rstrip(b"\0")
            name = tuple(text.decode().split("\t"))
            self._names.append(name)
            self._places[name] = place

    def _find(self, name: Name) -> int:
        """The place of a name that may be new: a process that replaces another goes on with its block."""
        self._read_names()
        text = "\t".join(name).encode()
        other = (name[0], *["other"] * (len(name) - 1))
        if name in self._places:
            return self._places[name]
        if name != other and (len(text) > _NAME_BYTES or len(self._names) >= MAX_NAMES - _SPARE):
            return self._find(other)
        place = self.cells[_USED]
        self._texts[place * _NAME_BYTES :][: len(text)] = text
        self.cells[_USED] = place + 1
        self._read_names()
        return place


class Tally:
    """A head that all processes may change, and one block for each process. A process writes only its own block, and
    reads all blocks.

    A new process continues the counts of a block whose process has ended, so that no sum ever falls.
    """

    def __init__(self, blocks: int = 1, fd: int | None = None) -> None:
        """Map the memory behind `fd`; None: new memory. The first block is this process's until `take_block`."""
        size_bytes = _HEAD_BYTES + blocks * _BLOCK_BYTES
        self._fd = _open_memory(size_bytes) if fd is None else fd
        memory = memoryview(mmap.mmap(self._fd, size_bytes))
        self.head = memory[:_HEAD_BYTES].cast("Q")
        self.blocks = [Block(memory[_start_of(block) :][:_BLOCK_BYTES]) for block in range(blocks)]
        self.own = self.blocks[0]

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle this for a child process that is being started: it maps the same memory."""
        return _attach, (len(self.blocks), DupFd(self._fd))

    def take_block(self) -> None:
        """Make the first block that no living process has this process's own: its lock ends with the process."""
        for number, block in enumerate(self.blocks):
            with contextlib.suppress(BlockingIOError):
                fcntl.lockf(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB, _BLOCK_BYTES, _start_of(number))
                for gauge in GAUGES:
                    block.cells[gauge] = 0
                block.cells[PID] = os.getpid()
                self.own = block
                return
        raise RuntimeError(f"All {len(self.blocks)} blocks of the tally have a living process.")

    @contextlib.contextmanager
    def lock_head(self) -> Iterator[bool]:
        """Lock the head, unless another process has; whether this one has it."""
        try:
            fcntl.lockf(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB, _HEAD_BYTES, 0)
        except BlockingIOError:
            yield False
            return
        try:
            yield True
        finally:
            fcntl.lockf(self._fd, fcntl.LOCK_UN, _HEAD_BYTES, 0)

    def counts(self) -> Counter[Name]:
        """The counters of all processes together."""
        sums = Counter[Name]()
        for block in self.blocks:
            for name, count in block.counts():
                sums[name] += count
        return sums

    def total(self, gauge: int) -> int:
        """The sum of a gauge of the processes that live."""
        return sum(block.cells[gauge] for block in self.living())

    def living(self) -> list[Block]:
        """The blocks of processes that live; of a process without others, its own."""
        living = [block for block in self.blocks if block.cells[PID] and is_alive(block.cells[PID])]
        return living or [self.own]


def _attach(blocks: int, duplicate: Any) -> Tally:
    return Tally(blocks, duplicate.detach())


def _start_of(block: int) -> int:
    return _HEAD_BYTES + block * _BLOCK_BYTES


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

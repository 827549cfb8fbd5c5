"""What a server had not synced when its machine lost power, and taking that back; a clock that can be stepped."""

import os
import random
import shutil
import struct
import subprocess
from collections import defaultdict
from pathlib import Path
from typing import BinaryIO, NamedTuple

_SOURCES = Path(__file__).parent / "preload"
_SECTOR = 512
"""What a disk writes as a whole."""


class Write(NamedTuple):
    """A write that was done and not synced."""

    offset: int
    length: int
    size: int
    """The file's before."""
    before: bytes
    """What was there, as far as something was."""

    @property
    def grew(self) -> bool:
        return self.offset + self.length > self.size


class Preloads:
    """Libraries of ours between a server and the C library, in one folder: its clock, and a journal of its disk."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(mode=0o755)
        self._folder = folder
        for name in ("clock", "disk"):
            library = folder / f"{name}.so"
            command = ["cc", "-shared", "-fPIC", "-O2", "-o", library, _SOURCES / f"{name}.c", "-ldl"]
            subprocess.run(command, check=True)

    @staticmethod
    def possible() -> bool:
        """Whether there is a compiler."""
        return shutil.which("cc") is not None

    def clock(self, name: str) -> "Clock":
        """A clock of this name, with the environment that sets a process by it."""
        return Clock(self._folder / f"{name}.clock", self._folder / "clock.so")

    def disk(self, name: str, root: Path) -> "Disk":
        """The journal of what a server does below a folder."""
        return Disk(self._folder / f"{name}.journal", self._folder / "disk.so", root)


class Clock:
    """A process's clock."""

    def __init__(self, file: Path, library: Path) -> None:
        self._file = file
        self.env = {"LD_PRELOAD": str(library), "CLOCK_FILE": str(file)}
        self.set(0)

    def set(self, offset_ms: int) -> None:
        """How far it is from the machine's, from now on; the file stays the one that processes have mapped."""
        with self._file.open("r+b" if self._file.exists() else "wb") as file:
            file.write(struct.pack("q", offset_ms))


class Disk:
    """A server's disk."""

    def __init__(self, journal: Path, library: Path, root: Path) -> None:
        self._journal, self._root = journal, root
        journal.touch()
        journal.chmod(0o666)  # the server may run as another user
        self.env = {"LD_PRELOAD": str(library), "DISK_JOURNAL": str(journal), "DISK_ROOT": str(root)}

    def forget(self) -> None:
        """Take what is in the files now for synced. Not while the server runs."""
        os.truncate(self._journal, 0)

    def lose_power(self, dice: random.Random) -> int:
        """Take back what was not synced: in every other file all of it, else a part. What was appended is kept up to
        some byte, of what was written over each write by itself, or some of its sectors. How many writes were lost.
        Only once all of the server's processes are dead."""
        pending, lost = unsynced(self._journal.read_bytes()), 0
        for folder, _, names in os.walk(self._root):
            for name in names:
                path = Path(folder, name)
                if path.is_file() and (writes := pending.get(path.stat().st_ino)):
                    lost += _take_back(path, writes, dice)
        self.forget()
        return lost


def unsynced(journal: bytes) -> dict[int, list[Write]]:
    """What is written and not synced, by inode, in its order."""
    pending: dict[int, list[tuple[int, Write]]] = defaultdict(list)
    at = 0
    while (end := journal.find(b"\n", at)) >= 0:
        kind, inode, *numbers = journal[at:end].split()
        file, numbers, begun = int(inode), [int(number) for number in numbers], at
        at = end + 1
        if kind == b"W":
            offset, length, size, more = numbers
            if at + more > len(journal):
                break  # it died amid this
            pending[file].append((begun, Write(offset, length, size, journal[at : at + more])))
            at += more
        elif kind == b"S":
            pending[file] = [one for one in pending[file] if one[0] >= numbers[0]]
        else:
            pending.pop(file, None)
    return {file: [write for _, write in writes] for file, writes in pending.items() if writes}


def _take_back(path: Path, writes: list[Write], dice: random.Random) -> int:
    whole = dice.random() < 0.5
    kept = 0 if whole else dice.randint(0, sum(write.grew for write in writes))
    lost = 0
    with path.open("r+b") as file:
        rank = sum(write.grew for write in writes)
        for write in reversed(writes):
            if write.grew:
                rank -= 1
                if rank >= kept:
                    torn = dice.randrange(write.length) if rank == kept and not whole else 0
                    file.truncate(min(max(write.size, write.offset + torn), file.seek(0, os.SEEK_END)))
                    lost += 1
            if write.before and (whole or dice.random() < 0.5):
                _write_back(file, write, dice, whole=whole)
                lost += not write.grew
    return lost


def _write_back(file: BinaryIO, write: Write, dice: random.Random, *, whole: bool) -> None:
    for start in range(0, len(write.before), _SECTOR):
        if whole or dice.random() < 0.7:
            file.seek(write.offset + start)
            file.write(write.before[start : start + _SECTOR])

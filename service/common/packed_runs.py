"""Rows that come in any order, and are read again run by run: bulk_reads.py keeps a comparison's rows in memory so."""

import zlib
from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Any

import msgspec

PACKED_ROWS = 20_000


class PackedRuns:
    """Rows are compressed in memory by their runs: some 20 bytes for a row of 60. The first field is a number, and
    `width` of these numbers make a run."""

    def __init__(self, width: int) -> None:
        self._width = width
        self._fresh: list[tuple[Any, ...]] = []
        self._packed: dict[int, list[bytes]] = defaultdict(list)
        self._encoder = msgspec.msgpack.Encoder()

    def add(self, rows: Iterable[Iterable[Any]]) -> None:
        self._fresh += map(tuple, rows)
        if len(self._fresh) >= PACKED_ROWS:
            for run, some in self._split().items():
                self._packed[run].append(zlib.compress(self._encoder.encode(some), 1))
            self._fresh = []

    def read(self) -> Iterator[list[list[Any] | tuple[Any, ...]]]:
        """Yield the rows of each run, in order of their numbers, and drop them."""
        fresh = self._split()
        self._fresh = []
        for run in sorted(self._packed.keys() | fresh.keys()):
            rows = list[Any](fresh.get(run, ()))
            for packed in self._packed.pop(run, ()):
                rows += msgspec.msgpack.decode(zlib.decompress(packed))
            rows.sort(key=lambda row: row[0])
            yield rows

    def _split(self) -> dict[int, list[tuple[Any, ...]]]:
        runs: dict[int, list[tuple[Any, ...]]] = defaultdict(list)
        for row in self._fresh:
            runs[row[0] // self._width].append(row)
        return runs

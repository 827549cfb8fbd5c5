"""The memory of what takes part in a load, while it runs."""

import csv
import threading
import time
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Self

import psutil

MIB = 1024 * 1024
SAMPLES = 2_000
"""At most so many of each process, however long the load is."""
GROWTH_MIB, GROWTH = 64, 1.5
"""What an API or a worker may grow by in the second half of a soak, and by what factor: both must be passed."""
_METRIC = "process_resident_memory_bytes "

Memory = Callable[[], dict[str, float]]
"""MiB by process."""


def of_processes(pids: Mapping[str, Sequence[int]]) -> Memory:
    """Resident memory of a service's parts; a part with several processes has their sum."""

    def read() -> dict[str, float]:
        return {part: sum(map(_resident_mib, those)) for part, those in pids.items()}

    return read


def of_metrics(url: str) -> Memory:
    """Resident memory as a service at an address says it of the API process that answers; nothing where it doesn't."""

    def read() -> dict[str, float]:
        try:
            with urllib.request.urlopen(f"{url}/metrics", timeout=5) as answer:
                lines = answer.read().decode().splitlines()
        except OSError:
            return {}
        values = [float(line.removeprefix(_METRIC)) for line in lines if line.startswith(_METRIC)]
        return {"api": values[0] / MIB} if values else {}

    return read


class Watch(threading.Thread):
    """Samples the memory of each process until it is stopped; a folder gets memory.csv (second, process, mib)."""

    def __init__(self, read: Memory, pause_s: float = 0.1, folder: Path | None = None) -> None:
        super().__init__(daemon=True)
        self._read, self._pause_s, self._ended = read, pause_s, threading.Event()
        self._began = time.monotonic()
        self._file = (folder / "memory.csv").open("w", newline="") if folder else None
        if self._file:
            csv.writer(self._file).writerow(("second", "process", "mib"))
        self.series: dict[str, list[float]] = {}
        self._sample()

    def first(self, part: str) -> float:
        """What a part used at first."""
        return self.series[part][0]

    def most(self, part: str) -> float:
        """The most that a part used."""
        return max(self.series[part])

    def run(self) -> None:
        while not self._ended.wait(self._pause_s):
            self._sample()

    def stop(self) -> None:
        """Take no more samples."""
        self._ended.set()
        self.join()
        if self._file:
            self._file.close()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _sample(self) -> None:
        for part, mib in self._read().items():
            self.series.setdefault(part, []).append(mib)
            if self._file:
                csv.writer(self._file).writerow((round(time.monotonic() - self._began, 1), part, round(mib, 2)))


def growth(series: Mapping[str, Sequence[float]]) -> list[str]:
    """The stateless parts that grew too much from the third to the last fifth of their samples."""
    grown = []
    for name in sorted({"api", "worker"} & series.keys()):
        fifth = len(series[name]) // 5
        if fifth:
            middle, last = median(series[name][2 * fifth : 3 * fifth]), median(series[name][-fifth:])
            if last - middle > GROWTH_MIB and last > GROWTH * middle:
                grown.append(f"{name} grew from {middle:.0f} to {last:.0f} MiB")
    return grown


def _resident_mib(pid: int) -> float:
    """0 where it is gone: a part may have been started again."""
    try:
        return psutil.Process(pid).memory_info().rss / MIB
    except psutil.NoSuchProcess:
        return 0.0

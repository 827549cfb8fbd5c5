"""Counts of a load's requests, read from its ledger while it grows: how many, how fast, and what failed."""

from collections import Counter
from contextlib import closing
from math import floor, log10
from pathlib import Path
from typing import BinaryIO

import msgspec

from loadtests.generator import Histogram
from loadtests.ledger import CUT_OFF, Entry

DIGITS = 3
"""Significant digits of a latency, so that the counts stay small however long the load is."""
PAGE_BYTES = 16 << 20


class Tally:
    """Counts of users' requests; the judge's own are left out."""

    def __init__(self) -> None:
        self.requests = 0
        self.causes: Counter[str] = Counter()
        """Errors, by cause."""
        self._latencies_us: Counter[int] = Counter()
        """Of answers that are no error: an error's time says when the service gave up."""

    def enter(self, entry: Entry) -> None:
        cause = entry.cause
        if not entry.buyer or cause == CUT_OFF:
            return
        self.requests += 1
        if cause:
            self.causes[cause] += 1
        else:
            self._latencies_us[round_up(max(1, round((entry.answered_ms - entry.sent_ms) * 1000)))] += 1

    def add(self, other: "Tally") -> None:
        self.requests += other.requests
        self.causes.update(other.causes)
        self._latencies_us.update(other._latencies_us)

    def describe_latencies(self) -> str:
        """Percentiles: `p50 4.1 ms  p95 12 ms  p99 40 ms  max 71 ms`; '' without any answer."""
        if not self._latencies_us:
            return ""
        histogram = self._histogram
        values = [(f"p{share:g}", histogram.at_us(share / 100)) for share in (50, 95, 99)]
        return "  ".join(f"{name} {describe_ms(us / 1000)}" for name, us in [*values, ("max", histogram.max)])

    @property
    def p99_ms(self) -> float:
        """The p99; 0 without any answer."""
        return self._histogram.at_us(0.99) / 1000

    @property
    def errors(self) -> float:
        """Which percentage of the requests are errors."""
        return 100 * self.causes.total() / max(1, self.requests)

    @property
    def _histogram(self) -> Histogram:
        return Histogram.of(self._latencies_us)

    def list_causes(self) -> list[str]:
        """The errors, the most frequent first: `3 × 503 recovering`."""
        return [f"{many:,} × {cause}" for cause, many in self.causes.most_common()]


def round_up(value: int) -> int:
    """The value with DIGITS significant digits, never less than it was."""
    step = 10 ** max(0, floor(log10(value)) + 1 - DIGITS)
    return -(-value // step) * step


def describe_ms(ms: float) -> str:
    """A time: `0.42 ms`, `4.1 ms`, `71 ms`, `1.25 s`."""
    if ms >= 1000:
        return f"{ms / 1000:.2f} s"
    return f"{ms:.0f} ms" if ms >= 10 else f"{ms:.2g} ms"


class LedgerReader:
    """Reads what a load's ledgers have grown by since the last call. The last line may be incomplete."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._files: dict[Path, tuple[BinaryIO, bytearray]] = {}
        self._decoder = msgspec.json.Decoder(Entry)

    def read(self) -> Tally:
        """Count the new lines."""
        tally = Tally()
        for path in self._folder.glob("ledger-*.jsonl"):
            if path not in self._files:
                self._files[path] = path.open("rb"), bytearray()
            file, rest = self._files[path]
            while page := file.read(PAGE_BYTES):
                whole, newline, tail = page.rpartition(b"\n")
                if not newline:
                    rest += page
                    continue
                for line in (bytes(rest) + whole).split(b"\n"):
                    tally.enter(self._decoder.decode(line))
                rest[:] = tail
        return tally

    def close(self) -> None:
        for file, _ in self._files.values():
            file.close()


def read_tally(folder: Path) -> Tally:
    """Count all requests of a load."""
    with closing(LedgerReader(folder)) as reader:
        return reader.read()

"""What a load shows while it runs: a line every few seconds."""

import sys
import time
from pathlib import Path
from typing import Self

from loadtests.tally import LedgerReader, Tally

EVERY_S = 5
"""The time between two lines."""


class Progress:
    """Shows how far a load is, and the requests a second, percentiles and errors since the last line."""

    def __init__(self, seconds: int, folder: Path) -> None:
        self._seconds, self._reader = seconds, LedgerReader(folder)
        self._shown_at = time.monotonic()
        self._began: float | None = None
        """When the first requests were answered: locust takes seconds to start."""
        self._total = Tally()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._reader.close()

    def update(self) -> None:
        """Show a line if it is time. Call it about once a second."""
        now = time.monotonic()
        if now - self._shown_at < EVERY_S:
            return
        new = self._reader.read()
        if self._began is None and new.requests:
            self._began = self._shown_at
        if self._began is not None:
            self._total.add(new)
            print(self.describe(new, now - self._shown_at, now - self._began), file=sys.stderr, flush=True)
        self._shown_at = now

    def describe(self, new: Tally, took_s: float, elapsed_s: float) -> str:
        """The line: what is new in these seconds, and the errors so far."""
        errors = "; ".join(self._total.list_causes()) or "0"
        parts = [
            f"{_clock(elapsed_s)} of {_clock(self._seconds)}",
            f"{self._total.requests:,} requests",
            f"{new.requests / took_s:,.0f} a second",
            new.describe_latencies(),
            f"errors {errors}",
        ]
        return "  |  ".join(part for part in parts if part)


def _clock(seconds: float) -> str:
    """`1:05`, and `1:00:05` from an hour on."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"

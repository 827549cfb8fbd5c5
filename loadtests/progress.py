"""What a load shows while it runs: on a terminal a table, else a line every few seconds."""

import time
from collections import deque
from pathlib import Path
from typing import Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from loadtests.plan import Plan
from loadtests.tally import LedgerReader, Tally

RECENT_S = 5
"""What counts as recent, and the time between two plain lines."""
CAUSES = 6
"""How many causes of errors a terminal shows."""


class Progress:
    """Shows how far a load is, its requests a second, percentiles, and errors by cause.

    1. `update` is called about once a second; it reads what the ledgers have grown by.
    2. A terminal shows the last seconds beside the whole load. Anything else gets a line for the last seconds.
    """

    def __init__(self, plan: Plan, folder: Path, console: Console) -> None:
        self._plan, self._console, self._reader = plan, console, LedgerReader(folder)
        self._live = Live(console=console, auto_refresh=False, transient=True) if console.is_terminal else None
        self._read_at = self._printed_at = time.monotonic()
        self._began: float | None = None
        """When the first requests were answered: locust takes seconds to start."""
        self._recent: deque[tuple[float, Tally]] = deque()
        """The tallies of the last seconds, and how long each took."""
        self._total = Tally()

    def __enter__(self) -> Self:
        if self._live:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live:
            self._live.stop()
        self._reader.close()

    def update(self) -> None:
        """Count what is new, and show it."""
        now, new = time.monotonic(), self._reader.read()
        if self._began is None:
            if not new.requests:
                self._read_at = now
                return
            self._began = self._read_at
        self._total.add(new)
        self._recent.append((now - self._read_at, new))
        self._read_at = now
        while len(self._recent) > 1 and sum(took_s for took_s, _ in self._recent) - self._recent[0][0] >= RECENT_S:
            self._recent.popleft()
        if self._live:
            self._live.update(self._draw(now - self._began), refresh=True)
        elif now - self._printed_at >= RECENT_S:
            self._printed_at = now
            self._console.print(self.describe(now - self._began), soft_wrap=True, highlight=False, markup=False)

    def describe(self, elapsed_s: float) -> str:
        """The last seconds as a line."""
        took_s, recent = self._sum_recent()
        errors = "; ".join(self._total.list_causes()) or "0"
        parts = [
            f"{_clock(elapsed_s)} of {_clock(self._plan.seconds)}",
            f"{self._total.requests:,} requests",
            f"{recent.requests / took_s:,.0f} a second",
            recent.describe_latencies(),
            f"errors {errors}",
        ]
        return "  |  ".join(part for part in parts if part)

    def _sum_recent(self) -> tuple[float, Tally]:
        recent = Tally()
        for _, tally in self._recent:
            recent.add(tally)
        return sum(took_s for took_s, _ in self._recent) or 1.0, recent

    def _draw(self, elapsed_s: float) -> RenderableType:
        plan = self._plan
        took_s, recent = self._sum_recent()
        done = max(elapsed_s / plan.seconds, self._total.requests / plan.requests)
        head = Table.grid(padding=(0, 2))
        ending = Text("ending: visits that have begun are finished", style="dim") if done >= 1 else Text()
        bar = ProgressBar(total=1.0, completed=min(1.0, done), width=30)
        head.add_row(f"{plan.shape}, {plan.users} users", bar, f"{_clock(elapsed_s)} of {_clock(plan.seconds)}", ending)
        figures = Table.grid(padding=(0, 2))
        for name, tally, seconds in ((f"last {RECENT_S} s", recent, took_s), ("so far", self._total, elapsed_s)):
            rate = f"{tally.requests / max(seconds, 0.001):,.0f} a second"
            figures.add_row(name, f"{tally.requests:,} requests", rate, tally.describe_latencies())
        causes = self._total.list_causes()
        more = [f"and {len(causes) - CAUSES} more causes"] if len(causes) > CAUSES else []
        errors = [Text(f"  {line}", style="red") for line in [*causes[:CAUSES], *more]]
        return Group(head, figures, Text("errors by cause:" if errors else "no errors"), *errors)


def _clock(seconds: float) -> str:
    """`1:05`, and `1:00:05` from an hour on."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"

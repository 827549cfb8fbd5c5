"""Waiting for a state, with one patience for all that tests and load tests start."""

import contextlib
import time
from collections.abc import Callable
from typing import Any

PATIENCE_S = 120.0
"""When a wait is given up: many times the usual, since the machine may be busy."""
_MIN_PAUSE_S, _MAX_PAUSE_S = 0.02, 0.25

Away = tuple[type[Exception], ...]
"""Errors that mean: not yet."""


def until(reached: Callable[[], Any], what: str = "a state", patience_s: float = PATIENCE_S, *, away: Away = ()) -> Any:
    """Wait until `reached` returns something true; return it."""
    began = time.monotonic()
    while True:
        with contextlib.suppress(*away):
            if result := reached():
                return result
        waited_s = time.monotonic() - began
        assert waited_s < patience_s, f"waited {patience_s:.0f} s for {what}"
        time.sleep(find_pause(waited_s))


def find_pause(waited_s: float) -> float:
    """The seconds until one looks again: a tenth of what was waited, since a look may take much of a busy machine."""
    return min(max(waited_s / 10, _MIN_PAUSE_S), _MAX_PAUSE_S)

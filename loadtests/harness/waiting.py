"""Waiting for a state, with one patience for all that tests and load tests start."""

import contextlib
import time
from collections.abc import Callable
from typing import Any

PATIENCE_S = 120.0
"""When a wait is given up: many times the usual, since the machine may be busy."""
POLL_S = 0.02

Away = tuple[type[Exception], ...]
"""Errors that mean: not yet."""


def until(reached: Callable[[], Any], what: str = "a state", patience_s: float = PATIENCE_S, *, away: Away = ()) -> Any:
    """Wait until `reached` returns something true; return it."""
    deadline = time.monotonic() + patience_s
    while True:
        with contextlib.suppress(*away):
            if result := reached():
                return result
        assert time.monotonic() < deadline, f"waited {patience_s:.0f} s for {what}"
        time.sleep(POLL_S)

"""Progress reports of long work, which modules of replay/ make and command.py shows."""

from collections.abc import Callable

ReportProgress = Callable[[str, int, int], None]
"""Called with the name of a stage, the amount done, and the total."""


def ignore_progress(stage: str, done: int, total: int) -> None:
    """Discard a progress report."""

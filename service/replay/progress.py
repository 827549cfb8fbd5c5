"""Where long work says how far it is."""

from collections.abc import Callable

Report = Callable[[str, int, int], None]
"""Takes the name of a stage, how much of it is done, and how much there is to do."""


def silent(stage: str, done: int, total: int) -> None:
    """Discard the report."""

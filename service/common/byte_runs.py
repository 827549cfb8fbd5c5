"""How much of what clients stored is in a process's memory, or in one run of a script, at once."""

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")

RUN_BYTES = 1 << 20
"""Of a run, or a read, of things that vary in size: about a millisecond of Redis's time. A larger one goes alone."""
IN_FLIGHT_BYTES = 2 << 20
"""Of all runs that are on their way at once."""
SMALL_BYTES = 1 << 10
"""Things up to this size are read by their number, without a look at their sizes first."""


def by_bytes(things: Iterable[T], size: Callable[[T], int], most: int) -> Iterator[list[T]]:
    """The things in their order, in parts of at most so many, and of at most RUN_BYTES; a larger one alone."""
    part, total = list[T](), 0
    for thing in things:
        bytes_ = size(thing)
        if part and (len(part) >= most or total + bytes_ > RUN_BYTES):
            yield part
            part, total = [], 0
        part.append(thing)
        total += bytes_
    if part:
        yield part

"""Split stored data into runs of bounded bytes, for what one script run or one process holds at once. Comparisons
(counter_differences.py), openings (restorer.py, fact_reader.py), deletions of users (pseudonyms.py, user_deletion.py)
and readings of the outbox (redis_server.py) use this."""

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")

RUN_BYTES = 1 << 20
"""Size limit of one run or read of values that vary in size: about 1 ms of Redis's time. A larger value goes alone."""
IN_FLIGHT_BYTES = 2 << 20
"""Size limit of all runs in flight together."""
SMALL_BYTES = 1 << 10
"""Values up to this size are batched by count; their sizes need not be read first."""


def split_by_bytes(items: Iterable[T], size_of: Callable[[T], int], max_items: int) -> Iterator[list[T]]:
    """Split items, in order, into runs of at most `max_items` and RUN_BYTES. A larger item gets a run of its own."""
    run, run_bytes = list[T](), 0
    for item in items:
        item_bytes = size_of(item)
        if run and (len(run) >= max_items or run_bytes + item_bytes > RUN_BYTES):
            yield run
            run, run_bytes = [], 0
        run.append(item)
        run_bytes += item_bytes
    if run:
        yield run

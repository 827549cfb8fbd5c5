"""Whether a history is linearizable: some order of its operations, each between its request and its response, explains
all responses.

Wing and Gong's search, with Lowe's memory of what was tried: from each state, each operation that nothing unfinished
precedes. A refusal, or a look, that fits is taken at once: to take it later explains no more."""

import math
from collections.abc import Callable, Hashable, Sequence
from typing import Any, NamedTuple

MOST_STATES = 200_000
"""A history that needs more is not judged."""


class Operation(NamedTuple):
    """An operation on one thing, and its outcome."""

    asked: float
    answered: float
    what: str
    about: tuple[Any, ...] = ()
    outcome: str = "ok"
    """`ok`, or the refusal."""
    certain: bool = True
    """Whether it happened; else it may have, at any time after it was asked."""


Step = Callable[[Any, Operation], Hashable | None]
"""The state after an operation; None where it can't be answered so in this state."""


class TooLong(Exception):
    """The search was given up."""


def is_linearizable(history: Sequence[Operation], start: Hashable, step: Step) -> bool:
    """Whether there is such an order. Raises TooLong."""
    operations = sorted(history, key=lambda one: one.asked)
    tried: set[tuple[int, Hashable]] = set()
    left = [(0, start)]
    while left:
        done, state = left.pop()
        if (done, state) in tried:
            continue
        tried.add((done, state))
        if len(tried) > MOST_STATES:
            raise TooLong
        waiting = [one.answered for place, one in enumerate(operations) if one.certain and not done >> place & 1]
        if not waiting:
            return True
        first_answer, open_ = _open(operations, done)
        if first_answer == math.inf:
            return True
        following: list[tuple[int, Hashable]] = []
        for place in open_:
            one = operations[place]
            if one.asked > first_answer or (then := step(state, one)) is None:
                continue
            if then == state and one.certain and one.outcome != "ok":
                following = [(done | 1 << place, then)]
                break
            if then != state or one.certain:
                following.append((done | 1 << place, then))
        left += following
    return False


def _open(operations: Sequence[Operation], done: int) -> tuple[float, list[int]]:
    """When the first certain operation that is not done was answered (inf: none), and those that were asked by then."""
    first_answer, candidates = math.inf, []
    lowest = (~done & (done + 1)).bit_length() - 1
    for place in range(lowest, len(operations)):
        one = operations[place]
        if one.asked > first_answer:
            break
        if not done >> place & 1:
            candidates.append(place)
            if one.certain:
                first_answer = min(first_answer, one.answered)
    return first_answer, candidates

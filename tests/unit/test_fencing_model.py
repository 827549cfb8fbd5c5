"""All orders of the steps around a failover: once a later epoch is open on another server, no API answers from the old
primary (docs/internals/decisions/0047). tests/unit/test_committee_model.py has those of a cluster.

A is the old primary of epoch 1, R its replica, N an unrelated server. The rules and the times are the service's own: an
API's are `Confirmed`, a worker's the wait of an opening. A process that is stopped, a connection that is cut, and a
Postgres that is away are steps that don't happen: time passes without them.
"""

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import ceil
from typing import NamedTuple

import pytest

from service.engine.hot.fencing import Confirmed, Nonce
from service.engine.worker.opening.partition_opening import SETTLE_S

TICK_S, MOST_TICKS = 0.5, 4
EPOCH = Nonce("one", "postgres", "a" * 40)


class State(NamedTuple):
    """Ages are in ticks."""

    a_is_fenced: bool = False
    is_recorded: bool = True
    """Whether epoch 1 is open in Postgres."""
    knows: bool = True
    """Whether the API uses epoch 1."""
    age: int = 0
    asks_postgres: tuple[int, bool | None] | None = None
    """Since when, and the answer."""
    is_promoted: bool = False
    """Whether R follows no server."""
    opening: tuple[str, int] | None = None
    """The server, and how long the opening has waited."""
    is_open: bool = False
    """Whether another server than A is open."""


@dataclass(frozen=True)
class Rules:
    """The service's rules, or with a mistake."""

    settle_s: float = SETTLE_S
    is_fresh: Callable[[Confirmed, float], bool] = Confirmed.is_fresh
    counts_from_reply: bool = False


def _steps(state: State, rules: Rules) -> Iterator[State]:
    yield _time(state)
    if not (state.is_promoted and state.opening and state.opening[0] == "R"):
        yield state._replace(is_promoted=not state.is_promoted)
    yield from _asking(state, rules)
    if not state.is_open:
        yield from _opening(state, rules)


def _time(s: State) -> State:
    older = [min(age + 1, MOST_TICKS) for age in range(MOST_TICKS + 1)]
    asks_postgres = s.asks_postgres and (older[s.asks_postgres[0]], s.asks_postgres[1])
    opening = s.opening and (s.opening[0], older[s.opening[1]])
    return s._replace(age=older[s.age], asks_postgres=asks_postgres, opening=opening)


def _asking(s: State, rules: Rules) -> Iterator[State]:
    """The API asks Postgres, and gets a reply or none."""
    if s.asks_postgres:
        age, answer = s.asks_postgres
        yield s._replace(asks_postgres=None)
        if answer is None:
            yield s._replace(asks_postgres=(age, s.is_recorded))
        elif not answer:
            yield s._replace(asks_postgres=None, knows=False)
        else:
            at = 0.0 if rules.counts_from_reply else -age * TICK_S
            confirmed = Confirmed(EPOCH, -s.age * TICK_S).by_postgres(at)
            yield s._replace(asks_postgres=None, age=round(-confirmed.at / TICK_S))
    elif s.knows:
        yield s._replace(asks_postgres=(0, None))


def _opening(s: State, rules: Rules) -> Iterator[State]:
    """A worker opens a server, or dies before it does."""
    if s.opening:
        name, waited = s.opening
        yield s._replace(opening=None)
        if waited >= ceil(rules.settle_s / TICK_S):
            yield s._replace(opening=None, is_open=name != "A", a_is_fenced=s.a_is_fenced or name == "A")
        return
    for name, is_there in {"A": True, "R": s.is_promoted, "N": True}.items():
        if is_there:
            yield s._replace(is_recorded=False, opening=(name, 0))


def explore(rules: Rules) -> str:
    """The first state in which A answers after another server is open; '' if there is none."""
    start = State()
    seen, left = {start}, deque([start])
    while left:
        for state in _steps(left.popleft(), rules):
            if state in seen or state.a_is_fenced or not state.knows:
                continue  # from then on A answers nothing
            if state.is_open and rules.is_fresh(Confirmed(EPOCH, -state.age * TICK_S), 0.0):
                return str(state)
            seen.add(state)
            left.append(state)
    return ""


MISTAKES = {
    "no wait": Rules(settle_s=0),
    "too short a wait": Rules(settle_s=SETTLE_S / 2),
    "freshness not checked": Rules(is_fresh=lambda *_: True),
    "age counted from the reply": Rules(counts_from_reply=True),
}


def test_an_old_primary_answers_nothing() -> None:
    """No order of the steps lets an answer of epoch 1 come from A after another server is open."""
    assert explore(Rules()) == ""


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_found(name: str) -> None:
    """Each planted mistake leads to such an answer."""
    assert explore(MISTAKES[name])

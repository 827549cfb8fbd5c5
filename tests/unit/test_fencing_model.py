"""All orders of the steps around a failover: once a later epoch is open on another server, no API answers from the old
primary (docs/decisions/0047).

A is the old primary of epoch 1, R its replica, R2 a second replica, N an unrelated server. The rules and the times are
the service's own: an API's are `Confirmed`, a worker's `has_lost_replica` and the waits of an opening. A process that
is stopped, a connection that is cut, and a Postgres that is away are steps that don't happen: time passes without them.
Not allowed, as 0047 says: promoting R2 before the API or a worker has seen it, and taking R from N while N is opened.
"""

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import ceil
from typing import NamedTuple

import msgspec
import pytest

from service.access.keyring import MAX_AGE_S
from service.hot.fencing import Confirmed, Fencing, Nonce
from service.hot.fitness import Replica, Replication
from service.worker.old_server import CUT_OFF_S, has_lost_replica
from service.worker.opening import LAG_SETTLE_S, SETTLE_S

TICK_S, MOST_TICKS = 0.5, 4
SPAN_S, MOST_SPANS = 300, 3
"""Spans of time in which the replica confirms the epoch all the while."""
SENT, ACKED, OTHER = 20, 20, 10
"""Offsets: of the API's message, of its acknowledgement, of an older acknowledgement."""


class State(NamedTuple):
    """Ages are in ticks, but for `keys` and `closed`: in spans."""

    a_is_fenced: bool = False
    is_recorded: bool = True
    """Whether epoch 1 is open in Postgres."""
    knows: bool = True
    """Whether the API uses epoch 1."""
    age: int = 0
    had_other: bool = False
    keys: int = 0
    """Since the API reached Postgres."""
    asks_postgres: tuple[int, bool | None] | None = None
    """Since when, and the answer."""
    asks_replica: tuple[int, int] | None = None
    """Since when, and what R has acknowledged by A's knowledge; 0 if A has not sent it."""
    r: str = "A"
    """Whose replica it is: `A`, `N`, or nobody's (`itself`)."""
    lists_r: bool = True
    r2: str = "away"
    saw_r2: bool = False
    closed: int | None = None
    """Since the partition was closed for a wait."""
    begun: str = ""
    """The last server on which an opening was begun."""
    opening: tuple[str, int, int] | None = None
    """The server, how long the opening waits, how long it must."""
    is_open: bool = False
    """Whether another server than A is open."""


@dataclass(frozen=True)
class Rules:
    """The service's rules, or with a mistake."""

    fencing: Fencing
    settle_s: float = SETTLE_S
    lag_settle_s: float = LAG_SETTLE_S
    cut_off_s: float = CUT_OFF_S
    is_fresh: Callable[[Confirmed, float], bool] = Confirmed.is_fresh
    by_replica: Callable[[Confirmed, float, float, Replication, Replication], Confirmed] = Confirmed.by_replica
    has_lost: Callable[[Nonce, Replication], bool] = has_lost_replica
    counts_from_reply: bool = False
    uses_begun: bool = False
    has_owner: bool = True
    """With `log`: whether A answers only until R is promoted."""
    steps: frozenset[str] = frozenset("RN")
    """What may happen: R is promoted or moved, an operator leads the service to N, R2 comes, spans of time pass."""

    @property
    def nonce(self) -> Nonce:
        return Nonce("one", self.fencing, "a" * 40, "r:1" if self.fencing == "lag" else "")


def _server(name: str, state: State, acked: int = 0) -> Replication:
    """What a server reports."""
    has_r = state.lists_r if name == "A" else name == state.r
    addresses = ["r:1"] * has_r + ["r2:1"] * (name == state.r2 == "A")
    replicas = tuple(Replica(address, is_online=True, offset=acked) for address in addresses)
    history, former = {"A": ("a" * 40, ""), "N": ("d" * 40, "")}.get(name, ("b" * 40, "a" * 40))
    about = {"history": history, "former": former, "count": len(replicas), "replicas": replicas}
    return Replication(is_primary=True, offset=SENT, is_clustered=False, **about)  # type: ignore[arg-type]


def _steps(state: State, rules: Rules) -> Iterator[State]:
    yield from _time(state, rules)
    yield from _faults(state, rules)
    yield from _asking(state, rules)
    if not state.is_open:
        yield from _opening(state, rules)


def _time(s: State, rules: Rules) -> Iterator[State]:
    older = [min(age + 1, MOST_TICKS) for age in range(MOST_TICKS + 1)]
    postgres = s.asks_postgres and (older[s.asks_postgres[0]], s.asks_postgres[1])
    replica = s.asks_replica and (older[s.asks_replica[0]], s.asks_replica[1])
    opening = s.opening and (s.opening[0], older[s.opening[1]], s.opening[2])
    yield s._replace(age=older[s.age], asks_postgres=postgres, asks_replica=replica, opening=opening)
    is_confirmed = s.r == "A" and s.r2 != "A" and s.age == 0 and not s.had_other
    if "spans" in rules.steps and s.keys < MOST_SPANS and is_confirmed and not s.opening:
        closed = None if s.closed is None else min(s.closed + 1, MOST_SPANS)
        yield s._replace(keys=s.keys + 1, closed=closed, asks_postgres=None, asks_replica=None)


def _faults(s: State, rules: Rules) -> Iterator[State]:
    opens = s.opening[0] if s.opening else ""
    if s.r == "A" and "R" in rules.steps:
        yield s._replace(r="itself")
        yield s._replace(r="N")
    elif s.r != "A" and opens not in ("R", "N") and rules.fencing != "log":
        yield s._replace(r="A", lists_r=True)
    if s.r != "A" and s.lists_r:
        yield s._replace(lists_r=False)
    if s.r2 == "away" and "R2" in rules.steps:
        yield s._replace(r2="A")
    if s.r2 == "A" and (s.saw_r2 or s.a_is_fenced):
        yield s._replace(r2="itself")


def _asking(s: State, rules: Rules) -> Iterator[State]:
    """The API asks Postgres and the replica, and gets replies or none."""
    confirmed = Confirmed(rules.nonce, -s.age * TICK_S, s.had_other)
    if s.asks_postgres:
        age, answer = s.asks_postgres
        yield s._replace(asks_postgres=None)
        if answer is None:
            yield s._replace(asks_postgres=(age, s.is_recorded))
        elif not answer:
            yield s._replace(asks_postgres=None, knows=False)
        else:
            at = 0.0 if rules.counts_from_reply else -age * TICK_S
            yield s._replace(asks_postgres=None, age=_age_of(confirmed.by_postgres(at)), keys=0)
    elif s.knows:
        yield s._replace(asks_postgres=(0, None))
    yield from _asking_replica(s, rules, confirmed)


def _asking_replica(s: State, rules: Rules, confirmed: Confirmed) -> Iterator[State]:
    if not s.asks_replica:
        if s.knows and rules.fencing == "lag":
            yield s._replace(asks_replica=(0, 0))
        return
    age, acked = s.asks_replica
    if not acked:
        yield s._replace(asks_replica=(age, 1))
        return
    if s.lists_r and acked < OTHER:
        yield s._replace(asks_replica=(age, OTHER))
    if s.lists_r and s.r == "A":
        yield s._replace(asks_replica=(age, ACKED))
    server = _server("A", s, acked)
    after = rules.by_replica(confirmed, -age * TICK_S, 0.0, server, server)
    saw = s.saw_r2 or s.r2 == "A"
    yield s._replace(asks_replica=None, age=_age_of(after), had_other=after.had_other_replica, saw_r2=saw)


def _age_of(confirmed: Confirmed) -> int:
    return round(-confirmed.at / TICK_S)


def _opening(s: State, rules: Rules) -> Iterator[State]:
    """A worker opens a server, or dies before it does."""
    if s.opening:
        name, waited, wait = s.opening
        yield s._replace(opening=None)
        if waited >= wait:
            yield s._replace(opening=None, is_open=name != "A", a_is_fenced=s.a_is_fenced or name == "A")
        return
    places = {"A": True, "R": s.r == "itself", "R2": s.r2 == "itself", "N": "N" in rules.steps}
    for name in [name for name, is_there in places.items() if is_there]:
        server, last = _server(name, s), rules.nonce
        if rules.uses_begun and s.begun:
            last = Nonce("two", "postgres", _server(s.begun, s).history)
        must_outlast = last.fencing == "lag" and last.history != server.history
        has_waited = s.closed is not None and s.closed * SPAN_S >= rules.cut_off_s
        if must_outlast and not has_waited and not rules.has_lost(last, server):
            yield s._replace(is_recorded=False, closed=s.closed or 0)
            continue
        wait = ceil((rules.lag_settle_s if must_outlast else rules.settle_s) / TICK_S)
        yield s._replace(is_recorded=False, begun=name if rules.uses_begun else "", opening=(name, 0, wait))


def _answers(s: State, rules: Rules) -> bool:
    """Whether the API would answer from A."""
    if not s.knows or s.a_is_fenced or s.keys * SPAN_S >= MAX_AGE_S:
        return False
    if rules.fencing == "log" and rules.has_owner and s.r == "itself":
        return False
    return rules.is_fresh(Confirmed(rules.nonce, -s.age * TICK_S, s.had_other), 0.0)


def explore(rules: Rules) -> str:
    """The first state in which A answers after another server is open; '' if there is none."""
    start = State()
    seen, left = {start}, deque([start])
    while left:
        for state in _steps(left.popleft(), rules):
            if state in seen or state.a_is_fenced or not state.knows:
                continue  # from then on A answers nothing
            if state.is_open and _answers(state, rules):
                return str(state)
            seen.add(state)
            left.append(state)
    return ""


ALONE, SECOND, SPANS = frozenset("R"), frozenset(["R2"]), frozenset(["N", "spans"])
RIGHT = {
    "postgres": Rules("postgres"),
    "lag": Rules("lag"),
    "lag, a second replica": Rules("lag", steps=SECOND),
    "lag, for minutes": Rules("lag", steps=SPANS),
    "log": Rules("log", steps=ALONE),
}


def _by_any_acknowledgement(one: Confirmed, at: float, now: float, sent: Replication, server: Replication) -> Confirmed:
    """Believes an acknowledgement that was read now, whatever it acknowledges."""
    return one.by_replica(at, now, msgspec.structs.replace(sent, offset=1), server)


def _after_a_break(one: Confirmed, at: float, now: float, sent: Replication, server: Replication) -> Confirmed:
    """Lets the replica confirm an epoch again after its last confirmation was too old."""
    return one._replace(at=max(one.at, one._replace(at=now).by_replica(at, now, sent, server).at))


def _beside_another(one: Confirmed, at: float, now: float, sent: Replication, server: Replication) -> Confirmed:
    """Ignores a second replica."""
    own = tuple(replica for replica in server.replicas if replica.address == one.nonce.replica)
    return one.by_replica(at, now, sent, msgspec.structs.replace(server, replicas=own, count=len(own)))


MISTAKES = {
    "postgres: no wait": Rules("postgres", settle_s=0),
    "postgres: too short a wait": Rules("postgres", settle_s=SETTLE_S / 2),
    "postgres: freshness not checked": Rules("postgres", is_fresh=lambda *_: True),
    "postgres: age counted from the reply": Rules("postgres", counts_from_reply=True),
    "lag: no wait": Rules("lag", lag_settle_s=0),
    "lag: the wait of postgres": Rules("lag", lag_settle_s=SETTLE_S),
    "lag: freshness not checked": Rules("lag", is_fresh=lambda *_: True),
    "lag: age counted from the reply": Rules("lag", counts_from_reply=True),
    "lag: any acknowledgement counts": Rules("lag", by_replica=_by_any_acknowledgement),
    "lag: a replica that came back confirms": Rules("lag", by_replica=_after_a_break),
    "lag: a second replica ignored": Rules("lag", steps=SECOND, by_replica=_beside_another),
    "lag: the nonce of an epoch that was only begun": Rules("lag", uses_begun=True),
    "lag: any server taken for the promoted replica": Rules("lag", has_lost=lambda last, server: True),
    "lag: too short a wait for processes that are cut off": Rules("lag", steps=SPANS, cut_off_s=MAX_AGE_S / 2),
    "log: declared for a server whose log has no owner": Rules("log", steps=ALONE, has_owner=False),
    "log: the service moved while the old server runs": Rules("log"),
}


@pytest.mark.parametrize("name", RIGHT)
def test_an_old_primary_answers_nothing(name: str) -> None:
    """No order of the steps lets an answer of epoch 1 come from A after another server is open."""
    assert explore(RIGHT[name]) == ""


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_found(name: str) -> None:
    """Each planted mistake leads to such an answer."""
    assert explore(MISTAKES[name])

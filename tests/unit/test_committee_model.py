"""All orders of the steps of a cluster, an API and a worker: once a later epoch is open on another node, the old one
gives the API no answer (docs/internals/decisions/0054).

A serves the slot in epoch 1, B takes it, both may take it again, and the three nodes of the committee learn of each
claim when they will. The rules and the times are the service's own: an API's are `Confirmed`, a worker's
`has_lost_slot` and the wait of an opening. What is stopped, cut or away takes no step while time passes.
"""

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from math import ceil
from typing import NamedTuple

import pytest

from service.engine.hot.cluster import Claim
from service.engine.hot.fencing import Confirmed, Nonce
from service.engine.worker.opening.old_server import has_lost_slot
from service.engine.worker.opening.partition_opening import COMMITTEE_SETTLE_S, SETTLE_S

TICK_S = 0.8
NEVER = 2
"""An age in ticks, that of the last confirmation that is too old, and of all that is older."""
NODES = "xyz"
LAST = Nonce("one", "cluster", "a" * 40, node="A", committee=tuple(NODES))


class Member(NamedTuple):
    """A node of the committee. Ages are in ticks, NEVER for none."""

    claim: int = 1
    """The newest that it has seen."""
    asked: int = NEVER
    """Of the API's question."""
    named_a: bool = False
    """Whether its reply, which is under way, names A."""
    counted: int = NEVER
    """Of the question to which it named A, once the API has the reply."""
    read: int = 0
    """The claim of B that the worker has read there."""


class State(NamedTuple):
    """Odd claims are A's, even ones B's, in the order of their configuration epochs."""

    claim: int = 1
    members: tuple[Member, ...] = (Member(),) * len(NODES)
    age: int = 0
    """Of the API's last confirmation."""
    own: int = 0
    """B's claim, as the worker has read it at B."""
    step: str = ""
    """`checked` once a majority has reported B, `opening` from when the partition is closed, `open` after the wait."""
    waited: int = 0


@dataclass(frozen=True)
class Rules:
    """The service's rules, or with a mistake."""

    settle_s: float = COMMITTEE_SETTLE_S
    by_node: Callable[[Confirmed, float, float, Claim], Confirmed] = Confirmed.by_node
    is_fresh: Callable[[Confirmed, float], bool] = Confirmed.is_fresh
    has_lost: Callable[[Nonce, Claim, list[Claim]], bool] = has_lost_slot
    counts_from_reply: bool = False
    forgets: bool = False
    """Whether a node that restarts has an older claim."""
    may_return: bool = False
    """Whether the slot comes back to A and leaves once more, and an operator gives it back to A by force, which slept
    meanwhile. Then all replies come at once, and Postgres is away."""
    waits_from: str = "opening"
    """From which step on the wait counts."""
    checks_claim: bool = True
    """Whether the worker opens B only if its claim is still the one of the reports."""


def explore(rules: Rules) -> str:
    """The first state in which A answers the API after B is open; '' if there is none."""
    seen, left = {State()}, deque([State()])
    while left:
        for state in _steps(left.popleft(), rules):
            same = State(state.claim, tuple(sorted(state.members)), *state[2:])  # the nodes are alike
            if same in seen:
                continue
            if same.step == "open" and _answers(same, rules):
                return str(same)
            seen.add(same)
            left.append(same)
    return ""


def _confirmed(age: int, counted: tuple[int, ...]) -> Confirmed:
    reported = {node: -at * TICK_S for node, at in zip(NODES, counted, strict=True) if at < NEVER}
    return Confirmed(LAST, -age * TICK_S, reported=reported)


def _answers(s: State, rules: Rules) -> bool:
    """Whether the API would use an answer of A."""
    return rules.is_fresh(_confirmed(s.age, tuple(one.counted for one in s.members)), 0.0)


def _claim(reporter: str, number: int) -> Claim:
    return Claim(reporter, "BA"[number % 2], number)


def _steps(s: State, rules: Rules) -> Iterator[State]:
    yield _tick(s, rules)
    if s.step in ("", "checked") and not rules.may_return:
        yield s._replace(age=0)  # Postgres confirms the epoch, as long as the partition is open there
    if s.claim < (4 if rules.may_return else 2):
        yield s._replace(claim=s.claim + 1)
    for at, member in enumerate(s.members):
        for after in _learn(member, s.claim, rules.forgets):
            yield _with(s, at, after)
        yield from _asking(s, at, member, rules)
    if s.step != "open":
        yield from _worker(s, rules)


def _with(s: State, at: int, member: Member) -> State:
    return State(s.claim, (*s.members[:at], member, *s.members[at + 1 :]), *s[2:])


def _tick(s: State, rules: Rules) -> State:
    waited = min(s.waited + 1, NEVER) if s.step in ("opening", rules.waits_from) else 0
    return s._replace(members=tuple(map(_older, s.members)), age=min(s.age + 1, NEVER), waited=waited)


@cache
def _older(one: Member) -> Member:
    asked = min(one.asked + 1, NEVER)
    named_a = one.named_a and asked < NEVER
    return one._replace(asked=asked, named_a=named_a, counted=min(one.counted + 1, NEVER))


@cache
def _learn(member: Member, newest: int, forgets: bool) -> tuple[Member, ...]:
    """It sees a claim, or restarts."""
    return tuple(member._replace(claim=claim) for claim in range(1 if forgets else member.claim + 1, newest + 1))


def _asking(s: State, at: int, member: Member, rules: Rules) -> Iterator[State]:
    """The API asks it, it replies, and the reply arrives."""
    if rules.may_return:
        member = member._replace(asked=0, named_a=member.claim % 2 == 1)
    elif member.asked == NEVER:
        yield _with(s, at, member._replace(asked=0))
        return
    if member.claim % 2 and not member.named_a:
        yield _with(s, at, member._replace(named_a=True))
    asked, number = 0 if rules.counts_from_reply else member.asked, 1 if member.named_a else member.claim
    age, counted = _reply(rules, s.age, tuple(one.counted for one in s.members), asked, NODES[at], number)
    answered = Member(member.claim, counted=counted, read=member.read)
    yield _with(s._replace(age=age) if age != s.age else s, at, answered)


@cache
def _reply(rules: Rules, age: int, counted: tuple[int, ...], asked: int, reporter: str, number: int) -> tuple[int, int]:
    """The age of the last confirmation, and of the question that counts for the claim's reporter, after a reply."""
    claim = _claim(reporter, number)
    after = rules.by_node(_confirmed(age, counted), -asked * TICK_S, 0.0, claim)
    return round(-after.at / TICK_S), round(-after.reported.get(claim.reporter, -NEVER * TICK_S) / TICK_S)


def _worker(s: State, rules: Rules) -> Iterator[State]:
    """It reads B's claim, then the reports one by one. If B has the slot, it closes the partition in Postgres. It opens
    B after the wait if B's claim is still the same."""
    if s.step == "checked":
        yield s._replace(step="opening")
    elif s.step and s.waited >= ceil(rules.settle_s / TICK_S) and (s.own == s.claim or not rules.checks_claim):
        yield s._replace(step="open", own=0, members=tuple(one._replace(read=0) for one in s.members))
    if s.step:
        return
    if s.claim % 2 == 0 and s.own != s.claim:
        yield s._replace(own=s.claim)
    for at, member in enumerate(s.members):
        if s.own and member.claim % 2 == 0 and member.read != member.claim:
            yield _with(s, at, member._replace(read=member.claim))
    if s.claim % 2 == 0 and s.own and _has_lost(rules, s.own, tuple(member.read for member in s.members)):
        yield s._replace(step="checked", waited=0)


@cache
def _has_lost(rules: Rules, own: int, read: tuple[int, ...]) -> bool:
    """Whether the worker takes the slot for lost to A, with B's own claim and what it has read at each node."""
    reports = [_claim(node, number) for node, number in zip(NODES, read, strict=True) if number]
    return rules.has_lost(LAST, _claim("B", own), reports)


def _after_a_break(one: Confirmed, at: float, now: float, claim: Claim) -> Confirmed:
    """Lets the committee confirm an epoch again after its last confirmation was too old."""
    after = one._replace(at=now).by_node(at, now, claim)._replace(at=one.at)
    ages = sorted(after.reported.values(), reverse=True)
    return after._replace(at=max(one.at, ages[1])) if len(ages) > 1 else after


def _by_any_node(one: Confirmed, at: float, now: float, claim: Claim) -> Confirmed:
    """Takes one node for a majority."""
    after = one.by_node(at, now, claim)
    return after._replace(at=max(one.at, *after.reported.values())) if after.reported and one.is_fresh(now) else after


def _as_of_the_newest(one: Confirmed, at: float, now: float, claim: Claim) -> Confirmed:
    """Takes the newest reply of a majority for the time of all."""
    after = one.by_node(at, now, claim)
    return after._replace(at=max(one.at, *after.reported.values())) if len(after.reported) > 1 else after


def _whoever_is_named(one: Confirmed, at: float, now: float, claim: Claim) -> Confirmed:
    """Counts a reply that names another owner."""
    return one.by_node(at, now, claim._replace(owner="A"))


def _by_any_report(last: Nonce, own: Claim, reports: list[Claim]) -> bool:
    """Asks another committee, in which B and one of the last committee are a majority."""
    return has_lost_slot(last._replace(committee=tuple(one.reporter for one in reports)), own, reports)


def _by_any_claim(last: Nonce, own: Claim, reports: list[Claim]) -> bool:
    """Counts reports of B as the owner by an older claim."""
    return has_lost_slot(last, own, [one._replace(config_epoch=own.config_epoch) for one in reports])


RIGHT = {"cluster": Rules(), "cluster, a slot that comes back": Rules(may_return=True)}
MISTAKES = {
    "no wait": Rules(settle_s=0),
    "the wait of postgres": Rules(settle_s=SETTLE_S),
    "the wait counts from before the partition is closed": Rules(waits_from="checked"),
    "freshness not checked": Rules(is_fresh=lambda *_: True),
    "age counted from the reply": Rules(counts_from_reply=True),
    "one node confirms": Rules(by_node=_by_any_node),
    "the newest of a majority's replies counts": Rules(by_node=_as_of_the_newest),
    "any owner counts": Rules(by_node=_whoever_is_named),
    "confirms again after a break": Rules(by_node=_after_a_break, may_return=True),
    "the new committee is asked": Rules(has_lost=_by_any_report),
    "no committee is asked": Rules(has_lost=lambda *_: True),
    "reports of an older claim count": Rules(has_lost=_by_any_claim, may_return=True),
    "the server's claim is not checked again": Rules(checks_claim=False, may_return=True),
    "a node forgets claims that it reported": Rules(forgets=True),
}


@pytest.mark.parametrize("name", RIGHT)
def test_an_old_owner_answers_nothing(name: str) -> None:
    """No order of the steps lets an answer of epoch 1 come from A after B is open."""
    assert explore(RIGHT[name]) == ""


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_found(name: str) -> None:
    """Each planted mistake leads to such an answer."""
    assert explore(MISTAKES[name])

"""Postgres: the partitions' rows, the facts, and the configuration. Each method is one transaction.

`restore` brings everything back to an earlier time, sequences included.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tests.simulation.events import NO_HISTORY, Event, History, Id, Kept, RedemptionId, Told, kept_of
from tests.simulation.redis_model import Book, Code

if TYPE_CHECKING:
    from tests.simulation.world import World

Row = Code | Book


@dataclass(slots=True)
class Partition:
    """As sql/migrations/0001_partitions.sql has it, with what the model's fixes add."""

    epoch: int = 0
    nonce: int = 0
    replid: int = 0
    state: str = "closed"
    cursor: Id = (0, 0)
    digest: Event | None = None
    fence: int = 0
    holder: str = ""
    lease_until: float = 0.0
    incarnation: int = 0
    """Of the Postgres in which a worker has seen that Redis is not ahead: a restored one is another."""
    rebuild_ordered: bool = False
    config_version: int = 0


@dataclass(slots=True)
class State:
    """All that a backup holds."""

    at: float
    partitions: dict[int, Partition] = field(default_factory=dict)
    facts: dict[int, list[Event]] = field(default_factory=dict)
    config: dict[int, dict[str, Row]] = field(default_factory=dict)
    closed: dict[tuple[int, int], int] = field(default_factory=dict)
    """Partition and epoch → the last number that was recorded of it."""
    aside: set[tuple[int, int, int, int]] = field(default_factory=set)
    epochs: int = 0
    fences: int = 0


class Postgres:
    """The record. `told` and `histories` are the checks' view of the facts."""

    def __init__(self, world: World, partitions: Sequence[int]) -> None:
        self._world = world
        self.incarnation = 1
        self.clock_skew = 0.0
        self.away_until = 0.0
        self.backups: list[State] = []
        self.state = State(0.0)
        for p in partitions:
            self.state.partitions[p] = Partition(incarnation=1)
            self.state.facts[p] = []
            self.state.config[p] = {}
        self.told = {p: Told() for p in partitions}
        self.histories: dict[int, History] = dict.fromkeys(partitions, NO_HISTORY)
        self.recorded: dict[int, set[int]] = {p: set() for p in partitions}

    def _clock(self) -> float:
        return self._world.now + self.clock_skew

    # -- reads

    def row(self, p: int) -> Partition:
        """A copy of a partition's row."""
        return copy.copy(self.state.partitions[p])

    def is_confirmed(self, p: int) -> bool:
        """Whether this is the Postgres that was compared with Redis, and not one restored since."""
        if "postgres restored unseen" in self._world.planted:
            return True
        return self.state.partitions[p].incarnation == self.incarnation

    def fact(self, p: int, event_id: Id) -> Event | None:
        """The event that the record has under this id."""
        return next((event for event in reversed(self.state.facts[p]) if event.id == event_id), None)

    def facts_after(self, p: int, event_id: Id) -> list[Event]:
        """Recorded events past this id, in order."""
        return [event for event in self.state.facts[p] if event.id > event_id]

    def record_of(self, p: int, name: Id | RedemptionId) -> Event | None:
        """The redemption of an event, or of this id."""
        found = (event for event in reversed(self.state.facts[p]) if event.kind == "R" and event.id == name[:2])
        return next((event for event in found if name in (event.id, event.redemption_id)), None)

    def keys_after(self, p: int, event_id: Id) -> dict[str, Kept]:
        """What is kept under the keys of recorded events past this id."""
        return {event.key: kept_of(event) for event in self.facts_after(p, event_id) if event.key}

    def changes_since(self, p: int, version: int) -> list[tuple[str, Row]]:
        """Rows that are newer, in the order of their versions."""
        rows = [(name, row) for name, row in self.state.config[p].items() if row.version > version]
        return sorted(rows, key=lambda named: (named[1].version, named[0]))

    # -- leases and epochs

    def take_lease(self, p: int, holder: str, ttl: float) -> int | None:
        """A fence of its own, or None while another has the lease."""
        row = self.state.partitions[p]
        if row.holder and row.holder != holder and row.lease_until > self._clock():
            return None
        self.state.fences += 1
        counted = "fences from a sequence" in self._world.planted
        row.fence = self.state.fences if counted else self._world.unique()
        row.holder, row.lease_until = holder, self._clock() + ttl
        self._world.check.leased(p, holder)
        return row.fence

    def renew_lease(self, p: int, fence: int, ttl: float) -> bool:
        """Whether the lease is still ours."""
        row = self.state.partitions[p]
        if row.fence != fence:
            return False
        row.lease_until = self._clock() + ttl
        return True

    def begin_epoch(self, p: int, fence: int, nonce: int, replid: int) -> int | None:
        """A new epoch from the one sequence; None where the fence is another's."""
        row = self.state.partitions[p]
        if row.fence != fence:
            return None
        if "epoch numbered per partition" in self._world.planted:
            row.epoch += 1
        else:
            self.state.epochs += 1
            row.epoch = self.state.epochs
        row.nonce, row.replid, row.state = nonce, replid, "closed"
        return row.epoch

    def enter_epoch(self, p: int, fence: int, cursor: Id, first: Event, by: str) -> bool:
        """Move the cursor to `<epoch>-0`, and say where the record of the old epoch ended."""
        row = self.state.partitions[p]
        if not self._may_move(row, fence, cursor) or not row.cursor[0] < first.epoch <= row.epoch:
            return False
        self._world.check.committed(p, by)
        self.state.closed[p, cursor[0]] = cursor[1]
        row.cursor, row.digest = first.id, first
        return True

    def move_to_mended(self, p: int, fence: int, cursor: Id, mended: Event, by: str) -> bool:
        """As enter_epoch, where the cursor had entered already: what was drained was rebuilt all the same."""
        row = self.state.partitions[p]
        if not self._may_move(row, fence, cursor):
            return False
        self._world.check.committed(p, by)
        row.cursor, row.digest = mended.id, mended
        return True

    def confirm_open(self, p: int, fence: int, epoch: int, incarnation: int) -> bool:
        """Say that the epoch's Redis may decide; False, too, where this is not the Postgres that it was mended from."""
        row = self.state.partitions[p]
        if row.fence != fence or row.epoch != epoch or row.cursor[0] != epoch:
            return False
        if incarnation != self.incarnation and "postgres restored unseen" not in self._world.planted:
            return False
        row.state, row.rebuild_ordered, row.incarnation = "open", False, self.incarnation
        return True

    def confirm_incarnation(self, p: int, fence: int, incarnation: int) -> None:
        """Say that Redis is not ahead of this Postgres."""
        row = self.state.partitions[p]
        if row.fence == fence and incarnation == self.incarnation:
            row.incarnation = incarnation

    # -- facts

    def _may_move(self, row: Partition, fence: int, cursor: Id) -> bool:
        return row.cursor == cursor and (row.fence == fence or "cursor compare without fence" in self._world.planted)

    def record(self, p: int, fence: int, cursor: Id, events: list[Event], by: str) -> bool:
        """Write events and move the cursor, where fence and cursor are still these."""
        row = self.state.partitions[p]
        if not self._may_move(row, fence, cursor):
            return False
        self._world.check.committed(p, by)
        row.cursor, row.digest = events[-1].id, events[-1]
        self.state.facts[p] += events
        self._tell(p, events)
        return True

    def _tell(self, p: int, events: list[Event]) -> None:
        for event in events:
            self._world.check.recording(p, self.told[p], event)
            self.told[p].add(event)
            self.histories[p] = self.told[p].history
            self.recorded[p].add(event.unique)

    def set_aside(self, p: int, events: list[Event]) -> None:
        """Keep apart what the record can't follow."""
        self.state.aside |= {(p, *event.id, event.unique) for event in events}

    def is_recorded(self, p: int, event_id: Id) -> bool:
        """As service/record/facts/recorded_wait.py answers."""
        row = self.state.partitions[p]
        if event_id[0] == row.cursor[0]:
            return event_id <= row.cursor
        return event_id[1] <= self.state.closed.get((p, event_id[0]), -1)

    # -- configuration

    def change(self, p: int, rows: dict[str, Any]) -> int | None:
        """Write rows under the next version; None where this Postgres was restored and no worker has seen it yet, or
        where it has lost one of the codes: there is none to switch."""
        if not self.is_confirmed(p) or any(self._world.check.is_lost(p, name) for name in rows):
            return None
        row = self.state.partitions[p]
        row.config_version += 1
        for name, of in rows.items():
            self.state.config[p][name] = of(row.config_version)
            self._world.check.configured(p, name, self.state.config[p][name])
        return row.config_version

    # -- what operators do

    def back_up(self) -> None:
        """Keep all as it is now."""
        state = copy.copy(self.state)
        state.at = self._world.now
        state.partitions = {p: copy.copy(row) for p, row in state.partitions.items()}
        state.facts = {p: list(facts) for p, facts in state.facts.items()}
        state.config = {p: dict(rows) for p, rows in state.config.items()}
        state.closed, state.aside = dict(state.closed), set(state.aside)
        self.backups = [*self.backups[-5:], state]

    def restore(self, backup: State) -> None:
        """All of it is as it was: what came later, the checks take as lost."""
        listed = self.state.aside - backup.aside
        self.state = backup
        self.backups = [one for one in self.backups if one.at < backup.at]
        self.incarnation += 1
        before = self.recorded
        self._world.check.forget_attempts()
        self.recorded = {p: set() for p in self.state.facts}
        self.histories = dict.fromkeys(self.state.facts, NO_HISTORY)
        for p, facts in self.state.facts.items():
            self.told[p] = Told()
            self._tell(p, facts)
        listed_in = {p: {unique for of, *_, unique in listed if of == p} for p in before}
        self._world.check.restored({p: (before[p] | listed_in[p]) - self.recorded[p] for p in before})

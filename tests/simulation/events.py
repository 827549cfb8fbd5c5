"""Events, and what they come to: told plainly, for the checks, while `layout` has what Redis makes of them."""

from __future__ import annotations

from typing import Any, NamedTuple

Id = tuple[int, int]
RedemptionId = tuple[int, int, int]
"""Its event's id and time: made of these, as service/formats/events.py makes it."""


class Event(NamedTuple):
    """An entry of the outbox. `unique` stands for the times in it that no other history has."""

    partition: int
    kind: str  # O M A R B
    epoch: int
    seq: int
    unique: int
    code: str = ""
    user: str = ""
    order: str = ""
    redemption: RedemptionId = (0, 0, 0)
    """Of a rollback."""
    restore: bool = True
    key: str = ""
    attempt: int = 0

    @property
    def id(self) -> Id:
        """Epoch and number."""
        return self.epoch, self.seq

    @property
    def redemption_id(self) -> RedemptionId:
        """Of a redemption, by which clients know it."""
        return self.epoch, self.seq, self.unique

    def __str__(self) -> str:
        what = " ".join(str(part) for part in (self.kind, self.code, self.user, self.order, self.key) if part)
        return f"p{self.partition} {self.epoch}-{self.seq} {what} #{self.unique}"


class Kept(NamedTuple):
    """What Redis keeps under an Idempotency-Key: an assignment's answer, or the event of a redemption."""

    answer: Event | None
    redeemed: Id | None = None
    rolled_back: int = 0
    """The rollback's time."""
    in_outbox: bool = True
    """Whether an event has it: not that of a repeat, which made none."""


def kept_of(event: Event) -> Kept:
    """What its own event says that is kept."""
    if event.kind == "A":
        return Kept(event)
    return Kept(None, event.id) if event.kind == "R" else Kept(None, event.redemption[:2], event.unique)


class History:
    """Which events made a state, in order: a chain from the last one; equal chains are the same object.

    Seen by the checks alone, never by the protocol.
    """

    __slots__ = ("before", "last", "length", "next")

    def __init__(self, length: int, last: Event | None, before: History | None) -> None:
        self.length, self.last, self.before = length, last, before
        self.next: dict[Event, History] = {}

    def after(self, event: Event) -> History:
        """This history and one event more."""
        found = self.next.get(event)
        if found is None:
            found = self.next[event] = History(self.length + 1, event, self)
        return found

    def holds(self, other: History) -> bool:
        """Whether the other is how this one began."""
        at: History | None = self
        while at is not None and at.length > other.length:
            at = at.before
        return at is other

    def events(self) -> list[Event]:
        """All of them, oldest first."""
        found, at = [], self
        while at.last is not None and at.before is not None:
            found.append(at.last)
            at = at.before
        return found[::-1]


NO_HISTORY = History(0, None, None)
"""Before the first event; a world that begins forgets what others appended."""


class Told:
    """What a list of events comes to, written from the contract: what a Redis that has them must say."""

    def __init__(self) -> None:
        self.history = NO_HISTORY
        self.owners: dict[str, str] = {}
        self.uses: dict[str, int] = {}
        self.standing: dict[str, set[Id]] = {}
        self.orders: dict[str, tuple[Id, bool]] = {}
        self.users: dict[str, tuple[int, int]] = {}
        self.keys: dict[str, Kept] = {}
        self.redemptions: dict[RedemptionId, Event] = {}

    def add(self, event: Event) -> None:
        """One event more."""
        self.history = self.history.after(event)
        code, user, order = event.code, event.user, event.order
        taken, standing = self.users.get(user, (0, 0))
        if event.kind == "A":
            self.owners[code] = user
        elif event.kind == "R":
            self.redemptions[event.redemption_id] = event
            self.standing.setdefault(code, set()).add(event.id)
            self.uses[code] = self.uses.get(code, 0) + 1
            self.users[user] = taken + 1, standing + 1
            if order:
                self.orders[order] = event.id, False
        else:
            back = 1 if event.restore else 0
            self.standing[code].discard(event.redemption[:2])
            self.uses[code] -= back
            self.users[user] = taken - back, standing - 1
            if order and event.restore:
                del self.orders[order]
            elif order:
                self.orders[order] = event.redemption[:2], True
        if event.key:
            self.keys[event.key] = kept_of(event)

    def stands(self, redemption: RedemptionId) -> bool:
        """Whether this redemption happened and was not rolled back."""
        event = self.redemptions.get(redemption)
        return event is not None and event.id in self.standing[event.code]

    def state(self) -> dict[tuple[str, Any], Any]:
        """All of it, without what is back to nothing."""
        found: dict[tuple[str, Any], Any] = {("owner", code): user for code, user in self.owners.items()}
        found |= {("uses", code): uses for code, uses in self.uses.items() if uses}
        for code, events in self.standing.items():
            if events:
                found |= {("stand", code): frozenset(events), ("last", code): max(events)}
        found |= {("order", order): place for order, place in self.orders.items()}
        found |= {("user", user): counts for user, counts in self.users.items() if counts[0]}
        return found | {("key", key): kept for key, kept in self.keys.items()}

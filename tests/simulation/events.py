"""Events, and what each changes: the one piece of code that deciding, applying again and the record's check share."""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol


class Event(NamedTuple):
    """An entry of the outbox. `unique` stands for the ids and times in it that no other history has."""

    partition: int
    kind: str  # O A R B
    epoch: int
    seq: int
    unique: int
    code: str = ""
    user: str = ""
    order: str = ""
    redemption: int = 0
    key: str = ""
    attempt: int = 0

    @property
    def id(self) -> tuple[int, int]:
        """Epoch and number."""
        return self.epoch, self.seq

    def __str__(self) -> str:
        what = " ".join(str(part) for part in (self.kind, self.code, self.user, self.order, self.key) if part)
        return f"p{self.partition} {self.epoch}-{self.seq} {what} #{self.unique}"


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

TRAFFIC = ("uses", "owner", "order", "user", "redemption", "key")
"""The kinds of keys that events write."""


class Keys(Protocol):
    """Keys by kind and name, of one partition."""

    def get(self, kind: str, name: Any = "", default: Any = None) -> Any: ...
    def put(self, kind: str, name: Any, value: Any) -> None: ...


def apply(keys: Keys, event: Event, *, code_alone: bool = False) -> None:
    """Make the event's changes. `code_alone` leaves out what counts over codes: a planted mistake."""
    keys.put("history", "", keys.get("history", default=NO_HISTORY).after(event))
    code, user = event.code, event.user
    if event.kind == "A":
        keys.put("owner", code, user)
    elif event.kind == "R":
        keys.put("uses", code, keys.get("uses", code, 0) + 1)
        keys.put("redemption", event.redemption, (code, user, event.order, "stands"))
    elif event.kind == "B":
        keys.put("uses", code, keys.get("uses", code, 0) - 1)
        keys.put("redemption", event.redemption, (code, user, event.order, "rolled back"))
    settle(keys, code)
    if code_alone:
        return
    if event.kind != "A":
        keys.put("user", user, keys.get("user", user, 0) + (1 if event.kind == "R" else -1))
        if event.order:
            keys.put("order", event.order, event if event.kind == "R" else None)
    if event.key:
        keys.put("key", event.key, event)


def settle(keys: Keys, code: str) -> None:
    """Put a code into the free pool, or take it out, as its record says."""
    row = keys.get("code", code)
    if row is None:
        return
    free = row.active and not keys.get("uses", code, 0) and keys.get("owner", code) is None
    pool = keys.get("pool", default=frozenset())
    if free != (code in pool):
        keys.put("pool", "", pool | {code} if free else pool - {code})


class Folded:
    """What a list of events makes of nothing: the record's own view, for the checks."""

    def __init__(self) -> None:
        self.state: dict[tuple[str, Any], Any] = {}

    def get(self, kind: str, name: Any = "", default: Any = None) -> Any:
        return self.state.get((kind, name), default)

    def put(self, kind: str, name: Any, value: Any) -> None:
        if value is None:
            self.state.pop((kind, name), None)
        else:
            self.state[kind, name] = value

    def traffic(self) -> dict[tuple[str, Any], Any]:
        """What events wrote, without what is back to nothing."""
        return {key: value for key, value in self.state.items() if key[0] in TRAFFIC and value != 0}

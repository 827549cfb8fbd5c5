"""Who keeps a process's connections and memory, and who gives them up when they are all taken: for bounded_protocol.py.
Owners also take turns (reading_turns.py).

A connection's owner is the workspace of its first known caller: of a key with the scope `public` alone, which a shop's
page has for everybody, the workspace's public part. All connections without a known caller have one owner together.
"""

from collections import Counter, OrderedDict
from itertools import islice
from typing import Protocol

from service.server.fastlane.reading_turns import Reader, ReadingTurns

STRANGERS = 0
SILENT_S = 1.0
"""After this time a connection without a known caller is the first to give up its place."""
FOR_STRANGERS = 0.1
"""The part of the connections that new ones may take from known callers: time to send their credentials."""
FREE_BYTES = 4 << 10
"""Bytes that a connection may buffer uncounted: usual requests that arrive in pieces are shorter."""
MAX_BUFFERED_BYTES = 64 << 20
"""Bytes of unfinished heads, bodies and responses that all connections of a process may buffer together."""
MAX_EXAMINED = 1_000
"""Connections that are examined to find one that may give way."""
_PUBLIC = frozenset(("public",))


class Connection(Reader, Protocol):
    """The part of bounded_protocol.py that rooms use."""

    def abort(self) -> None:
        """End the connection at once."""

    def is_idle(self) -> bool:
        """Whether the connection has no whole request, and no response that is still to be sent."""

    def may_give_way(self) -> bool:
        """Whether the connection buffers anything but a whole request that is being decided."""

    def give_way(self) -> None:
        """Drop all buffers, since the owner has the most bytes. Ends the connection, once no request is decided."""


def owner_of(workspace: int, scopes: frozenset[str]) -> int:
    return -workspace if scopes == _PUBLIC else workspace


class Room:
    """The connections of a process and the bytes that they buffer, by owner, from the oldest on."""

    def __init__(self) -> None:
        self._since_s: dict[int, OrderedDict[Connection, float]] = {STRANGERS: OrderedDict()}
        self._buffered: dict[int, OrderedDict[Connection, int]] = {}
        self._buffered_bytes: Counter[int] = Counter()
        """By owner, as the others. They are ordered dicts, because a dict's first is slow to find."""
        self.buffered_bytes = 0
        """Of all connections that buffer more than FREE_BYTES."""
        self.turns = ReadingTurns()

    def enter(self, connection: Connection, now_s: float) -> None:
        """Add a new connection, of a stranger."""
        self._since_s[STRANGERS][connection] = now_s

    def admit(self, connection: Connection, owner: int, now_s: float) -> None:
        """Give a connection its owner."""
        size = self._buffered.get(connection.owner, {}).get(connection, 0)
        is_waiting = self.turns.remove(connection)
        self.leave(connection)
        connection.owner = owner
        self._since_s.setdefault(owner, OrderedDict())[connection] = now_s
        self._set(connection, size)
        if is_waiting:
            self.turns.add(connection)

    def leave(self, connection: Connection) -> None:
        """Remove a connection and its buffers."""
        owner = connection.owner
        self._set(connection, 0)
        self.turns.remove(connection)
        if connections := self._since_s.get(owner):
            connections.pop(connection, None)
            if not connections and owner != STRANGERS:
                del self._since_s[owner]

    def make_room(self, most: int, now_s: float) -> Connection | None:
        """Remove the connection that gives its place to a new one; None if there is none. It is a stranger's that has
        been silent, or that is one of many; else of the owner with the most, an idle one if possible; else a
        stranger's."""
        strangers = self._since_s[STRANGERS]
        giving = next(iter(strangers), None)
        if giving is None or (now_s - strangers[giving] < SILENT_S and len(strangers) <= most * FOR_STRANGERS):
            known = (connections for owner, connections in self._since_s.items() if owner != STRANGERS)
            largest = max(known, key=len, default=strangers)
            idle = next((one for one in islice(largest, MAX_EXAMINED) if one.is_idle()), None)
            giving = idle or next((one for one in islice(largest, MAX_EXAMINED) if one.may_give_way()), giving)
        if giving is not None:
            self.leave(giving)
        return giving

    def report_bytes(self, connection: Connection, size: int) -> None:
        """Store how many bytes a connection buffers. If all buffer too much, connections of the owner with the most
        give way, its oldest first: another owner's requests are not touched."""
        before = self._buffered.get(connection.owner, {}).get(connection, 0)
        self._set(connection, size)
        while size > before and self.buffered_bytes > MAX_BUFFERED_BYTES:
            owner = max(self._buffered_bytes, key=self._buffered_bytes.__getitem__)
            giving = next((one for one in islice(self._buffered[owner], MAX_EXAMINED) if one.may_give_way()), None)
            if giving is None:
                return
            self._set(giving, 0)
            giving.give_way()

    def _set(self, connection: Connection, size: int) -> None:
        owner = connection.owner
        sizes = self._buffered.setdefault(owner, OrderedDict())
        more = size - sizes.get(connection, 0)
        self._buffered_bytes[owner] += more
        self.buffered_bytes += more
        if size:
            sizes[connection] = size
        else:
            sizes.pop(connection, None)
            if not sizes:
                del self._buffered[owner], self._buffered_bytes[owner]

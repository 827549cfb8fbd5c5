"""Whose request is read next, for bounded_protocol.py: owners of connections (connection_room.py) take turns, however
many connections each has."""

import asyncio
from collections import OrderedDict
from typing import Protocol


class Reader(Protocol):
    """A connection, as far as turns need it."""

    owner: int

    def read_buffered(self) -> None:
        """Read one request of what the client has sent, or a piece of a body."""


class ReadingTurns:
    """In each turn of the event loop one connection of each owner begins a request that may take long, or reads what
    waited. An owner's connections go round: one that has more to read goes behind the others.

    Usual requests of the fast lane, which take microseconds and share a call to Redis, need no turn.
    """

    def __init__(self) -> None:
        self._waiting: dict[int, OrderedDict[Reader, None]] = {}
        self._begun: dict[int, Reader] = {}
        """By owner, the connection that has this turn."""
        self._is_due = False

    def may_begin(self, connection: Reader) -> bool:
        """Whether the connection has its owner's turn, or takes it now since it is free. Else it has to wait."""
        owner = connection.owner
        if owner not in self._begun and owner not in self._waiting:
            self._begin(connection)
        return self._begun.get(owner) is connection

    def add(self, connection: Reader) -> None:
        """Let the connection wait for read_buffered."""
        self._waiting.setdefault(connection.owner, OrderedDict())[connection] = None
        self._schedule()

    def remove(self, connection: Reader) -> bool:
        """Let the connection wait no longer; whether it has waited."""
        waiting = self._waiting.get(connection.owner, {})
        if connection not in waiting:
            return False
        del waiting[connection]
        if not waiting:
            del self._waiting[connection.owner]
        return True

    def _begin(self, connection: Reader) -> None:
        self._begun[connection.owner] = connection
        self._schedule()

    def _schedule(self) -> None:
        if not self._is_due:
            self._is_due = True
            asyncio.get_running_loop().call_soon(self._give)

    def _give(self) -> None:
        """Begin the next turn of each owner."""
        self._is_due = False
        self._begun.clear()
        for owner in [*self._waiting]:
            if waiting := self._waiting.get(owner):
                connection = next(iter(waiting))
                self.remove(connection)
                self._begin(connection)  # schedules the next turn, even if reading fails
                connection.read_buffered()

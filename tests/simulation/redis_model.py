"""Redis: keys, loaded scripts, a replication stream, and what a server may lose.

A script is one step: it reads and writes through a `View`, and its writes go into the server at once. Scripts are
forgotten when the server restarts, and are not replicated; keys may lose the last changes then, unless each is synced.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from tests.simulation.errors import Broken
from tests.simulation.events import NO_HISTORY, Event, History

if TYPE_CHECKING:
    from tests.simulation.world import World

Key = tuple[int, str, Any]
Changes = dict[Key, Any]
MOST_LOST = 12
"""Changes that a restart may lose where the disk is synced now and then."""
READ_ONLY = "READONLY"


class Text(NamedTuple):
    """A loaded script: what its text says besides what it does."""

    part: str  # hot, closed
    partition: int
    epoch: int
    nonce: int
    replid: int


class Outbox(NamedTuple):
    """A partition's stream. Trimming takes entries from the front; the last id stays."""

    entries: tuple[Event, ...]
    last: tuple[int, int]


class Code(NamedTuple):
    """A code's configuration."""

    version: int
    unique: int
    uses: int
    active: bool


class Book(NamedTuple):
    """A partition's one book: how often a user may redeem, over all codes."""

    version: int
    unique: int
    limit: int


class View:
    """One script's reads and writes of one partition; nothing is written before the script has ended well."""

    def __init__(self, server: Server, partition: int) -> None:
        self.server, self.partition = server, partition
        self.planted = server.planted
        self.changes: Changes = {}

    def get(self, kind: str, name: Any = "", default: Any = None) -> Any:
        key = (self.partition, kind, name)
        found = self.changes[key] if key in self.changes else self.server.keys.get(key)
        return default if found is None else found

    def put(self, kind: str, name: Any, value: Any) -> None:
        self.changes[self.partition, kind, name] = value

    def append(self, epoch: int, event: Event) -> Event | None:
        """XADD NOMKSTREAM <epoch>-*: the event with its number; None where the stream is missing or past it."""
        outbox: Outbox | None = self.get("outbox")
        if outbox is None or outbox.last[0] > epoch:
            return None
        unique = self.server.unique()
        event = event._replace(epoch=epoch, seq=outbox.last[1] + 1 if outbox.last[0] == epoch else 0, unique=unique)
        self.put("outbox", "", Outbox((*outbox.entries, event), event.id))
        return event


class Server:
    """One server process after the other on one machine, with its disk."""

    def __init__(self, world: World, name: str, *, always: bool, replicated: bool) -> None:
        self._world = world
        self.planted = world.planted
        self.name, self.always, self.replicated = name, always, replicated
        self.keys: dict[Key, Any] = {}
        self.scripts: set[Text] = set()
        self.up = True
        self.process = world.unique()
        self.replid = world.unique()
        self.stopped_until = 0.0
        self.clock_skew = 0.0
        self.source: Server | None = None
        self.stream: list[Changes] = []
        self.applied = 0
        self.lags_until = 0.0
        self.dumps: list[dict[Key, Any]] = []
        self.connections: list[Connection] = []
        self._unsynced: list[Changes] = []  # what each change replaced
        self._late: list[tuple[int, Callable[[Server], Any]]] = []

    def __str__(self) -> str:
        return self.name

    def unique(self) -> int:
        """What no other decision has in its ids and times."""
        return self._world.unique()

    # -- what commands do

    def write(self, changes: Changes) -> None:
        """Make a command's changes: all at once."""
        if not changes:
            return
        if not self.always:
            self._unsynced.append({key: self.keys.get(key) for key in changes})
            if len(self._unsynced) > MOST_LOST:
                del self._unsynced[0]
        for key, value in changes.items():
            if value is None:
                self.keys.pop(key, None)
            else:
                self.keys[key] = value
        if self.replicated and self.source is None:
            self.stream.append(changes)

    def get(self, partition: int, kind: str) -> Any:
        """GET."""
        return self.keys.get((partition, kind, ""))

    def names(self, partition: int) -> list[Key]:
        """SCAN of one partition."""
        return sorted((key for key in self.keys if key[0] == partition), key=str)

    def history(self, partition: int) -> History:
        """Which events made this partition's keys."""
        return self.keys.get((partition, "history", "")) or NO_HISTORY

    # -- replication

    def replicate(self) -> None:
        """A replica takes what has come, unless it lags."""
        source = self.source
        if source is None or not source.up or not self.up or self.lags_until > self._world.now:
            return
        if source.replid != self.replid:  # another process, or another history
            self.follow(source)
        for changes in source.stream[self.applied : self.applied + 3]:
            self.write(changes)
            self.applied += 1

    def follow(self, source: Server) -> None:
        """Become a replica: a full resync under the live process, which keeps its scripts."""
        self._lose(lambda: self._take(source.keys))
        self.source, self.applied, self.replid = source, len(source.stream), source.replid
        self._unsynced.clear()

    def promote(self) -> None:
        """Become a primary with a history of its own from here on."""
        self.source, self.replid = None, self._world.unique()
        self.stream, self.applied = [], 0

    def _take(self, keys: dict[Key, Any]) -> None:
        self.keys = dict(keys)

    # -- losses

    def restart(self, lost: int) -> None:
        """The process ends and another begins: without scripts, and without the last changes that weren't synced."""
        self.process, self.replid = self._world.unique(), self._world.unique()
        self.scripts.clear()
        self._late.clear()
        self.stopped_until = 0.0
        self._lose(lambda: self._undo(lost))

    def _undo(self, changes: int) -> None:
        for _ in range(min(changes, len(self._unsynced))):
            for key, value in self._unsynced.pop().items():
                if value is None:
                    self.keys.pop(key, None)
                else:
                    self.keys[key] = value

    def load_dump(self, keys: dict[Key, Any]) -> None:
        """Restart with what was saved a while ago."""
        self.restart(0)
        self._lose(lambda: self._take(keys))
        self._unsynced.clear()

    def flush(self) -> None:
        """FLUSHALL: the keys go, the scripts stay, and replicas hear of it."""
        self._lose(lambda: self.write(dict.fromkeys(self.keys)))

    def _lose(self, change: Callable[[], None]) -> None:
        before = {p: self.history(p) for p in (0, 1)}
        change()
        for partition, history in before.items():
            self._world.check.may_be_lost(self, partition, history, self.history(partition))

    # -- what was sent before a connection ended

    def arrive_late(self, process: int, effect: Callable[[Server], Any]) -> None:
        """A command is in the socket still; nobody waits for its answer."""
        self._late.append((process, effect))

    def keep_late(self, process: int) -> None:
        """The machine was cut off, but its process lives on: what had arrived is carried out."""
        self._late = [(self.process if of == process else of, effect) for of, effect in self._late]

    def work_off(self, now: float) -> None:
        """Carry out what arrived, where the server runs."""
        if self._late and self.up and self.stopped_until <= now:
            process, effect = self._late.pop(0)
            if process == self.process:
                self._world.say(self.name, "carries out what had been sent", effect(self))


class Connection:
    """To one process of one server; it doesn't reconnect."""

    def __init__(self, server: Server) -> None:
        self.server, self.process = server, server.process
        self.broken = not server.up
        if server.up:
            server.connections = [*(one for one in server.connections if not one.broken), self]

    def carry_out(self, effect: Callable[[Server], Any], now: float, rng: random.Random) -> Any:
        """The answer. Raises Broken, where it may have been carried out all the same, at once or later."""
        server = self.server
        if self.process != server.process or not server.up:
            self.broken = True
        elif server.stopped_until > now:
            self.broken = True
            if rng.random() < 0.5:
                server.arrive_late(self.process, effect)
        elif self.broken and rng.random() < 0.3:
            effect(server)
        if self.broken:
            raise Broken
        return effect(server)

    def send_late(self, effect: Callable[[Server], Any]) -> None:
        """Who sent this has gone; it may be on its way."""
        if not self.broken:
            self.server.arrive_late(self.process, effect)

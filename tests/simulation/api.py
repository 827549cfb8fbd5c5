"""API processes: service/serving/wiring.py, service/hot/decider.py, service/api/configuration_writes.py."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any, NamedTuple

from tests.simulation import mending, scripts
from tests.simulation.deciding import Facts, Make
from tests.simulation.errors import Broken, PostgresAway, Refused
from tests.simulation.events import Event
from tests.simulation.redis_model import READ_ONLY, Connection, Text, View
from tests.simulation.scripts import Reply
from tests.simulation.world import PARTITIONS, PostgresCall, Process, RedisCall, Sleep, Work, World

ASK_S = 0.25
FRESH_S = 0.5
"""So old may be what an API knows of an epoch when it answers, where Redis has replicas: as openings wait so long."""
MAX_AGE_S = 1.0
"""From a change's beginning to its way into Redis."""
RECONNECT_S = 0.05
RECORDED_TRIES = 6
MOST_RUNS = 4


class Known(NamedTuple):
    """An epoch that Postgres said was open, and when it was asked."""

    epoch: int
    nonce: int
    replid: int
    asked_at: float


class Api:
    """What one API process knows. A new one is made at each start."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._known: dict[int, Known] = {}
        self._connection: Connection | None = None
        self._connected_at = 0.0

    # -- its own tasks

    def watch(self) -> Work:
        """Ask Postgres which epochs are open, again and again."""
        while True:
            asked_at = self._world.now
            try:
                rows = yield PostgresCall("read partitions", lambda pg: [(p, pg.row(p)) for p in PARTITIONS])
            except PostgresAway:
                pass  # both stay as they were: what Redis decides needs no Postgres, until it would be too old
            else:
                for p, row in rows:
                    if row.state == "open":
                        self._known[p] = Known(row.epoch, row.nonce, row.replid, asked_at)
                    else:
                        self._known.pop(p, None)
            yield Sleep(ASK_S)

    def link(self) -> Work:
        """Connect again where the connection broke."""
        while True:
            if self._connection is None or self._connection.broken:
                connection = Connection(self._world.current)
                if not connection.broken:
                    self._connection, self._connected_at = connection, self._world.now
            yield Sleep(RECONNECT_S)

    # -- requests

    def decide(self, p: int, label: str, make: Make, code: str = "") -> Work:
        """A script's reply, with the facts that it asks for (service/api/recall.py). Raises Refused."""
        facts = Facts()
        for _ in range(MOST_RUNS):
            reply = yield from self._run(p, label, lambda text, facts=facts: make(text, facts), code)
            if reply.outcome != scripts.RECALL:
                return reply
            name, as_of = reply.value
            try:
                record = yield PostgresCall(f"p{p} facts of {name}", lambda pg, name=name: pg.record_of(p, name))
            except PostgresAway:
                break
            if record is not None or len(name) == 3:
                before = facts.records if facts.as_of == as_of else {}
                facts = Facts(as_of, {**before, name: record})
        raise Refused("unavailable")

    def _run(self, p: int, label: str, make: Callable[[Text], Callable[[View], Reply]], code: str) -> Work:
        """A script's reply, run once. Raises Refused."""
        world, known, connection = self._world, self._known.get(p), self._connection
        if connection is None or connection.broken:
            raise Refused("unavailable")
        if known is None or self._may_be_anothers(known):
            raise Refused("recovering")
        text = scripts.compose(world, "hot", p, known.epoch, known.nonce, known.replid)
        run = scripts.evalsha(world, text, p, make(text), code)
        try:
            reply = yield RedisCall(connection, f"p{p} {label}", run)
        except Broken:
            if "a retry by the driver" not in world.planted:
                raise Refused("outcome_unknown") from None
            try:
                reply = yield RedisCall(Connection(world.current), f"p{p} {label} again", run)
            except Broken:
                raise Refused("outcome_unknown") from None
        if reply.outcome in (scripts.NOSCRIPT, scripts.RECOVERING, READ_ONLY):
            raise Refused("recovering")
        if not self._is_fresh(p, known):
            raise Refused("outcome_unknown")
        return reply

    def _may_be_anothers(self, known: Known) -> bool:
        """Whether the address may have gone to another server and come back since Postgres was asked."""
        return known.asked_at < self._connected_at and "epochs not asked for again" not in self._world.planted

    def _is_fresh(self, p: int, known: Known) -> bool:
        """Whether no later epoch can have been opened elsewhere when the reply came."""
        if not known.replid or "stale epochs used" in self._world.planted:
            return True
        now = self._known.get(p)
        return now is not None and now.epoch == known.epoch and self._world.now - now.asked_at < FRESH_S

    def is_recorded(self, p: int, event: Event, connection: Connection | None = None) -> Work:
        """Wait until an event is recorded, some time; whether it is."""
        connection = self._connection
        event_id = event.id
        for _ in range(RECORDED_TRIES):
            if "recorded judged by the tail" in self._world.planted:
                if connection is None or connection.broken:
                    return False
                tail = yield RedisCall(connection, f"p{p} XREVRANGE", lambda server: server.get(p, "outbox"))
                if tail is None or tail.last[0] != event.epoch:
                    return False
                event_id = tail.last

            def ask(postgres: Any, event_id: tuple[int, int] = event_id) -> bool:
                if postgres.is_recorded(p, event_id):
                    self._world.check.said_recorded(p, event)
                    return True
                return False

            if (yield PostgresCall(f"p{p} recorded?", ask)):
                return True
            yield Sleep(0.05)
        return False

    def request(self, p: int, label: str, make: Make, code: str, *, recorded: bool) -> Work:
        """Decide, and wait for the record where that is wanted."""
        reply = yield from self.decide(p, label, make, code)
        if recorded and reply.event and reply.event.epoch:  # of a repeated rollback no event is named
            with contextlib.suppress(PostgresAway, Broken):  # it is accepted all the same
                yield from self.is_recorded(p, reply.event)
        return reply

    def change(self, p: int, rows: dict[str, Callable[[int], Any]]) -> Work:
        """A change of configuration: in Postgres first, then in Redis; its version and Postgres's incarnation."""
        if p not in self._known or self._connection is None or self._connection.broken:
            raise Refused("recovering")
        epoch, began = self._known[p].epoch, self._world.now
        try:
            changed = yield PostgresCall(
                f"p{p} change {', '.join(rows)}",
                lambda pg: (pg.change(p, rows), pg.incarnation, {name: pg.state.config[p].get(name) for name in rows}),
            )
        except PostgresAway:
            raise Refused("outcome_unknown") from None
        version, incarnation, written = changed
        if version is None:
            raise Refused("recovering")
        if "changes put late" not in self._world.planted and (
            p not in self._known or self._known[p].epoch != epoch or self._world.now - began > MAX_AGE_S
        ):
            raise Refused("outcome_unknown")
        for name, row in written.items():
            put = mending.put_row(self._world, name, row)
            yield from self.decide(p, f"put {name} v{version}", lambda text, facts, put=put: put)
        yield from self.decide(p, f"seen {version}", lambda text, facts: mending.seen(version - 1, version))
        return version, incarnation


class ApiProcess:
    """An API process and what it knows just now."""

    def __init__(self, world: World, name: str) -> None:
        self._world = world
        self.api = Api(world)
        self.process = Process(name, self._start)

    def _start(self, process: Process) -> list[tuple[str, Work]]:
        self.api = Api(self._world)
        return [("watch", self.api.watch()), ("link", self.api.link())]

"""What must hold, after each step where a step can break it, and wholly when a partition opens and when all is quiet.

1. Never more uses of a code than it has; an order, an idempotency key, a request is spent once.
2. What is recorded is recorded once, by the holder of the lease alone, in its own partition.
3. What was answered is recorded in the end, unless a fault took it that may (`excused`) or it is listed as set aside.
4. What was answered was decided by a Redis that held all that Postgres held; only such a one gets requests' scripts.
5. `recorded` is true when it is said.
6. When all is quiet, Redis holds just what a rebuild from Postgres would make.
7. An acknowledged change of configuration governs every request that is sent later.
8. A repeat is answered with what did happen, and no redemption that is recorded is unknown to a rollback.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from tests.simulation import layout
from tests.simulation.errors import Violation
from tests.simulation.events import Event, History, RedemptionId, Told, kept_of
from tests.simulation.redis_model import Book, Code, Outbox, Server
from tests.simulation.world import PARTITIONS, World

if TYPE_CHECKING:
    from tests.simulation.postgres_model import Row
    from tests.simulation.scripts import Reply

BOOK = "book"
Expected = tuple[int, dict[str, "Row"], bool]
"""When a request was sent: Postgres's incarnation, the rows that were acknowledged, and whether the redemption that it
is about was recorded."""


class Invariants:
    """Knows all servers, the record, and what clients were told."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.accepted: dict[int, Event] = {}
        self.excused: set[int] = set()
        self.answers = self.opens = self.recorded_said = 0
        self._holders: dict[int, str] = {}
        self._attempts: set[int] = set()
        self._rows: dict[int, dict[str, list[Row]]] = {p: {} for p in PARTITIONS}
        self._acknowledged: dict[int, dict[str, Row]] = {p: {} for p in PARTITIONS}
        self._losses = 0

    # -- 1, 2: what is recorded

    def leased(self, p: int, holder: str) -> None:
        """A worker got the lease."""
        self._holders[p] = holder

    def committed(self, p: int, by: str) -> None:
        """A worker moves the cursor."""
        if self._holders.get(p) != by:
            raise Violation(f"{by} moves the cursor of p{p}, and {self._holders.get(p)} has the lease")

    def recording(self, p: int, record: Told, event: Event) -> None:  # noqa: C901, a rule each
        """An event is about to be added to the record."""
        problem = ""
        if event.partition != p:
            problem = f"is recorded in p{p}"
        elif event.unique in self._world.postgres.recorded[p]:
            problem = "is recorded twice"
        elif event.attempt in self._attempts:
            problem = "is the second of one request"
        elif event.key in record.keys:
            problem = "is the second under its idempotency key"
        elif event.kind == "A" and event.code in record.owners:
            problem = "gives away what is another's"
        elif event.kind == "R":
            rows = self._rows[p].get(event.code)
            if event.order in record.orders:
                problem = "is the second of its order"
            elif rows and record.uses.get(event.code, 0) >= rows[0].uses:  # type: ignore[union-attr]
                problem = "is one use too many"
        elif event.kind == "B":
            redeemed = record.redemptions.get(event.redemption)
            if redeemed is None or not record.stands(event.redemption):
                problem = "rolls back what doesn't stand"
            elif (redeemed.code, redeemed.user, redeemed.order) != (event.code, event.user, event.order):
                problem = f"rolls back {redeemed}"
        if problem:
            raise Violation(f"{event} {problem}")
        self._attempts.add(event.attempt)

    # -- 3: what may be lost

    def decided(self, server: Server, event: Event) -> None:
        """A script said yes. What a server decides that is cut off may be lost."""
        if server is not self._world.current:
            self.excused.add(event.unique)

    def repeated(self, server: Server, event: Event) -> None:
        """A script answers with what happened before."""
        if not any(event.unique == one.unique for one in server.history(event.partition).events()):
            raise Violation(f"{server} answers with {event}, and that is not what happened there")

    def may_be_lost(self, server: Server, p: int, before: History, after: History) -> None:
        """A fault took events from a server, or the address went to a server that has other ones."""
        at: History | None = before
        while at is not None and at.last is not None and not after.holds(at):
            if at.last.unique not in self._world.postgres.recorded[p]:
                self.excused.add(at.last.unique)
            at = at.before
        self._losses += 1

    def restored(self, lost: dict[int, set[int]]) -> None:
        """Postgres was brought back to an earlier time."""
        postgres = self._world.postgres
        self._losses += 1
        for p in PARTITIONS:
            self.excused |= lost[p]
            row = postgres.state.partitions[p]
            self._holders[p] = row.holder
            self._acknowledged[p] = {}
            for name, rows in self._rows[p].items():
                self._rows[p][name] = [one for one in rows if one.version <= row.config_version]

    def forget_attempts(self) -> None:
        """Before the facts of a restored Postgres are counted again."""
        self._attempts.clear()

    # -- 4: who decides

    def lacks(self, server: Server, p: int) -> str:
        """What the record has and this server doesn't; '' for nothing."""
        record = self._world.postgres.histories[p]
        if server.history(p).holds(record):
            return ""
        return f"{server} lacks what is recorded up to {record.last}"

    def loaded(self, server: Server, p: int, epoch: int) -> None:
        """The scripts that requests run are now known to a server; where that is not too late already."""
        if server.get(p, "gate") == (epoch, "closed") and self._world.postgres.state.partitions[p].epoch == epoch:
            self._whole(server, p, "gets the scripts")

    def opened(self, server: Server, p: int, epoch: int) -> None:
        """A gate was opened. Of an epoch that is over it may be: no API uses that."""
        self.opens += 1
        if self._world.postgres.state.partitions[p].epoch != epoch:
            return
        self._whole(server, p, "opens")
        if (found := traffic(server, p)) != (made := self._comes_to(p, server.history(p))):
            raise Violation(f"{server} opens p{p} with {difference(found, made)}")
        self._check_pool(server, p)
        for name, row in self._world.postgres.state.config[p].items():
            if row_of(server, p, name) == row:
                self._acknowledged[p][name] = row

    def _whole(self, server: Server, p: int, what: str) -> None:
        if lacking := self.lacks(server, p):
            raise Violation(f"p{p} {what}: {lacking}")
        for name, row in self._acknowledged[p].items():
            if not self._is_as_new(p, name, row_of(server, p, name), row):
                raise Violation(f"p{p} {what}, and {server} doesn't have {name} as of {row}")

    def _comes_to(self, p: int, history: History) -> dict[tuple[str, Any], Any]:
        """What happened to the codes that there are: a restored Postgres may lack some, and have their events. What was
        answered is known all the same."""
        told = Told()
        for event in history.events():
            if event.code in self._world.postgres.state.config[p]:
                told.add(event)
            elif event.key:
                told.keys[event.key] = kept_of(event)
        return told.state()

    def _check_pool(self, server: Server, p: int) -> None:
        """The pool, and what is said of codes, follow from the configuration and from what is true of each."""
        pool: Counter[int] = Counter()
        for (of, kind, name), row in server.keys.items():
            if of != p or kind != "code":
                continue
            entry = server.keys.get((p, "d", layout.bucket(name)), {}).get(name)
            c = layout.read(entry, server.keys.get((p, "c", name)))
            if c is None or c.off == row.active or c.limit not in (None, row.uses):
                raise Violation(f"{server} p{p}: {name} is {c}, of {row}")
            if free := row.active and c.owner is None and c.uses < row.uses:
                pool[layout.bucket(name)] += 1
            if free != (entry == layout.FREE):
                raise Violation(f"{server} p{p}: {name} is {entry} in the directory, and {c}")
        if pool != (server.get(p, "pool") or {}):
            raise Violation(f"{server} p{p}: the pool says {server.get(p, 'pool')}, free codes are in {pool}")

    # -- 5, 7: what is answered

    def expected(self, p: int, redemption: RedemptionId) -> Expected:
        """What is acknowledged now, for a request that is about to be sent."""
        postgres = self._world.postgres
        redeemed = postgres.told[p].redemptions.get(redemption)
        is_known = redeemed is not None and redeemed.code in postgres.state.config[p]
        return postgres.incarnation, dict(self._acknowledged[p]), is_known

    def answered(self, p: int, code: str, reply: Reply, expected: Expected) -> None:
        """A client hears a decision, whatever it says."""
        self.answers += 1
        if reply.witness:
            raise Violation(f"p{p} answers {reply}")
        if reply.event and reply.outcome in ("ok", "repeated"):
            self.accepted[reply.event.unique] = reply.event
        incarnation, rows, is_known = expected
        if reply.outcome == "redemption_not_found" and is_known and incarnation == self._world.postgres.incarnation:
            raise Violation(f"p{p} answers {reply}, of a redemption that was recorded before")
        if incarnation != self._world.postgres.incarnation or reply.outcome == "repeated":
            return
        for name, found in zip((code, BOOK), reply.went_by, strict=True):
            row = rows.get(name)
            if row is not None and not self._is_as_new(p, name, found, row):
                raise Violation(f"p{p} answers {reply} by {found}, though {row} was acknowledged before")

    def said_recorded(self, p: int, event: Event) -> None:
        """An API is told that an event is recorded."""
        self.recorded_said += 1
        if event.unique not in self._world.postgres.recorded[p]:
            raise Violation(f"{event} is called recorded, and is not")

    # -- configuration

    def configured(self, p: int, name: str, row: Row) -> None:
        """A row is committed."""
        self._rows[p].setdefault(name, []).append(row)

    def is_lost(self, p: int, name: str) -> bool:
        """Whether there was such a row, and a restored Postgres lacks it."""
        return self._rows[p].get(name) == []

    def acknowledged(self, p: int, version: int, incarnation: int) -> None:
        """A client hears that a change is made."""
        if incarnation != self._world.postgres.incarnation:
            return
        for name, rows in self._rows[p].items():
            for row in rows:
                if row.version == version and self._is_as_new(p, name, row, self._acknowledged[p].get(name, row)):
                    self._acknowledged[p][name] = row

    def _is_as_new(self, p: int, name: str, found: Any, row: Row) -> bool:
        rows = self._rows[p].get(name, [])
        return found in rows and row in rows and rows.index(found) >= rows.index(row)

    # -- 6: when all is quiet

    def is_quiet(self) -> bool:
        """Whether both partitions are open, all is recorded and all configuration projected."""
        server, postgres = self._world.current, self._world.postgres
        for p in PARTITIONS:
            row, outbox = postgres.state.partitions[p], server.get(p, "outbox")
            if row.state != "open" or server.get(p, "gate") != (row.epoch, "open"):
                return False
            if not isinstance(outbox, Outbox) or outbox.last != row.cursor:
                return False
            if (server.get(p, "config") or 0) != row.config_version or not postgres.is_confirmed(p):
                return False
        return True

    def quiet(self) -> None:
        """Redis and the record agree, and what was answered is in them."""
        server, postgres = self._world.current, self._world.postgres
        for p in PARTITIONS:
            made = self._comes_to(p, postgres.histories[p])
            if (found := traffic(server, p)) != made:
                raise Violation(f"p{p} is quiet with {difference(found, made)}")
            self._check_pool(server, p)
            rows = {name: row_of(server, p, name) for name in postgres.state.config[p]}
            if rows != postgres.state.config[p]:
                raise Violation(f"p{p} is quiet with configuration {difference(rows, postgres.state.config[p])}")
        listed = {unique for *_, unique in postgres.state.aside} if self._losses else set()
        for unique, event in self.accepted.items():
            if unique not in postgres.recorded[event.partition] | self.excused | listed:
                raise Violation(f"{event} was accepted, and is nowhere")


def traffic(server: Server, p: int) -> dict[tuple[str, Any], Any]:
    """What events came to in a server, in the words of Told.state."""
    found: dict[tuple[str, Any], Any] = {}
    for (of, kind, name), value in server.keys.items():
        if of != p:
            continue
        if kind == "d":
            for code, entry in value.items():
                c = layout.read(entry, server.keys.get((p, "c", code))) or layout.IDLE
                of_one = frozenset([c.last]) if c.last and c.limit == 1 else None
                events = server.keys.get((p, "s", code)) or of_one
                told = {"owner": c.owner, "uses": c.uses, "last": c.last, "stand": events}
                found |= {(what, code): says for what, says in told.items() if says}
        elif kind == "o":
            for field, says in value.items():
                if field.startswith("1/"):
                    found["user", field[2:]] = layout.read_count(says)
                elif says:
                    (found["order", field],) = says
        elif kind == "i" and value.in_outbox:
            found["key", name] = value
    return found


def row_of(server: Server, p: int, name: str) -> Code | Book | None:
    """A row of configuration, as a server has it."""
    return server.keys.get((p, "book", "") if name == BOOK else (p, "code", name))


def difference(found: dict[Any, Any], made: dict[Any, Any]) -> str:
    """Some of what differs."""
    keys = sorted((key for key in found.keys() | made.keys() if found.get(key) != made.get(key)), key=str)[:3]
    return "; ".join(f"{key}: {found.get(key)} instead of {made.get(key)}" for key in keys)

"""Opening a partition: service/worker/opening.py and docs/decisions/0013-recovery.md, step by step."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from tests.simulation import gates, layout, mending, scripts
from tests.simulation.errors import AnchorLost, Broken, Fenced, LeaseLost, OutboxGap
from tests.simulation.events import Event, Id
from tests.simulation.postgres_model import Partition, Postgres, Row
from tests.simulation.redis_model import READ_ONLY, Connection, Server, Text, View
from tests.simulation.world import PostgresCall, RedisCall, Sleep, Work, World

if TYPE_CHECKING:
    from tests.simulation.flusher import Flusher

SETTLE_S = 0.5
"""As long as processes may take to learn of an epoch."""
EVENTS_A_RUN = 2
KEYS_A_RUN = 12


class Opening:
    """Opens one partition under its lease, on one connection that doesn't reconnect.

    1. Draw a new epoch; whoever held the lease before can't commit from here on.
    2. Fence Redis, and wait until all processes know.
    3. Record what the outbox holds up to the fence.
    4. Where the anchor is not in it: a true prefix, or what an earlier mending came to by its mark, has the recorded
       events after its last one applied again; anything else is set aside, cleared and rebuilt whole. So is one of
       which a mending died while everything was cleared, whose keys are of another layout, with configuration that a
       restored Postgres doesn't know, and what an operator says.
    5. After mending, append an entry that says so and let the cursor go to that one: the fence's own entry would be
       found, too, where the mending is lost again. Then take the mark away.
       Apply the configuration that this Redis has not seen.
    6. Load the scripts, say in Postgres that the epoch is open, then open the gate.
    """

    def __init__(self, world: World, connection: Connection, flusher: Flusher, partition: int, fence: int) -> None:
        self._world, self._connection, self._flusher = world, connection, flusher
        self._partition, self._fence, self._by = partition, fence, flusher.by
        self._closed: Text
        self._is_old = False

    def run(self) -> Work:
        """The text of the new epoch's scripts. Raises LeaseLost, Fenced, Broken, OutboxGap."""
        world, p, nonce = self._world, self._partition, self._world.unique()
        replid = yield RedisCall(self._connection, "INFO replication", lambda s: s.replid if s.replicated else 0)
        gate, found = yield RedisCall(
            self._connection, "GET gate, layout", lambda s: (s.get(p, "gate"), s.get(p, "layout"))
        )
        self._is_old = gate is not None and found != layout.LAYOUT and "layout not asked" not in world.planted
        epoch = yield from self._ask("begin epoch", lambda pg: pg.begin_epoch(p, self._fence, nonce, replid))
        if epoch is None:
            raise LeaseLost
        hot = scripts.compose(world, "hot", p, epoch, nonce, replid)
        self._closed = scripts.compose(world, "closed", p, epoch, nonce, replid)
        yield from self._must(f"fence {epoch}", gates.fence(world, p, epoch, nonce))
        yield Sleep(SETTLE_S)
        yield from self._must("load mending", gates.load(world, self._closed, p))
        if "scripts loaded before the mend" in world.planted:
            yield from self._must("load hot", gates.load(world, hot, p))
        row, incarnation = yield from self._ask("read partition", lambda pg: (pg.row(p), pg.incarnation))
        yield from self._mend(epoch, nonce, row, incarnation)
        yield from self._run("unmark", mending.put_mark(None))
        if "configuration not re-applied" not in world.planted:
            yield from self._configure()
        if "scripts loaded before the mend" not in world.planted:
            yield from self._must("load hot", gates.load(world, hot, p))
        confirmed = yield from self._ask("confirm open", lambda pg: pg.confirm_open(p, self._fence, epoch, incarnation))
        if not confirmed:
            raise LeaseLost
        opened = gates.move_gate(world, p, (epoch, "closed"), (epoch, "open"), replid)
        yield from self._must(f"open {epoch}", opened)
        return hot

    # -- which way

    def _mend(self, epoch: int, nonce: int, row: Partition, incarnation: int) -> Work:
        p = self._partition
        mark, newest = yield RedisCall(
            self._connection, f"p{p} GET mend, newest", lambda s: (s.get(p, "mend"), s.get(p, "newest") or 0)
        )
        whole = row.rebuild_ordered or self._is_old or mark == "whole"
        if newest > row.config_version and "postgres restored unseen" not in self._world.planted:
            whole = True
        if "mark not asked first" in self._world.planted:
            mark = None
        lost = False
        try:
            yield from self._flusher.drain(epoch)
        except AnchorLost:
            lost = True
        except OutboxGap:
            if not row.rebuild_ordered:
                raise
        if not whole and not lost:
            return
        after: Id | None = None
        if not whole and mark != "whole":
            after = mark or (yield from self._prefix(epoch))
        if after is None:
            yield from self._rebuild(epoch)
        else:
            yield from self._configure()
            yield from self._restore_keys(after)
            yield from self._redo(after, mark=True)
        yield from self._enter(epoch, nonce, incarnation)

    def _prefix(self, epoch: int) -> Work:
        """The last event of this Redis, where the record has that very event: then it is a true prefix. Else None."""
        p = self._partition
        outbox = yield RedisCall(self._connection, "last before the fence", lambda s: s.get(p, "outbox"))
        before = [entry for entry in outbox.entries if entry.epoch < epoch] if outbox else []
        row = yield from self._ask("read partition", lambda pg: pg.row(p))
        while before and before[-1].kind == "O":
            before.pop()  # an opening that changed nothing but the configuration, or came to nothing
        if not before or before[-1].kind == "M" or before[-1].id > row.cursor:
            return None
        found = yield from self._ask("same event?", lambda pg: pg.fact(p, before[-1].id))
        return found.id if found == before[-1] else None

    # -- mending

    def _rebuild(self, epoch: int) -> Work:
        """From nothing: what the record doesn't have of this Redis is set aside first."""
        world, p = self._world, self._partition
        row = yield from self._ask("read partition", lambda pg: pg.row(p))
        outbox = yield RedisCall(self._connection, "XRANGE all", lambda s: s.get(p, "outbox"))
        if outbox is None:
            raise Fenced
        aside = [entry for entry in outbox.entries if row.cursor < entry.id < (epoch, 0) and entry.kind != "O"]
        if aside:
            yield from self._ask("set aside", lambda pg: pg.set_aside(p, aside))
        yield from self._run("mark whole", mending.put_mark("whole"))
        if "outbox kept when rebuilt" not in world.planted:
            yield RedisCall(self._connection, f"p{p} XTRIM {epoch}-0", gates.trim(p, (epoch, 0)))
        names = yield RedisCall(self._connection, "SCAN", lambda s: s.names(p))
        kept = ("gate", "outbox", "mend")
        found = [(kind, name) for _, kind, name in names if kind not in kept]
        for start in range(0, len(found), KEYS_A_RUN):
            yield from self._run("clear", mending.clear(found[start : start + KEYS_A_RUN]))
        world.say(self._by, "rebuilds whole")
        yield from self._configure()
        yield from self._redo((-1, -1), mark=False)
        yield from self._restore_keys((-1, -1))

    def _configure(self) -> Work:
        """The changes that this Redis has not seen."""
        p = self._partition
        reply = yield from self._run("last seen", mending.seen(0, 0))
        yield from project(self._world, self._connection, self._closed, p, reply.value[0])

    def _restore_keys(self, after: Id) -> Work:
        """Before events are applied again, where the mark moves with these."""
        kept = yield from self._ask("keys", lambda pg: pg.keys_after(self._partition, after))
        if kept and "keys not restored" not in self._world.planted:
            yield from self._run("restore keys", mending.restore_keys(kept))

    def _redo(self, after: Id, *, mark: bool) -> Work:
        p = self._partition
        events = yield from self._ask("facts in order", lambda pg: pg.facts_after(p, after))
        for start in range(0, len(events), EVENTS_A_RUN):
            run = events[start : start + EVENTS_A_RUN]
            yield from self._run(f"redo to {run[-1].epoch}-{run[-1].seq}", mending.redo(self._world, run, mark=mark))

    def _enter(self, epoch: int, nonce: int, incarnation: int) -> Work:
        """Let the cursor go to the new epoch: only a Redis that is whole may be followed, and of this Postgres."""
        p, at_fence = self._partition, "cursor enters at the fence" in self._world.planted
        last = Event(p, "O", epoch, 0, nonce)
        if not at_fence:
            reply = yield from self._run("mended", mending.mended(epoch, nonce))
            last = reply.event

        def enter(postgres: Postgres) -> bool:
            row = postgres.row(p)
            if postgres.incarnation != incarnation and "entered in a restored postgres" not in self._world.planted:
                return False
            move = postgres.move_to_mended if row.cursor[0] == epoch else postgres.enter_epoch
            return move(p, self._fence, row.cursor, last, self._by)

        if not (yield from self._ask("enter", enter)):
            raise LeaseLost

    # -- steps

    def _ask(self, label: str, effect: Callable[[Postgres], Any]) -> Work:
        return (yield PostgresCall(f"p{self._partition} {label}", effect))

    def _must(self, label: str, effect: Callable[[Server], Any]) -> Work:
        answer = yield RedisCall(self._connection, f"p{self._partition} {label}", effect)
        if answer == READ_ONLY:
            raise Broken
        if answer != scripts.OK:
            raise Fenced

    def _run(self, label: str, script: Callable[[View], scripts.Reply]) -> Work:
        return (yield from run(self._world, self._connection, self._closed, self._partition, label, script))


def run(
    world: World, connection: Connection, text: Text, p: int, label: str, script: Callable[[View], scripts.Reply]
) -> Work:
    """The worker runs a script on its connection. Raises Fenced where the server or the gate doesn't let it."""
    reply = yield RedisCall(connection, f"p{p} {label}", scripts.evalsha(world, text, p, script))
    if reply.outcome in (scripts.NOSCRIPT, scripts.RECOVERING, READ_ONLY):
        raise Fenced
    return reply


def project(world: World, connection: Connection, text: Text, p: int, since: int) -> Work:
    """Write every row that is newer than a version, and say so, version by version."""
    rows: list[tuple[str, Row]]
    last, rows = yield PostgresCall(
        f"p{p} changes since {since}", lambda pg: (pg.row(p).config_version, pg.changes_since(p, since))
    )
    for place, (name, row) in enumerate(rows):
        yield from run(world, connection, text, p, f"put {name} v{row.version}", mending.put_row(world, name, row))
        if place + 1 == len(rows) or rows[place + 1][1].version > row.version:
            yield from run(world, connection, text, p, f"seen {row.version}", mending.seen(0, row.version))
    if last > since:
        yield from run(world, connection, text, p, f"seen {last}", mending.seen(0, last))


__all__ = ["Opening", "OutboxGap", "project", "run"]

"""The worker process: service/worker/process.py and catching_up.py."""

from __future__ import annotations

from tests.simulation import gates, mending, scripts
from tests.simulation.errors import (
    AnchorLost,
    Broken,
    CursorMoved,
    Fenced,
    LeaseLost,
    OutboxGap,
    PostgresAway,
    Unverified,
)
from tests.simulation.flusher import Flusher
from tests.simulation.opening import Opening, project, run
from tests.simulation.redis_model import READ_ONLY, Connection, Text
from tests.simulation.world import PARTITIONS, PostgresCall, Process, RedisCall, Sleep, Together, Work, World

LEASE_S = 2.0
RENEW_S = LEASE_S / 4
LOOK_S = 0.25
CATCH_UP_S = 0.5
COMPARE_AFTER_S = 1.3
"""More than a change may take on its way to Redis (MAX_AGE_S)."""
RETRY_S = 0.3
ALARM_S = 1.5


class Keeper:
    """One partition of one worker: lease, verify or open; then record, watch, catch up until something is strange."""

    def __init__(self, world: World, process: Process, partition: int) -> None:
        self._world, self._partition = world, partition
        self._holder = f"{process.name}:{world.unique()}"

    def run(self) -> Work:
        """Work until killed."""
        p = self._partition
        while True:
            pause_s = RETRY_S
            try:
                fence = yield PostgresCall(f"p{p} take lease", lambda pg: pg.take_lease(p, self._holder, LEASE_S))
                if fence is not None:
                    yield from self._under_lease(fence)
            except (Unverified, Fenced, AnchorLost):
                pause_s = 0.0
            except OutboxGap:
                yield from self._stop_deciding()
                pause_s = ALARM_S
            except (LeaseLost, Broken, PostgresAway, CursorMoved):
                pass
            yield Sleep(pause_s)

    def _under_lease(self, fence: int) -> Work:
        flusher = Flusher(self._world, self._partition, fence, self._holder)
        connection = Connection(self._world.current)
        yield Together([("renew", self._renew(fence)), ("keep", self._keep(connection, flusher, fence))])

    def _keep(self, connection: Connection, flusher: Flusher, fence: int) -> Work:
        text = yield from self._open(connection, flusher, fence)
        yield Together(
            [
                ("flush", flusher.run()),
                ("watch", self._watch(connection, text)),
                ("obey", self._obey()),
                ("catch up", self._catch_up(connection, text, fence)),
            ]
        )

    def _open(self, connection: Connection, flusher: Flusher, fence: int) -> Work:
        """The scripts of the epoch that is open, opening a new one only where there is something to do."""
        p = self._partition
        row = yield PostgresCall(f"p{p} read partition", lambda pg: pg.row(p))
        text = scripts.compose(self._world, "hot", p, row.epoch, row.nonce, row.replid)
        if row.state == "open" and not row.rebuild_ordered:
            try:
                yield from self._look(connection, text)
                yield from flusher.start()
                yield from flusher.step()
                yield from self._compare(connection, text)
            except (Unverified, AnchorLost):
                pass
            else:
                return text
        return (yield from Opening(self._world, connection, flusher, p, fence).run())

    def _renew(self, fence: int) -> Work:
        p = self._partition
        while True:
            yield Sleep(RENEW_S)
            try:
                ours = yield PostgresCall(f"p{p} renew lease", lambda pg: pg.renew_lease(p, fence, LEASE_S))
            except PostgresAway:
                continue
            if not ours and "worker not stopped by the lease" not in self._world.planted:
                raise LeaseLost

    def _obey(self) -> Work:
        p = self._partition
        while True:
            yield Sleep(RENEW_S)
            try:
                ordered = yield PostgresCall(f"p{p} ordered?", lambda pg: pg.row(p).rebuild_ordered)
            except PostgresAway:
                continue
            if ordered:
                raise Unverified

    def _watch(self, connection: Connection, text: Text) -> Work:
        while True:
            yield Sleep(LOOK_S)
            yield from self._look(connection, text)

    def _look(self, connection: Connection, text: Text) -> Work:
        """See that gate, scripts and replication id are as they were opened. Raises Unverified."""
        p = self._partition
        gate = yield RedisCall(connection, f"p{p} GET gate", lambda server: server.get(p, "gate"))
        if gate is None or gate[0] != text.epoch or gate[1] == "closed":
            raise Unverified
        known, replid = yield RedisCall(
            connection, f"p{p} SCRIPT EXISTS, INFO", lambda server: (text in server.scripts, server.replid)
        )
        if not known or (text.replid and replid != text.replid):
            raise Unverified
        if gate[1] != "open":  # nothing is pending so far that a bound of the model could be passed
            moved = gates.move_gate(self._world, p, gate, (text.epoch, "open"), text.replid)
            if (yield RedisCall(connection, f"p{p} gate open again", moved)) != scripts.OK:
                raise Fenced

    def _compare(self, connection: Connection, text: Text) -> Work:
        """The last version of which all is in Redis, Postgres's last, and which Postgres, where that is not confirmed.
        Raises AnchorLost where Redis is ahead."""
        p = self._partition
        reply = yield from run(self._world, connection, text, p, "versions", mending.seen(0, 0))
        seen, newest = reply.value
        version, incarnation, confirmed = yield PostgresCall(
            f"p{p} config version", lambda pg: (pg.row(p).config_version, pg.incarnation, pg.is_confirmed(p))
        )
        if newest > version and "postgres restored unseen" not in self._world.planted:
            raise AnchorLost
        return seen, version, None if confirmed else incarnation

    def _catch_up(self, connection: Connection, text: Text, fence: int) -> Work:
        """Project what was missing a second ago already; confirm a new Postgres after a while."""
        p, missing, new, since = self._partition, 0, None, 0.0
        while True:
            yield Sleep(CATCH_UP_S)
            try:
                seen, version, incarnation = yield from self._compare(connection, text)
                if seen < missing:
                    yield from project(self._world, connection, text, p, seen)
                missing = version
                if incarnation != new:
                    new, since = incarnation, self._world.now
                elif incarnation is not None and self._world.now - since > COMPARE_AFTER_S:
                    yield PostgresCall(
                        f"p{p} confirm incarnation",
                        lambda pg, incarnation=incarnation: pg.confirm_incarnation(p, fence, incarnation),
                    )
            except PostgresAway:
                continue

    def _stop_deciding(self) -> Work:
        """Nothing can be recorded: let nothing more be decided that would have to be."""
        p, connection = self._partition, Connection(self._world.current)
        try:
            gate = yield RedisCall(connection, f"p{p} GET gate", lambda server: server.get(p, "gate"))
            if gate is not None and gate[1] == "open":
                moved = gates.move_gate(self._world, p, gate, (gate[0], "behind"), 0)
                if (yield RedisCall(connection, f"p{p} gate behind", moved)) == READ_ONLY:
                    raise Broken
        except Broken:
            return


def start(world: World, process: Process) -> list[tuple[str, Work]]:
    """A worker's tasks: one keeper for each partition."""
    return [(f"keeper {p}", Keeper(world, process, p).run()) for p in PARTITIONS]

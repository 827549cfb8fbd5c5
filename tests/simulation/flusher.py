"""From the outbox into Postgres: service/worker/write_behind.py."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.simulation import gates
from tests.simulation.errors import AnchorLost, Broken, CursorMoved, LeaseLost, OutboxGap, PostgresAway, Unverified
from tests.simulation.events import Event
from tests.simulation.redis_model import Connection, Outbox, Server
from tests.simulation.world import PostgresCall, RedisCall, Sleep, Work, World

BATCH_EVENTS = 6
KEEP_EVENTS = 12
IDLE_S = 0.2
BACKOFF_S = 0.1


class Flusher:
    """Moves one partition's outbox into Postgres, under a fence, on connections that are made anew when they break."""

    def __init__(self, world: World, partition: int, fence: int, holder: str) -> None:
        self._world, self._partition, self._fence = world, partition, fence
        self.by = holder
        self._connection: Connection | None = None
        self.cursor = (0, 0)
        self._digest: Event | None = None
        self._recorded: list[Event] = []

    def run(self) -> Work:
        """Record until cancelled. Raises LeaseLost, OutboxGap, Unverified."""
        while True:
            try:
                yield from self.start()
                while True:
                    if not (yield from self._step_or_start()):
                        yield Sleep(IDLE_S)
                        yield from self.start()
            except (Broken, PostgresAway, CursorMoved):
                yield Sleep(BACKOFF_S)

    def drain(self, epoch: int) -> Work:
        """Record all up to `<epoch>-0`. Raises OutboxGap where that is missing."""
        yield from self.start(opened=False)
        while self.cursor[0] < epoch:
            if not (yield from self.step()):
                raise OutboxGap

    def start(self, *, opened: bool = True) -> Work:
        """Go on from where the record is. Raises LeaseLost; once `opened`, Unverified where Postgres no longer says so.

        That happens where it was restored.
        """
        p = self._partition
        row = yield PostgresCall(f"p{p} read partition", lambda pg: pg.row(p))
        if "worker not stopped by the lease" in self._world.planted:
            self._fence = row.fence
        if row.fence != self._fence:
            raise LeaseLost
        if opened and row.state != "open":
            raise Unverified
        self.cursor, self._digest = row.cursor, row.digest

    def _step_or_start(self) -> Work:
        """What looks like a gap may be another's trimming, while this worker slept and lost its lease."""
        try:
            return (yield from self.step())
        except OutboxGap:
            at = self.cursor
            yield from self.start()
            if self.cursor == at:
                raise
            return 0

    def step(self) -> Work:
        """Record what is there, at most a batch; how many entries that was."""
        entries = yield from self._read()
        batch: list[Event] = []
        epoch, seq = self.cursor
        for entry in entries:
            if entry.kind == "M":  # mended from a record that Postgres has lost since: what came before is not in here
                raise AnchorLost
            if entry.id == (epoch, seq + 1):
                seq += 1
                batch.append(entry)
                continue
            if entry.epoch <= epoch or entry.seq != 0 or entry.kind != "O":
                raise OutboxGap
            yield from self._record(batch)
            yield from self._enter(entry)
            (epoch, seq), batch = entry.id, []
        yield from self._record(batch)
        if entries:
            yield from self._trim()
        return len(entries)

    def _read(self) -> Work:
        p, cursor = self._partition, self.cursor

        def read(server: Server) -> list[Event]:
            outbox: Outbox | None = server.get(p, "outbox")
            return [entry for entry in outbox.entries if entry.id >= cursor][: BATCH_EVENTS + 1] if outbox else []

        found = yield from self._redis(f"XRANGE {cursor[0]}-{cursor[1]}", read)
        if "no anchor check" in self._world.planted:
            return [entry for entry in found if entry.id > cursor]
        if not found or found[0] != self._digest:
            raise AnchorLost
        return found[1:]

    def _record(self, batch: list[Event]) -> Work:
        if not batch:
            return
        p, fence, cursor = self._partition, self._fence, self.cursor
        moved = yield PostgresCall(
            f"p{p} record to {batch[-1].epoch}-{batch[-1].seq}", lambda pg: pg.record(p, fence, cursor, batch, self.by)
        )
        self._moved(moved, batch[-1])
        self._recorded += batch

    def _enter(self, first: Event) -> Work:
        p, fence, cursor = self._partition, self._fence, self.cursor
        moved = yield PostgresCall(
            f"p{p} enter {first.epoch}", lambda pg: pg.enter_epoch(p, fence, cursor, first, self.by)
        )
        self._moved(moved, first)

    def _moved(self, moved: bool, last: Event) -> None:
        if not moved:
            raise CursorMoved
        self.cursor, self._digest = last.id, last

    def _trim(self) -> Work:
        """Drop what is recorded long enough; the anchor stays."""
        if len(self._recorded) > KEEP_EVENTS:
            self._recorded = self._recorded[-KEEP_EVENTS // 2 :]
            first = self._recorded[0].id
            if "outbox trimmed before it is recorded" in self._world.planted:
                first = first[0], self._recorded[-1].seq + 1
            yield from self._redis(f"XTRIM {first[0]}-{first[1]}", gates.trim(self._partition, first))

    def _redis(self, label: str, effect: Callable[[Server], Any]) -> Work:
        """On this flusher's connection."""
        if self._connection is None or self._connection.broken:
            self._connection = Connection(self._world.current)
        return (yield RedisCall(self._connection, f"p{self._partition} {label}", effect))

"""What an API process sees of each partition's worker and unrecorded events, by itself: there may be no worker.
wiring.py runs it; readiness.py, consistency.py and partition_metrics.py read it."""

import asyncio
import time
from collections.abc import Mapping, Sequence
from typing import get_args

import structlog

from service.engine.domain.errors import Refusal
from service.engine.hot.decider import Decider
from service.engine.hot.scripts import REFUSED_BY_STATE
from service.engine.hot.unrecorded import Backlog, Unrecorded
from service.engine.record.facts.quarantined_events import Cause
from service.engine.record.partitions.partition_rows import Partition
from service.server.in_postgres.comparisons import LastComparisons

log = structlog.get_logger()

POLL_S = 1.0
MISSING_S = 10.0
"""A partition without a live lease for so long lacks a worker; a restart or a handover takes less."""


class PartitionWatch:
    """All partitions.

    1. The poller of Postgres hands in the rows of partitions: cursors, epochs and leases.
    2. Once a second, the gate and the outbox's end of each open partition are read, and compared with the cursor.
    3. If too much is unrecorded, the requests are refused that the gate would refuse.
    """

    def __init__(self, decider: Decider, max_unrecorded_s: float) -> None:
        self._decider, self._max_s = decider, max_unrecorded_s
        self._open: set[int] = set()
        self._idle_since: dict[int, tuple[float, float]] = {}
        """Since when a partition has no live lease, by both clocks."""

        self.unrecorded: dict[int, Unrecorded] = {}
        """By partition."""
        self.quarantined: dict[tuple[int, Cause], int] = {}
        """The number of events in quarantine by partition and cause, 0 for none."""
        self.blocked: Mapping[int, int] = {}
        """The number of blocked codes by partition."""
        self.compared: Mapping[int, LastComparisons] = {}
        """What the last comparisons of partitions left; those without a workspace are missing."""
        self.epochs: Mapping[int, int] = {}
        self.gates: dict[int, str] = {}
        """The states of the gates of partitions whose Redis answers: as in Decider.gate, `missing` for none."""
        self.has_postgres = False
        """Whether Postgres answered when it was polled last."""

    def take_rows(self, rows: Sequence[Partition]) -> None:
        self._open = {row.id for row in rows if row.state == "open"}
        self.epochs = {row.id: row.epoch for row in rows}
        self.unrecorded = {row.id: self.unrecorded.get(row.id) or Unrecorded(self._max_s) for row in rows}
        for row in rows:
            self.unrecorded[row.id].see_cursor(row.cursor)
        now = time.monotonic(), time.time()
        self._idle_since = {row.id: self._idle_since.get(row.id, now) for row in rows if not row.lease_live}

    def take_quarantined(self, counts: Mapping[tuple[int, Cause], int]) -> None:
        self.quarantined = {
            (partition, cause): counts.get((partition, cause), 0)
            for partition in self.unrecorded
            for cause in get_args(Cause)
        }

    def take_backlog(self) -> list[Backlog]:
        """What is unrecorded of each partition whose Redis answers. Without Postgres it is an upper bound: the cursors
        are those of the last poll."""
        return [
            unrecorded.count_backlog(partition)
            for partition, unrecorded in self.unrecorded.items()
            if partition in self.gates
        ]

    def without_worker(self) -> dict[int, float]:
        """The partitions that lack a worker, and since when (time.time)."""
        now = time.monotonic()
        return {partition: at for partition, (since, at) in self._idle_since.items() if now - since >= MISSING_S}

    async def run(self) -> None:
        missing = frozenset[int]()
        while True:
            was, missing = missing, frozenset(self.without_worker())
            if new := sorted(missing - was):
                log.error("worker_missing", partitions=new)
            await asyncio.gather(*(self._poll(partition) for partition in self.unrecorded))
            await asyncio.sleep(POLL_S)

    async def _poll(self, partition: int) -> None:
        try:
            await self._read(partition)
        except Refusal:  # Redis is away, and decides nothing
            self.gates.pop(partition, None)

    async def _read(self, partition: int) -> None:
        decider = self._decider
        if partition not in self._open:
            await decider.read_outbox_length(partition)
            self.gates[partition] = "closed"
            return
        gate, length, tail = await asyncio.gather(
            decider.read_gate_state(partition), decider.read_outbox_length(partition), decider.read_tail(partition)
        )
        self.gates[partition] = gate or "missing"
        unrecorded = self.unrecorded[partition]
        unrecorded.see_tail(tail, length)
        decider.restrict(partition, REFUSED_BY_STATE[unrecorded.state()])

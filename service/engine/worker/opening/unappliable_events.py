"""Recorded events that recovery can't apply again: quarantine them with an alarm, so that the partition opens.
restorer.py and partition_opening.py call this. Reasons are texts of lua/apply_events.lua, and stored; `failed` is the
unexpected one."""

from collections.abc import Sequence

import asyncpg
import structlog

from service.engine.formats.event_id import EventId
from service.engine.formats.events import Fact, encode_event
from service.engine.record.facts.fact_reader import decided_at, event_of
from service.engine.record.facts.quarantined_events import SkippedEvent, quarantine_recorded

MAX_FAILED_IN_A_ROW = 100
"""One failure is the event's fault. So many in a row are the program's, and quarantine would hide it."""
MAX_ALARMS = 100
"""Events of one opening that are logged singly; all are counted."""

log = structlog.get_logger()


class TooManyFailed(Exception):
    """Redis fails on one recorded event after another. No more of them are quarantined."""


class UnappliableEvents:
    """For one opening.

    1. Take the events that a run of `apply_events` skipped; both facts of a checkout are one event.
    2. Quarantine each once, and log the new ones.
    3. Raise TooManyFailed if event after event fails for an unexpected reason.
    """

    def __init__(self, pool: asyncpg.Pool, partition: int) -> None:
        self._pool, self._partition = pool, partition
        self._log = log.bind(partition=partition)
        self._failed_in_a_row = 0
        self.count = 0
        """Skipped events of this opening."""

    async def quarantine_skipped(self, facts: Sequence[Fact], reply: Sequence[int | str]) -> None:
        """Quarantine what a run of `apply_events` over these facts skipped; `reply` alternates the position in facts
        (from 0) and the reason. Raises TooManyFailed."""
        reason_by_position = dict(zip(map(int, reply[::2]), map(str, reply[1::2]), strict=True))
        self._count_failed(len(facts), reason_by_position)
        reasons: dict[EventId, str] = {}
        for position, reason in reason_by_position.items():
            reasons.setdefault(facts[position].id, reason)
        if reasons:
            events = {at: event_of([fact for fact in facts if fact.id == at]) for at in reasons}
            await self._quarantine(
                [SkippedEvent(*at, reason, encode_event(events[at])) for at, reason in reasons.items()]
            )

    async def quarantine_named(self, skipped: Sequence[tuple[EventId, str]]) -> None:
        """Quarantine the events that the recovery mark names: a worker that died has skipped them. The quarantine has
        their content from Postgres, or '' for an event that Postgres lacks."""
        entries = [await decided_at(self._pool, self._partition, *event_id) or "" for event_id, _ in skipped]
        if entries:
            await self._quarantine(
                [SkippedEvent(*event_id, reason, d) for (event_id, reason), d in zip(skipped, entries, strict=True)]
            )

    def _count_failed(self, facts: int, reason_by_position: dict[int, str]) -> None:
        for position in range(facts):
            self._failed_in_a_row = self._failed_in_a_row + 1 if reason_by_position.get(position) == "failed" else 0
            if self._failed_in_a_row >= MAX_FAILED_IN_A_ROW:
                raise TooManyFailed(f"{MAX_FAILED_IN_A_ROW} recorded events in a row can't be applied again")

    async def _quarantine(self, events: Sequence[SkippedEvent]) -> None:
        new = await quarantine_recorded(self._pool, self._partition, events)
        for epoch, seq, reason, _ in events:
            self.count += 1
            if (epoch, seq) in new and self.count <= MAX_ALARMS:
                self._log.error("event_not_redone", event_id=str(EventId(epoch, seq)), reason=reason)

"""What recovery can't apply again: kept apart with an alarm, so that the rest opens."""

from collections.abc import Sequence

import asyncpg
import structlog

from service.formats.event_id import EventId
from service.formats.events import Fact, decided
from service.record.facts.fact_reader import decided_at, event_of
from service.record.facts.quarantine import NotRedone, set_aside_recorded

MAX_FAILED_IN_A_ROW = 100
"""One event is an event's fault. So many that fail in a row are the program's, and quarantine would only hide it."""
MAX_ALARMS = 100
"""Events of one opening that are logged one by one; all are counted."""

log = structlog.get_logger()


class TooManyFailed(Exception):
    """Redis fails on one recorded event after the other. No more of them were set aside."""


class SettingAside:
    """For one opening.

    1. Of each run of `redo`, take the events that it left out; of a checkout, both of its facts are one event.
    2. Keep them in quarantine, once, and log those that are new.
    3. End with TooManyFailed where event after event fails for a reason that nobody foresaw.
    """

    def __init__(self, pool: asyncpg.Pool, partition: int) -> None:
        self._pool, self._partition = pool, partition
        self._log = log.bind(partition=partition)
        self._failed_in_a_row = 0
        self.count = 0
        """Events of this opening that were left out."""

    async def take(self, facts: Sequence[Fact], told: Sequence[int | str]) -> None:
        """What a run of `redo` over these facts left out: by turns a position and why. Raises TooManyFailed."""
        why = dict(zip(map(int, told[::2]), map(str, told[1::2]), strict=True))
        self._count_failed(len(facts), why)
        reasons: dict[EventId, str] = {}
        for position, reason in why.items():
            reasons.setdefault(facts[position].id, reason)
        if reasons:
            whole: dict[EventId, list[Fact]] = {}
            for fact in facts:
                if (at := fact.id) in reasons:
                    whole.setdefault(at, []).append(fact)
            await self._keep([NotRedone(*at, reason, decided(event_of(whole[at]))) for at, reason in reasons.items()])

    async def take_named(self, left_out: Sequence[tuple[EventId, str]]) -> None:
        """What a worker left out that died, from the mark."""
        known = [await decided_at(self._pool, self._partition, *at) or "" for at, _ in left_out]
        if known:
            await self._keep([NotRedone(*at, why, d) for (at, why), d in zip(left_out, known, strict=True)])

    def _count_failed(self, facts: int, why: dict[int, str]) -> None:
        for position in range(facts):
            self._failed_in_a_row = self._failed_in_a_row + 1 if why.get(position) == "failed" else 0
            if self._failed_in_a_row >= MAX_FAILED_IN_A_ROW:
                raise TooManyFailed(f"{MAX_FAILED_IN_A_ROW} recorded events in a row can't be applied again")

    async def _keep(self, events: Sequence[NotRedone]) -> None:
        new = await set_aside_recorded(self._pool, self._partition, events)
        for epoch, seq, why, _ in events:
            self.count += 1
            if (epoch, seq) in new and self.count <= MAX_ALARMS:
                self._log.error("event_not_redone", event_id=str(EventId(epoch, seq)), reason=why)

"""Spans of a worker: recording the events of sampled requests, which a composition root takes. partition_worker.py
takes these classes while traces are on."""

import re
from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Any

from opentelemetry.trace import SpanContext

from service.common.spans import Traces, ended_span, parse_traceparent
from service.engine.formats.event_id import EventId
from service.engine.formats.events import Entry, read_trace
from service.engine.hot.outbox import Fields
from service.engine.record.facts.event_writer import RejectedEvent
from service.engine.worker.write_behind import Flusher

MAX_LINKS = 32
MAX_EVENTS = 10_000

_event_id = re.compile(r"evt_([0-9]{1,15})-([0-9]{1,18})-[0-9]").fullmatch
"""sql/queries/sending.sql makes it: epoch, number, and part of an event. A test's or a job's id has another form."""


class EventTraces:
    """The contexts of the last recorded events of sampled requests, at most 10,000, for a partition's webhooks.

    Postgres does not store them. Another worker that takes over the partition sends without spans.
    """

    def __init__(self) -> None:
        self._of: dict[EventId, SpanContext] = {}

    def add(self, of: Mapping[EventId, SpanContext]) -> None:
        self._of |= of
        for event in list(islice(self._of, max(0, len(self._of) - MAX_EVENTS))):
            del self._of[event]

    def find(self, webhook_event: str) -> SpanContext | None:
        """The context of a delivery's event."""
        match = _event_id(webhook_event)
        return self._of.get(EventId(int(match[1]), int(match[2]))) if match else None


class TracedFlusher(Flusher):
    """Flusher, with a span for each transaction that records an event of a sampled request."""

    def __init__(self, traces: Traces, events: EventTraces, *args: Any) -> None:
        super().__init__(*args)
        self._traces, self._events = traces, events

    async def _commit(
        self, to: int, last: tuple[bytes, Fields], entries: Sequence[Entry], quarantined: Sequence[RejectedEvent] = ()
    ) -> None:
        requests = [(seq, r) for seq, _, r, _ in entries] or [(event.seq, event.r) for event in quarantined]
        contexts = {
            EventId(self._cursor[0], seq): context
            for seq, r in requests
            if (trace := read_trace(r)) and (context := parse_traceparent(trace))
        }
        if not contexts:
            await super()._commit(to, last, entries, quarantined)
            return
        attributes = {
            "db.system.name": "postgresql", "db.operation.name": "record", "db.operation.batch.size": len(requests),
            "scrip.partition": self._partition, "scrip.quarantined": len(quarantined),
        }  # fmt: skip
        span = self._traces.begin_linked("record", list(contexts.values())[:MAX_LINKS], attributes)
        self._events.add(contexts)  # before the sender can see the facts
        with ended_span(span):
            await super()._commit(to, last, entries, quarantined)

"""Events in quarantine: what happened, and what is to become of each. app.py registers it; roles.py has the scope of
each operation id. quarantine_settler.py does what is ordered. QuarantinedEvent copies fields of Quarantined by name."""

from collections.abc import Sequence
from typing import Annotated, Any

import msgspec
from litestar import Controller, Request, Response, get, post
from litestar.params import PathParameter

from service.engine.domain import field_types
from service.engine.domain.errors import Refusal
from service.engine.domain.field_types import Answer, Page, decode_field
from service.engine.domain.times import Timestamp, from_ms, to_ms
from service.engine.formats.event_id import END, EventId, parse_sent_id
from service.engine.formats.quarantined_event import Kind, kind_of, read_names
from service.engine.formats.quarantined_event import describe as describe_event
from service.engine.operations.caller import Caller
from service.engine.record.audit_entries import write_audit
from service.engine.record.facts.quarantined_events import Cause
from service.engine.record.pool import Database
from service.server.api.documented import describe_action, describe_route
from service.server.api.idempotency import ActionResult, run_once
from service.server.api.reading import Listing, read_json_body, unpack_request
from service.server.in_postgres.quarantine_resolutions import (
    Choice,
    Quarantined,
    choices_of,
    describe_recorded,
    order_resolution,
    page_of_workspace,
)
from service.server.requests import page_cursors

EventName = Annotated[str, PathParameter(name="eventId", description="The event's id.")]

_EXAMPLE = {
    "eventId": "5-1207",
    "kind": "redeemed",
    "cause": "refused",
    "reason": "UniqueViolationError",
    "since": "2026-11-20T09:15:30.456Z",
    "text": "redeemed, code SUMMER-7F3K by user ann in order A-1, at 2026-11-20T09:15:30.123Z.",
    "code": "SUMMER-7F3K",
    "userId": "ann",
    "orderId": "A-1",
    "recorded": "active, 1 of 1 uses, last redeemed by event 5-1100",
    "ordered": None,
    "failure": None,
    "choices": ["retry", "settle", "release"],
}


class QuarantinedEvent(Answer, kw_only=True):
    """An event that an operator must decide about. Its code is blocked after the next rebuild of Redis."""

    event_id: str
    kind: Kind
    cause: Cause
    reason: str
    since: Timestamp
    text: str
    code: str | None
    user_id: str | None
    order_id: str | None
    recorded: str | None
    ordered: Choice | None
    failure: str | None
    choices: list[Choice]


class QuarantinePage(Page[QuarantinedEvent]):
    """A page of events, newest first."""


class ResolveQuarantined(field_types.Request, kw_only=True):
    """What a worker does with the event."""

    choice: Annotated[
        Choice,
        msgspec.Meta(
            description="`retry`: record the event as it was decided. `settle`: switch its code off. "
            "`release`: drop the event, so that its code gets the state that Postgres has."
        ),
    ]


class QuarantineEvents(Controller):
    path = "/v1/ops/quarantine"
    tags = ("Operators",)

    @get(
        **describe_route(
            "listQuarantine",
            "List events in quarantine",
            returns="A page of events that wait for a decision.",
            item=_EXAMPLE,
        ),
    )
    async def page(self, request: Request[Any, Any, Any]) -> QuarantinePage:
        """The workspace's events that wait for a decision, newest first. Scope `operate`."""
        caller, context, params = unpack_request(request, Listing)
        place = page_cursors.QUARANTINE.decode(params.cursor)
        before = EventId(*place) if place else END
        events = await page_of_workspace(context.pool, caller.partition, caller.workspace, before, params.limit + 1)
        page = page_cursors.QUARANTINE.make_page(events, params.limit, lambda one: one.id)
        items = await _render(context.pool, caller, page.items)
        return QuarantinePage(items=items, next_cursor=page.next_cursor)

    @post(
        "/{eventId:str}",
        status_code=202,
        **describe_action(
            "resolveQuarantined",
            "Resolve an event in quarantine",
            returns="The event, with the choice that a worker will carry out.",
            body=ResolveQuarantined,
            example={"choice": "settle"},
            answer=_EXAMPLE | {"ordered": "settle"},
            refusals="event_not_found choice_not_possible",
        ),
    )
    async def resolve(self, request: Request[Any, Any, Any], event_id: EventName) -> Response[QuarantinedEvent]:
        """Order what a worker does with the event. When it is done, the event is no longer listed, and a comparison
        repairs the workspace's data in Redis. Audited. Scope `operate`."""
        caller, context, _ = unpack_request(request)
        body, payload = await read_json_body(request, ResolveQuarantined)

        async def act() -> ActionResult[QuarantinedEvent]:
            async with context.pool.acquire() as connection, connection.transaction():
                event = await _find(connection, caller, event_id)
                if payload.choice not in choices_of(event):
                    raise Refusal("choice_not_possible")
                await order_resolution(connection, event, payload.choice)
                after = {"cause": event.cause, "reason": event.reason}
                await write_audit(connection, caller.workspace, f"quarantine.{payload.choice}", event.id, after=after)
                (item,) = await _render(connection, caller, [await _find(connection, caller, event_id)])
            return ActionResult(status=202, body=item)

        return await run_once(request, body, act)


async def _find(connection: Database, caller: Caller, event_id: str) -> Quarantined:
    """Raises Refusal `event_not_found`."""
    at = parse_sent_id(event_id)
    if at is None:
        raise Refusal("event_not_found")
    before = EventId(at.epoch, at.seq + 1)  # the page begins with the newest event before this id
    events = await page_of_workspace(connection, caller.partition, caller.workspace, before, 1)
    if not events or events[0].id != at:
        raise Refusal("event_not_found")
    return events[0]


async def _render(database: Database, caller: Caller, events: Sequence[Quarantined]) -> list[QuarantinedEvent]:
    # Only the first code of an event: the second, of a checkout, is its gift's.
    named = [next(iter(read_names(event.d)), None) for event in events]
    codes = sorted({one.code for one in named if one})
    recorded = await describe_recorded(database, caller.partition, caller.workspace, codes)
    return [
        QuarantinedEvent.from_row(
            event,
            event_id=str(event.id),
            kind=kind_of(event.d),
            since=from_ms(to_ms(event.at)),
            text=describe_event(event.id, event.d, event.r),
            code=one.code if one else None,
            user_id=decode_field(one.user) if one and one.user else None,
            order_id=decode_field(one.order) if one and one.order else None,
            recorded=recorded[one.code] if one else None,
            choices=choices_of(event),
        )
        for event, one in zip(events, named, strict=True)
    ]

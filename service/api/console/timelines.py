"""Looking for anything by its name, and what happened to it."""

from typing import Annotated, Any, Literal
from uuid import UUID

import msgspec
from litestar import Controller, Request, Response, get

from service.api.auth import caller
from service.api.console.overview import FOR_MANAGERS
from service.api.context import Context
from service.api.controllers.histories import settled
from service.api.reading import query
from service.domain import field_types
from service.domain.errors import Refusal
from service.domain.field_types import Answer, canonical_code, is_caller_id, own_id
from service.domain.money import from_e4
from service.domain.times import from_ms
from service.formats.event_id import EventId
from service.operations.base import encode
from service.record.config.book_rows import read_book
from service.record.config.job_rows import read_job
from service.record.facts.history_pages import redemption
from service.record.facts.timeline_queries import Kind as RecordKind
from service.record.facts.timeline_queries import TimelineEvent, events_around, events_of, is_known, recorded_code

Kind = Literal["code", "user", "order", "redemption", "key", "request", "book", "job"]
_EVENTS: dict[str, Literal["assigned", "unassigned", "redeemed", "rolledBack"]] = {
    "A": "assigned",
    "U": "unassigned",
    "R": "redeemed",
    "B": "rolledBack",
}
_UUID7 = 7


class Search(field_types.Request):
    """What is looked for."""

    q: Annotated[str, msgspec.Meta(min_length=1, max_length=255)]


class Ask(field_types.Request):
    """Whose timeline: a code's, a user's, an order's, of an Idempotency-Key, or around a request's id."""

    kind: Literal["code", "user", "order", "key", "request"]
    name: Annotated[str, msgspec.Meta(min_length=1, max_length=255)]


class Match(Answer):
    """Something of this name; a redemption names its code, too."""

    kind: Kind
    name: str
    code: str | None = None


class Found(Answer):
    """All that has the name."""

    matches: list[Match]


class Event(Answer):
    """A recorded event; what it doesn't have is None. `event` is its id in the outbox."""

    what: Literal["assigned", "unassigned", "redeemed", "rolledBack"]
    at: str
    event: str
    book_id: UUID | None
    code: str
    user_id: str
    order_id: str | None
    redemption_id: str | None
    order_value: str | None
    discount_amount: str | None
    currency: str | None
    restore: bool | None
    reason: str | None
    ip_address: str | None
    user_agent: str | None


class RecordedCode(Answer):
    """A code as Postgres has it; `status` is the one beneath a lock."""

    status: str
    user_id: str | None
    redemptions: int
    max_redemptions: int | None
    redeemed_by: str | None
    expires_at: str | None
    added_at: str


class Timeline(Answer):
    """What happened, newest first; `recorded` where nothing that was answered before is missing."""

    events: list[Event]
    recorded: bool
    postgres: RecordedCode | None = None


class Timelines(Controller):
    """Finding things."""

    path = "/"

    @get("/search", include_in_schema=False, opt=FOR_MANAGERS)
    async def search(self, request: Request[Any, Any, Any]) -> Found:
        """Everything that has this name: code, user, order, redemption, Idempotency-Key, request, book, job."""
        who = caller(request)
        text = query(request, Search).q.strip()
        context: Context = request.app.state.context
        await settled(request, who)
        names: dict[RecordKind, str | None] = {
            "code": canonical_code(text),
            "user": text if is_caller_id(text) else None,
            "order": text if is_caller_id(text) else None,
            "key": text,
        }
        matches = [
            Match(kind=kind, name=name)
            for kind, name in names.items()
            if name and await is_known(context.pool, who.workspace, kind, name)
        ]
        if not matches and (found := own_id(text)):
            matches.append(await _of_ours(context, who.workspace, found))
        return Found(matches=matches)

    @get("/timeline", include_in_schema=False, opt=FOR_MANAGERS)
    async def timeline(self, request: Request[Any, Any, Any]) -> Response[Timeline]:
        """The last 200 events, once what was answered before is recorded, or after 2 s."""
        who = caller(request)
        asked = query(request, Ask)
        pool = request.app.state.context.pool
        lag = await settled(request, who)
        body = Timeline(events=[], recorded=not lag)
        if asked.kind == "request":
            found = own_id(asked.name)
            if found is None or found.version != _UUID7:
                raise Refusal("not_found")
            events = await events_around(pool, who.workspace, found)
        else:
            name = canonical_code(asked.name) if asked.kind == "code" else asked.name
            if name is None:
                raise Refusal("coupon_not_found")
            events = await events_of(pool, who.workspace, asked.kind, name)
            if asked.kind == "code":
                body.postgres = await _recorded(pool, who.workspace, name)
        body.events = [_shown(event) for event in events]
        return Response(encode(body), media_type="application/json")  # type: ignore[return-value]


async def _of_ours(context: Context, workspace: int, found: UUID) -> Match:
    """What an id of ours stands for; one that nothing has may be a request's, whose time is in it."""
    name = str(found)
    if past := await redemption(context.pool, workspace, found):
        return Match(kind="redemption", name=name, code=past.code)
    for kind, read in (("book", read_book), ("job", read_job)):
        try:
            await read(context.pool, workspace, found)
            return Match(kind=kind, name=name)  # type: ignore[arg-type]
        except Refusal:
            continue
    if found.version != _UUID7:
        raise Refusal("not_found")
    return Match(kind="request", name=name)


async def _recorded(pool: Any, workspace: int, code: str) -> RecordedCode | None:
    found = await recorded_code(pool, workspace, code)
    if found is None:
        return None
    row, added_ms = found
    return RecordedCode(
        status=row.status,
        user_id=row.user_id,
        redemptions=row.redemptions,
        max_redemptions=row.max_redemptions,
        redeemed_by=row.redeemed_by,
        expires_at=None if row.expires_at_ms is None else from_ms(row.expires_at_ms),
        added_at=from_ms(added_ms),
    )


def _shown(event: TimelineEvent) -> Event:
    digits = event.digits or 0
    return Event(
        what=_EVENTS[event.kind],
        at=from_ms(event.at_ms),
        event=str(EventId(event.epoch, event.seq)),
        book_id=event.book_id,
        code=event.code,
        user_id=event.user_id,
        order_id=event.order_id,
        redemption_id=event.redemption_id,
        order_value=None if event.value_e4 is None else from_e4(event.value_e4, digits),
        discount_amount=None if event.discount_e4 is None else from_e4(event.discount_e4, digits),
        currency=event.currency,
        restore=event.restore,
        reason=event.reason,
        ip_address=event.ip,
        user_agent=event.user_agent,
    )

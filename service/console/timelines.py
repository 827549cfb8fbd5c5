"""The console's routes for search by name, and for timelines of events. They only read. session.py registers them; the
console's pages read these names, and bodies copy fields of rows by name."""

import re
from contextlib import suppress
from datetime import datetime
from functools import partial
from operator import itemgetter
from typing import Annotated, Any, Literal
from uuid import UUID

import msgspec
from litestar import Controller, Request, get

from service.engine.domain import field_types
from service.engine.domain.errors import Refusal
from service.engine.domain.field_types import Answer, canonicalize_code, is_caller_id
from service.engine.domain.money import CURRENCY_DIGITS, from_e4
from service.engine.domain.times import Timestamp, from_ms
from service.engine.domain.uuids import parse_uuid, time_ms_of
from service.engine.formats.event_id import EventId
from service.engine.operations.caller import Caller
from service.engine.record.actor import ActorKind
from service.server.api.auth import FOR_MANAGERS
from service.server.api.context import Context
from service.server.api.controllers.histories import wait_recorded
from service.server.api.reading import unpack_request
from service.server.in_postgres.book_rows import page_books, read_book
from service.server.in_postgres.change_history import read_code_history, read_rollback_actors
from service.server.in_postgres.code_pages import find_code
from service.server.in_postgres.history_pages import redemption
from service.server.in_postgres.job_rows import read_job
from service.server.in_postgres.refused_batches import find_refused
from service.server.in_postgres.timeline_queries import Kind as RecordKind
from service.server.in_postgres.timeline_queries import (
    TimelineEvent,
    codes_with_prefix,
    events_around,
    events_of,
    is_known,
    recorded_code,
)

Kind = Literal["code", "user", "order", "redemption", "key", "request", "refused", "book", "job"]
What = Literal["assigned", "unassigned", "redeemed", "rolledBack", "credited", "closed"]
_EVENTS: dict[str, What] = {
    "A": "assigned",
    "U": "unassigned",
    "R": "redeemed",
    "B": "rolledBack",
}
MAX_PARTIAL = 20
"""The most books, and the most codes, that a part of their name finds."""
_PREFIX = re.compile(r"[A-Z0-9_-]{2,64}")


class Search(field_types.Request):
    """The name to search for."""

    q: Annotated[str, msgspec.Meta(min_length=1, max_length=255)]


class Ask(field_types.Request):
    """The subject of a timeline: a code, a user, an order, an Idempotency-Key, or a request id."""

    kind: Literal["code", "user", "order", "key", "request"]
    name: Annotated[str, msgspec.Meta(min_length=1, max_length=255)]


class AskChanges(field_types.Request):
    """The code whose changes to list."""

    code: Annotated[str, msgspec.Meta(min_length=1, max_length=255)]


class Match(Answer):
    """A match; for a redemption with its code, for a book with its title, since its name here is its id."""

    kind: Kind
    name: str
    code: str | None = None
    title: str | None = None


class Matches(Answer):
    """All matches."""

    matches: list[Match]


class Event(Answer):
    """A recorded event; fields that its kind lacks are None. `event` is its id in the outbox. `actor` rolled it back in
    the console, or changed the card. `discount_amount` is also what was given back, credited or closed."""

    what: What
    at: str
    event: str
    book_id: UUID | None
    code: str
    user_id: str | None
    order_id: str | None
    redemption_id: str | None
    order_value: str | None
    discount_amount: str | None
    balance_after: str | None
    currency: str | None
    restore: bool | None
    reason: str | None
    ip_address: str | None
    user_agent: str | None
    actor: ActorKind | None
    key_id: UUID | None
    key_name: str | None
    person: str | None


class RecordedCode(Answer):
    """A code in Postgres; a lock does not change `status`."""

    status: str
    user_id: str | None
    redemptions: int
    max_redemptions: int | None
    redeemed_by: str | None
    expires_at: str | None
    amount: str | None
    added_at: str


class HeldBy(Answer):
    """A live lock."""

    user_id: str
    order_id: str | None
    since: str
    until: str


class Holds(Answer):
    """How many live locks a code has, and those that end first. Redis stores no lock that has ended."""

    total: int
    first: list[HeldBy]


class CodeChange(Answer):
    """A change of the code alone, by its book, or by a job, or what was done with the code in the console. `actor` is
    None if it is not known any more. Of the code alone: of any code of the book that is masked alike."""

    at: Timestamp
    scope: Literal["code", "book", "job"]
    action: str
    actor: ActorKind | None
    key_id: UUID | None
    key_name: str | None
    person: str | None
    job_id: UUID | None
    before: dict[str, Any]
    after: dict[str, Any]


class CodeChanges(Answer):
    """The newest changes of a code and its book, newest first."""

    items: list[CodeChange]


class Timeline(Answer):
    """Events, newest first. `recorded`: whether all events up to the request are included. `holds` is a code's, None
    while Redis is unavailable."""

    events: list[Event]
    recorded: bool
    postgres: RecordedCode | None = None
    holds: Holds | None = None


class Timelines(Controller):
    path = "/"

    @get("/search", opt=FOR_MANAGERS)
    async def search(self, request: Request[Any, Any, Any]) -> Matches:
        """The code, user, order, Idempotency-Key and refused request (of the last hour) with this name; if there is
        none, the redemption, book, job or request with this id; books with this text in name or description; and the
        codes that begin with it, if it is no code itself."""
        caller, context, params = unpack_request(request, Search)
        text = params.q.strip()
        await wait_recorded(context, caller)
        names: dict[RecordKind, str | None] = {
            "code": canonicalize_code(text),
            "user": text if is_caller_id(text) else None,
            "order": text if is_caller_id(text) else None,
            "key": text,
        }
        matches = [
            Match(kind=kind, name=name)
            for kind, name in names.items()
            if name and await is_known(context.pool, caller.workspace, kind, name)
        ]
        if "operate" in caller.scopes and (await find_refused(context.pool, text, caller.workspace)).refusals:
            matches.append(Match(kind="refused", name=text))
        if not matches and (parsed := parse_uuid(text)):
            matches.append(await _find_by_id(context, caller.workspace, parsed))
        books = await page_books(context.pool, caller.workspace, MAX_PARTIAL, q=text)
        matches += [Match(kind="book", name=str(book.book_id), title=book.name) for book in books]
        if _PREFIX.fullmatch(text.upper()) and not any(match.kind == "code" for match in matches):
            codes = await codes_with_prefix(context.pool, caller.workspace, text.upper(), MAX_PARTIAL)
            matches += [Match(kind="code", name=code) for code in codes]
        return Matches(matches=matches)

    @get("/timeline", opt=FOR_MANAGERS)
    async def timeline(self, request: Request[Any, Any, Any]) -> Timeline:
        """The last 200 events; waits up to 2 s until all events are recorded."""
        caller, context, params = unpack_request(request, Ask)
        pool = context.pool
        lag = await wait_recorded(context, caller)
        body = Timeline(events=[], recorded=not lag)
        if params.kind == "request":
            parsed = parse_uuid(params.name)
            at_ms = time_ms_of(parsed) if parsed else None
            if at_ms is None:
                raise Refusal("not_found")
            read = partial(events_around, pool, caller.workspace, at_ms)
        else:
            name = canonicalize_code(params.name) if params.kind == "code" else params.name
            if name is None:
                raise Refusal("coupon_not_found")
            read = partial(events_of, pool, caller.workspace, params.kind, name)
            if params.kind == "code":
                body.postgres = await _read_recorded(pool, caller.workspace, name)
                body.holds = await _read_holds(context, caller, name)
        events = await read()
        body.events = [_render_event(event) for event in events]
        await _add_actors(pool, caller.workspace, body.events)
        return body

    @get("/changes", opt=FOR_MANAGERS)
    async def changes(self, request: Request[Any, Any, Any]) -> CodeChanges:
        """The newest changes of a code and its book. Addresses and requests are only in the audit."""
        caller, context, params = unpack_request(request, AskChanges)
        code = canonicalize_code(params.code)
        place = code and await find_code(context.pool, caller.workspace, code)
        if not code or not place:
            raise Refusal("coupon_not_found")
        entries = await read_code_history(context.pool, caller.workspace, code, place)
        return CodeChanges(items=[CodeChange.from_row(entry, **entry.actor._asdict()) for entry in entries])


async def _find_by_id(context: Context, workspace: int, parsed: UUID) -> Match:
    """The object with this id. An unknown UUID of version 7 may be a request id, which contains its time."""
    name = str(parsed)
    if past := await redemption(context.pool, workspace, parsed):
        return Match(kind="redemption", name=name, code=past.code)
    with suppress(Refusal):
        return Match(kind="book", name=name, title=(await read_book(context.pool, workspace, parsed)).name)
    with suppress(Refusal):
        await read_job(context.pool, workspace, parsed)
        return Match(kind="job", name=name)
    if time_ms_of(parsed) is None:
        raise Refusal("not_found")
    return Match(kind="request", name=name)


async def _read_recorded(pool: Any, workspace: int, code: str) -> RecordedCode | None:
    recorded = await recorded_code(pool, workspace, code)
    if recorded is None:
        return None
    row, added_ms = recorded
    return RecordedCode.from_row(row, added_at=from_ms(added_ms))


async def _read_holds(context: Context, caller: Caller, code: str) -> Holds | None:
    with suppress(Refusal):
        locks = await context.hot.coupon_locks(caller, code)
        return Holds(total=locks.total, first=list(map(HeldBy.from_row, locks.first)))
    return None


async def _add_actors(pool: Any, workspace: int, events: list[Event]) -> None:
    """Add to rollbacks who ordered them in the console. Of an order with several, the nearest in time."""
    undone = [event for event in events if event.what == "rolledBack"]
    subjects = {name for event in undone for name in (event.redemption_id, event.order_id) if name}
    actors = await read_rollback_actors(pool, workspace, subjects)
    for event in undone:
        candidates = [(abs(at - datetime.fromisoformat(event.at)), actor) for name, at, actor in actors
               if name in (event.redemption_id, event.order_id)]  # fmt: skip
        if candidates:
            event.actor, event.key_id, event.key_name, event.person = min(candidates, key=itemgetter(0))[1]


def _render_amount(amount_e4: int | None, currency: str | None) -> str | None:
    return None if amount_e4 is None or currency is None else from_e4(amount_e4, CURRENCY_DIGITS[currency])


def _render_event(event: TimelineEvent) -> Event:
    amounts_e4 = {
        "order_value": event.value_e4, "discount_amount": event.discount_e4, "balance_after": event.balance_after_e4,
    }  # fmt: skip
    return Event.from_row(
        event,
        what=event.change or _EVENTS[event.kind],
        event=str(EventId(event.epoch, event.seq)),
        user_id=event.user_id or None,
        ip_address=event.ip,
        actor="key" if event.key_id else "person" if event.person else None,
        **{name: _render_amount(e4, event.currency) for name, e4 in amounts_e4.items()},
    )

"""The audit log: who changed what. app.py registers it; roles.py has the scope of each operation id. Entry copies
AuditRow's fields by name, and the CSV file has AuditRow's fields in their order."""

from collections.abc import Sequence
from functools import partial
from typing import Annotated, Any
from uuid import UUID

import msgspec
from litestar import Controller, Request, Response, get

from service.engine.domain.field_types import Answer, Page, check_text, text_schema
from service.engine.domain.times import Time, Timestamp, check_times, from_ms, to_ms
from service.engine.domain.uuids import parse_uuid
from service.engine.record.actor import ActorKind
from service.server.api.controllers.exports import PAGE, read_all, read_style
from service.server.api.controllers.histories import wait_for_replica
from service.server.api.csv_rows import MEDIA_TYPE, Cell, CsvFormat, encode_csv_pages
from service.server.api.csv_stream import CsvFile
from service.server.api.documented import describe_history
from service.server.api.reading import Listing, decode_position, unpack_request
from service.server.in_postgres.audit_log import AuditRow, page_audit
from service.server.in_postgres.object_names import read_names
from service.server.requests import page_cursors

_COLUMNS = "at actor keyId keyName person ipAddress userAgent requestId action subject before after".split()
_EXAMPLE = {
    "at": "2026-11-20T09:14:00.123Z",
    "actor": "key",
    "keyId": "019aa0b2-8a11-7c2d-b8a4-1f0f6f1d2e90",
    "keyName": "back office",
    "person": None,
    "ipAddress": "192.0.2.7",
    "userAgent": "office/1.4",
    "requestId": "4f1c",
    "action": "book.changed",
    "subject": "019aa0b2-6f0c-7b52-8a0e-5d1f3d1f9c11",
    "subjectName": "Summer 2026",
    "before": {"status": "active"},
    "after": {"status": "inactive"},
}
_CSV = (
    "at,actor,keyId,keyName,person,ipAddress,userAgent,requestId,action,subject,before,after\r\n"
    "2026-11-20T09:14:00.123Z,key,019aa0b2-8a11-7c2d-b8a4-1f0f6f1d2e90,back office,,192.0.2.7,office/1.4,4f1c,"
    'book.changed,019aa0b2-6f0c-7b52-8a0e-5d1f3d1f9c11,"{""status"":""active""}","{""status"":""inactive""}"\r\n'
)


class ListAudit(Listing, kw_only=True):
    """Filters of the list."""

    action: Annotated[str, text_schema(0, 100, description="Only this action, such as `book.changed`.")] | None = None
    actor: Annotated[ActorKind | None, msgspec.Meta(description="Only entries of this kind of actor.")] = None
    key_id: Annotated[UUID | None, msgspec.Meta(description="Only entries of this key.")] = None
    person: Annotated[str, text_schema(0, 255, description="Only entries of this person.")] | None = None
    since: Annotated[Time | None, msgspec.Meta(description="Only from this time on.")] = None
    until: Annotated[Time | None, msgspec.Meta(description="Only before this time.")] = None

    def __post_init__(self) -> None:
        check_text("action", self.action, 0, 100)
        check_text("person", self.person, 0, 255)
        check_times(self)


class Entry(Answer, kw_only=True):
    """An entry of the audit log. Codes are masked."""

    at: Timestamp
    actor: ActorKind
    key_id: UUID | None
    key_name: str | None
    person: str | None
    ip_address: str | None
    user_agent: str | None
    request_id: str | None
    action: str
    subject: str
    subject_name: str | None
    before: dict[str, Any] | None
    after: dict[str, Any] | None


class EntryPage(Page[Entry]):
    """A page of entries, newest first."""


class Audit(Controller):
    path = "/v1"
    tags = ("Audit",)

    @get(
        "/audit",
        **describe_history(
            "listAudit", "List audit entries", returns="A page of entries.", query=ListAudit, item=_EXAMPLE
        ),
    )
    async def page(self, request: Request[Any, Any, Any]) -> Response[EntryPage]:
        """Audit entries, newest first: changes of books, codes, users, keys and settings, each committed with its
        change; sign-ins and sign-outs of the console; and `attempts.refused`, the count of rejected requests by key,
        every ten seconds. Entries are never changed or removed. A filter that takes more than 5 s is `invalid`.

        Scope `operate`."""
        caller, context, params = unpack_request(request, ListAudit)
        before = decode_position(params, page_cursors.AUDIT)
        filters = (params.action, params.actor, params.key_id, params.since, params.until, params.person)
        headers = await wait_for_replica(context)
        read = partial(page_audit, context.replica.pool, caller.workspace, params.limit + 1, before, *filters)
        if any(value is not None for value in filters):
            rows = await context.bulk.search(caller.workspace, read)
        else:
            rows = await context.bulk.read(caller.workspace, params.limit, read)
        page = page_cursors.AUDIT.make_page(rows, params.limit, lambda row: (row.position,))
        ids = {parsed for row in rows if (parsed := _id_of(row))}
        names = await read_names(context.replica.pool, caller.workspace, ids)
        items = await context.bulk.render(caller.workspace, page.items, partial(_render_entry, names=names))
        body = EntryPage(items=items, next_cursor=page.next_cursor)
        return Response(body, headers=headers)

    @get(
        "/audit.csv",
        media_type=MEDIA_TYPE,
        **describe_history(
            "exportAudit", "Export audit entries", returns="The entries, as CSV.", query=CsvFormat, answer=_CSV
        ),
    )
    async def export(self, request: Request[Any, Any, Any]) -> Response[str]:
        """All entries as CSV, newest first; `before` and `after` are JSON. Scope `operate`."""
        caller, context, params = unpack_request(request, CsvFormat)
        context.bulk.exports.check(caller.workspace)
        headers, style = await wait_for_replica(context), await read_style(context, caller, params.excel)
        read = partial(page_audit, context.replica.pool, caller.workspace, PAGE)
        pages = context.bulk.read_pages(caller.workspace, read_all(read))
        lines = encode_csv_pages(_COLUMNS, pages, _read_cells, style)
        return CsvFile(context.bulk, caller.workspace, lines, "audit.csv", headers)


def _read_cells(row: AuditRow) -> Sequence[Cell]:
    _, at, actor, key_id, *others = msgspec.structs.astuple(row)
    return from_ms(to_ms(at)), actor, key_id and str(key_id), *others


def _id_of(row: AuditRow) -> UUID | None:
    """The id with which the subject begins; None for a user, whose id may look like another object's."""
    return None if row.action.startswith("user.") else parse_uuid(row.subject.partition(" ")[0])


def _render_entry(row: AuditRow, names: dict[UUID, str]) -> Entry:
    parsed = _id_of(row)
    before, after = (None if text is None else msgspec.json.decode(text) for text in (row.before, row.after))
    return Entry.from_row(
        row, ip_address=row.ip, subject_name=names.get(parsed) if parsed else None, before=before, after=after
    )

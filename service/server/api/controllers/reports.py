"""Reports: redemptions and the way to them, by interval. app.py registers it; roles.py has the scope of each operation
id. All figures are roll-ups (docs/internals/decisions/0092-reports.md), except when a book was sold out."""

import time
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Annotated, Any, ClassVar, TypeVar
from uuid import UUID

import msgspec
from litestar import Controller, Request, Response, get
from msgspec import UNSET, UnsetType, field

from service.engine.domain import field_types
from service.engine.domain.errors import invalid
from service.engine.domain.field_types import Answer, check_text, text_schema
from service.engine.domain.money import CURRENCY_DIGITS, Amount
from service.engine.domain.outcomes import find_status
from service.engine.domain.times import Time, Timestamp, check_times, from_ms, to_datetime, to_ms
from service.engine.operations.caller import Caller
from service.engine.operations.table import DONE
from service.server.api.book_counts import count_or_none
from service.server.api.context import Context
from service.server.api.controllers.books import find_book
from service.server.api.controllers.histories import LAG, wait_at_replica
from service.server.api.csv_rows import MEDIA_TYPE, Cell, CsvStyle, Excel, encode_csv_pages
from service.server.api.csv_stream import CsvFile
from service.server.api.documented import describe_history
from service.server.api.reading import unpack_request
from service.server.in_postgres import report_rows
from service.server.in_postgres.object_names import read_names
from service.server.in_postgres.report_rows import Ends, Grouping, Groups, Interval, Liability, Sales, Span, Steps
from service.server.requests.book_states import find_end_of_sale

Row = TypeVar("Row")
Item = TypeVar("Item", "Group", "CardsOfBook")

MAX_DAYS: dict[Interval, int] = {"hour": 31, "day": 400, "week": 400}
"""The longest time of a report, by its interval."""
DEFAULT_DAYS: dict[Interval, int] = {"hour": 2, "day": 30, "week": 182}
MAX_ROWS = 5000
MAX_COUNTED = 50
"""Of so many books at most a report finds those that are sold out: each costs a script."""

_SALES = {
    "from": "2026-11-20T00:00:00.000Z",
    "currency": "USD",
    "redemptions": 95,
    "orderValue": "9500.00",
    "discountAmount": "1900.00",
    "balanceSpent": "0.00",
    "rolledBack": 3,
    "newUsers": 60,
    "returningUsers": 31,
    "soldOutAt": None,
    "soldOutAfterMs": None,
}
_STEPS = {
    "from": "2026-11-20T00:00:00.000Z",
    "assigned": 180,
    "locked": 140,
    "released": 12,
    "lockExpired": None,
    "redeemed": 95,
    "refused": {"coupon_redeemed": 7, "coupon_locked": 21},
}
_CARDS = {
    "from": "2026-11-20T00:00:00.000Z",
    "bookId": "019aa0b2-6f0c-7b52-8a0e-5d1f3d1f9c11",
    "currency": "USD",
    "issued": "500.00",
    "credited": "10.00",
    "spent": "120.00",
    "returned": "20.00",
    "closed": "0.00",
    "outstanding": "1410.00",
}
_AROUND = {
    "asOf": "2026-11-20T15:09:11.000Z",
    "timeZone": "UTC",
    "from": "2026-11-20T00:00:00.000Z",
    "to": "2026-11-21T00:00:00.000Z",
}
_SALES_COLUMNS = (
    "from bookId tag currency redemptions orderValue discountAmount balanceSpent rolledBack newUsers returningUsers "
    "soldOutAt soldOutAfterMs bookName"
).split()
_FUNNEL_COLUMNS = "figure code count from bookId tag bookName".split()
_CARDS_COLUMNS = [*_CARDS, "bookName"]
_CARDS_CSV = ",".join(_CARDS_COLUMNS) + "\r\n" + ",".join(_CARDS.values()) + ",Gift cards\r\n"
_SALES_CSV = ",".join(_SALES_COLUMNS) + "\r\n2026-11-20T00:00:00.000Z,,,USD,95,9500.00,1900.00,0.00,3,60,31,,,\r\n"
_FUNNEL_CSV = (
    ",".join(_FUNNEL_COLUMNS) + "\r\nassigned,,180,2026-11-20T00:00:00.000Z,,,\r\n"
    "refused,coupon_locked,21,2026-11-20T00:00:00.000Z,,,\r\n"
)


class WantedLiability(field_types.Request, kw_only=True):
    """What a report of cards is about."""

    interval: ClassVar[Interval] = "day"
    group_by: ClassVar[Grouping] = "book"
    tag: ClassVar[str | None] = None
    from_: Annotated[
        Time | None, msgspec.Meta(description="A time in the first day. Default: 30 days before `to`.")
    ] = field(name="from", default=None)
    to: Annotated[
        Time | None,
        msgspec.Meta(description="A time in the last day, or its end. Default: now. At most 400 days after `from`."),
    ] = None
    book_id: Annotated[UUID | None, msgspec.Meta(description="Only this book.")] = None

    def __post_init__(self) -> None:
        check_times(self)


class WantedLiabilityFile(WantedLiability, kw_only=True):
    """What a file of cards is about, and its format."""

    excel: Excel = None


class Wanted(field_types.Request, kw_only=True):
    """What a report is about."""

    from_: Annotated[
        Time | None,
        msgspec.Meta(
            description="A time in the first interval. Default: 2 days before `to` by hours, 30 by days, 182 by weeks."
        ),
    ] = field(name="from", default=None)
    to: Annotated[
        Time | None,
        msgspec.Meta(
            description="A time in the last interval, or its end. Default: now. At most 31 days after `from` by hours, "
            "else 400."
        ),
    ] = None
    interval: Annotated[Interval, msgspec.Meta(description="In the workspace's `timeZone`; weeks begin on Monday.")] = (
        "day"
    )
    group_by: Annotated[
        Grouping, msgspec.Meta(description="A row for each book, for each tag, or for all together.")
    ] = "none"
    book_id: Annotated[UUID | None, msgspec.Meta(description="Only this book.")] = None
    tag: Annotated[str, text_schema(0, 255, description="Only books that have this tag now.")] | None = None

    def __post_init__(self) -> None:
        check_times(self)
        check_text("tag", self.tag, 0, 255)


class WantedFile(Wanted, kw_only=True):
    """What a file is about, and its format."""

    excel: Excel = None


class Group(Answer, kw_only=True):
    """An interval of a group."""

    from_: Timestamp = field(name="from")
    book_id: UUID | UnsetType = UNSET
    tag: str | UnsetType = UNSET


class SalesOfGroup(Group, kw_only=True):
    """Redemptions of an interval, a group and a currency; null for those without an order value."""

    currency: str | None
    redemptions: int
    order_value: Amount
    discount_amount: Amount
    balance_spent: Amount
    rolled_back: int
    new_users: int
    returning_users: int
    sold_out_at: Timestamp | None
    sold_out_after_ms: int | None


class CardsOfBook(Answer, kw_only=True):
    """What happened to a book's cards in a day, each at its own time."""

    from_: Timestamp = field(name="from")
    book_id: UUID
    currency: str
    issued: Amount
    credited: Amount
    spent: Amount
    returned: Amount
    closed: Amount
    outstanding: Amount


class StepsOfGroup(Group, kw_only=True):
    """The way to redemptions in an interval. `locked`, `released` and `refused` are counted for the whole workspace
    only: null with `groupBy`, `bookId` or `tag`."""

    assigned: int
    locked: int | None
    released: int | None
    lock_expired: int | None
    redeemed: int
    refused: dict[str, int] | None


class Around(Answer, kw_only=True):
    """What surrounds the figures. Intervals without figures have no item."""

    as_of: Timestamp
    time_zone: str
    from_: Timestamp = field(name="from")
    to: Timestamp


class SalesReport(Around, kw_only=True):
    """Redemptions by interval, oldest first."""

    items: list[SalesOfGroup]


class LiabilityReport(Around, kw_only=True):
    """Cards by day and book, oldest first. A day without changes has no item, unless it is the first and something is
    outstanding."""

    items: list[CardsOfBook]


class FunnelReport(Around, kw_only=True):
    """The way from assigned to redeemed by interval, oldest first."""

    items: list[StepsOfGroup]


@dataclass(frozen=True)
class _Report:
    """A report that is asked for, once Postgres has counted what was answered before."""

    context: Context
    caller: Caller
    span: Span
    groups: Groups
    headers: dict[str, str]
    as_of: str
    excel: Excel
    """The format of its file."""

    async def read(
        self, kind: Callable[[Iterable[Any]], Row], read: Callable[..., Any], about: str = "groupBy"
    ) -> list[Row]:
        """The rows of this kind of a function of report_rows.py. Raises Refusal `invalid` for too many."""
        workspace = self.caller.workspace
        bounded = partial(read, self.context.replica.pool, self.span, self.groups, MAX_ROWS + 1)
        rows = await self.context.bulk.search(workspace, bounded)
        if len(rows) > MAX_ROWS:
            raise invalid(about, f"would make more than {MAX_ROWS:,} items: ask for a shorter time, or one book")
        return await self.context.bulk.render(workspace, rows, kind)

    def answer(self, kind: type[Around], items: Sequence[Answer]) -> Response[Any]:
        """The response with these items."""
        first, last = (from_ms(to_ms(time)) for time in (self.span.first, self.span.last))
        body: Any = kind(as_of=self.as_of, time_zone=self.span.zone, from_=first, to=last, items=items)  # type: ignore[call-arg]
        return Response(body, headers=self.headers)

    def file(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[Cell]]) -> Response[str]:
        """The response with a CSV file of these rows."""

        async def pages() -> AsyncIterator[Sequence[Sequence[Cell]]]:
            yield rows

        lines = encode_csv_pages(columns, pages(), lambda row: row, CsvStyle(self.excel, self.span.zone))
        return CsvFile(self.context.bulk, self.caller.workspace, lines, f"{name}.csv", self.headers)


_describe_report = partial(describe_history, query=Wanted, refusals="book_not_found")
_describe_file = partial(describe_history, query=WantedFile, refusals="book_not_found")


class Reports(Controller):
    path = "/v1/reports"
    tags = ("Reports",)

    @get(
        "/redemptions",
        **_describe_report(
            "reportRedemptions",
            "Report redemptions",
            returns="Redemptions by interval, group and currency.",
            answer=_AROUND | {"items": [_SALES]},
        ),
    )
    async def redemptions(self, request: Request[Any, Any, Any]) -> Response[SalesReport]:
        """Redemptions, their sums and their users, by hour, day or week. The report has the whole intervals that the
        times are in. Scope `manage`."""
        report = await _begin(request)
        return report.answer(SalesReport, await _read_sales(report))

    @get(
        "/redemptions.csv",
        media_type=MEDIA_TYPE,
        **_describe_file(
            "exportRedemptionReport", "Export a report of redemptions", returns="The report, as CSV.", answer=_SALES_CSV
        ),
    )
    async def redemptions_file(self, request: Request[Any, Any, Any]) -> Response[str]:
        """The same report as CSV, with the names of books. Scope `manage`."""
        report = await _begin(request, WantedFile)
        rows = await _render_cells(report, await _read_sales(report), partial(_list_columns, _SALES_COLUMNS))
        return report.file("redemptions", _SALES_COLUMNS, rows)

    @get(
        "/funnel",
        **_describe_report(
            "reportFunnel",
            "Report the way to redemptions",
            returns="Assignments, locks, redemptions and refusals by interval and group.",
            answer=_AROUND | {"items": [_STEPS]},
        ),
    )
    async def funnel(self, request: Request[Any, Any, Any]) -> Response[FunnelReport]:
        """From assigned to locked to redeemed, and refusals by reason. Locks and refusals are kept for 400 days; the
        last ten seconds of a process that is killed may be missing. Scope `manage`."""
        report = await _begin(request)
        return report.answer(FunnelReport, await _read_steps(report))

    @get(
        "/funnel.csv",
        media_type=MEDIA_TYPE,
        **_describe_file(
            "exportFunnelReport",
            "Export a report of the way to redemptions",
            returns="The report, as CSV.",
            answer=_FUNNEL_CSV,
        ),
    )
    async def funnel_file(self, request: Request[Any, Any, Any]) -> Response[str]:
        """The same report as CSV, with the names of books: a row for each figure, and for each code of a refusal.
        Scope `manage`."""
        report = await _begin(request, WantedFile)
        rows = await _render_cells(report, await _read_steps(report), _list_figures)
        return report.file("funnel", _FUNNEL_COLUMNS, rows)

    @get(
        "/liability",
        **describe_history(
            "reportLiability",
            "Report what gift cards are worth",
            query=WantedLiability,
            refusals="book_not_found",
            returns="What happened to cards by day and book, and what is outstanding.",
            answer=_AROUND | {"items": [_CARDS]},
        ),
    )
    async def liability(self, request: Request[Any, Any, Any]) -> Response[LiabilityReport]:
        """What was issued, credited, spent, returned and closed of cards each day, each at its own time, and what was
        outstanding at the day's end: what customers can still spend, also under locks. Scope `manage`."""
        report = await _begin(request, WantedLiability)
        return report.answer(LiabilityReport, await _read_liability(report))

    @get(
        "/liability.csv",
        media_type=MEDIA_TYPE,
        **describe_history(
            "exportLiabilityReport",
            "Export a report of what gift cards are worth",
            query=WantedLiabilityFile,
            refusals="book_not_found",
            returns="The report, as CSV.",
            answer=_CARDS_CSV,
        ),
    )
    async def liability_file(self, request: Request[Any, Any, Any]) -> Response[str]:
        """The same report as CSV, with the names of books. Scope `manage`."""
        report = await _begin(request, WantedLiabilityFile)
        rows = await _render_cells(report, await _read_liability(report), partial(_list_columns, _CARDS_COLUMNS))
        return report.file("liability", _CARDS_COLUMNS, rows)


async def _read_liability(report: _Report) -> list[CardsOfBook]:
    rows = await report.read(Liability._make, report_rows.read_liability, "to")
    return await report.context.bulk.render(report.caller.workspace, rows, _render_cards)


def _find_times(wanted: Wanted | WantedLiability, now: datetime) -> tuple[datetime, datetime]:
    """Beginning and end. Raises Refusal `invalid`."""
    most = MAX_DAYS[wanted.interval]
    last = wanted.to or now
    first = wanted.from_ or max(last - timedelta(days=DEFAULT_DAYS[wanted.interval]), to_datetime(0))
    if first >= last:
        raise invalid("to" if wanted.to else "from", "must be after `from`" if wanted.to else "must be before now")
    if last - first > timedelta(days=most):
        raise invalid("to", f"must be at most {most} days after `from` with this `interval`")
    return first, last


async def _begin(request: Request[Any, Any, Any], kind: type[Wanted | WantedLiability] = Wanted) -> _Report:
    """Check the request, and wait until what was answered before it is counted. Raises Refusal."""
    caller, context, wanted = unpack_request(request, kind)
    now_ms = round(time.time() * 1000)
    first, last = _find_times(wanted, to_datetime(now_ms))
    context.bulk.searches.check(caller.workspace)
    if wanted.book_id:
        await find_book(context, caller, str(wanted.book_id))
    headers = await wait_at_replica(context, caller)
    span = await report_rows.read_span(context.replica.pool, caller.workspace, wanted.interval, first, last)
    as_of = from_ms(now_ms - 1000 * int(headers.get(LAG, 0)))
    groups = Groups(wanted.group_by, wanted.book_id, wanted.tag)
    excel = wanted.excel if isinstance(wanted, WantedFile | WantedLiabilityFile) else None
    return _Report(context, caller, span, groups, headers, as_of, excel)


async def _read_sales(report: _Report) -> list[SalesOfGroup]:
    rows = await report.read(Sales._make, report_rows.read_sales)
    ends = await _find_ends_of_sales(report, rows)
    return await report.context.bulk.render(report.caller.workspace, rows, partial(_render_sales, report.groups, ends))


async def _find_ends_of_sales(report: _Report, rows: Sequence[Sales]) -> Mapping[tuple[int, str, str], Ends]:
    """The items of the last redemptions of books that are sold out now, by interval, book and currency. Without Redis
    none is known."""
    context, caller, groups = report.context, report.caller, report.groups
    if groups.grouping == "tag" or (groups.grouping == "none" and not groups.book_id):
        return {}
    books = {row.name or str(groups.book_id) for row in rows}
    if not 0 < len(books) <= MAX_COUNTED:
        return {}
    first_ms, last_ms = to_ms(report.span.first), to_ms(report.span.last)

    async def read(some: Collection[str]) -> dict[tuple[int, str, str], Ends]:
        ends = await report_rows.read_ends(context.replica.pool, report.span, some)
        return {(end.from_ms, end.book_id, end.currency): end for end in ends if first_ms <= end.from_ms < last_ms}

    last = list((await read(books)).values())
    counts = await context.bulk.gather(
        caller.workspace, last, lambda end: count_or_none(context, caller, UUID(end.book_id))
    )
    sold_out = {
        end.book_id
        for end, count in zip(last, counts, strict=True)
        if count and find_end_of_sale(end.max_redemptions, count, count.taken)
    }
    if not sold_out:
        return {}
    await wait_at_replica(context, caller)  # what was counted is recorded then
    return await read(sold_out)


async def _read_steps(report: _Report) -> list[StepsOfGroup]:
    rows = await report.read(Steps._make, report_rows.read_recorded)
    if not report.groups.has_all:
        unknown = {"locked": None, "released": None, "refused": None, "lock_expired": None}
        return await report.context.bulk.render(
            report.caller.workspace,
            rows,
            lambda row: StepsOfGroup.from_row(row, **_name(report.groups, row), **unknown),
        )
    responses = await report_rows.read_responses(report.context.replica.pool, report.span)
    recorded = {row.from_ms: row for row in rows}
    return [
        _render_steps(recorded.get(at, Steps(at, None, 0, 0)), responses.get(at, {}))
        for at in sorted({*recorded, *responses})
    ]


def _render_steps(row: Steps, counts: dict[str, int]) -> StepsOfGroup:
    refused = {code: count for code, count in sorted(counts.items()) if code not in DONE and find_status(code) < 500}
    return StepsOfGroup(
        from_=from_ms(row.from_ms), assigned=row.assigned, redeemed=row.redeemed, refused=refused, lock_expired=None,
        locked=counts.get("locked", 0), released=counts.get("released", 0),
    )  # fmt: skip


def _render_sales(groups: Groups, ends: Mapping[tuple[int, str, str], Ends], row: Sales) -> SalesOfGroup:
    digits = CURRENCY_DIGITS.get(row.currency, 2)
    end = ends.get((row.from_ms, row.name or str(groups.book_id), row.currency)) if ends else None
    names = ("order_value", "discount_amount", "balance_spent")
    amounts = {name: f"{getattr(row, name):.{digits}f}" for name in names}
    return SalesOfGroup.from_row(
        row,
        **_name(groups, row),
        **amounts,
        currency=row.currency or None,
        sold_out_at=from_ms(end.last_ms) if end else None,
        sold_out_after_ms=end.last_ms - end.first_ms if end else None,
    )


def _render_cards(row: Liability) -> CardsOfBook:
    digits = CURRENCY_DIGITS[row.currency]
    names = ("issued", "credited", "spent", "returned", "closed", "outstanding")
    amounts = {name: f"{getattr(row, name):.{digits}f}" for name in names}
    return CardsOfBook(from_=from_ms(row.from_ms), book_id=UUID(row.name), currency=row.currency, **amounts)


def _name(groups: Groups, row: Sales | Steps) -> dict[str, Any]:
    """The fields of Group."""
    book_id = UUID(row.name) if groups.grouping == "book" else UNSET
    return {"from_": from_ms(row.from_ms), "book_id": book_id, "tag": row.name if groups.grouping == "tag" else UNSET}


async def _render_cells(
    report: _Report, items: Sequence[Item], list_rows: Callable[[Mapping[str, Any]], Iterable[Sequence[Cell]]]
) -> list[Sequence[Cell]]:
    """The rows of a file: those of each item's fields, with the name of its book."""
    ids = {item.book_id for item in items if isinstance(item.book_id, UUID)}
    names = await read_names(report.context.replica.pool, report.caller.workspace, ids)

    def render(item: Item) -> list[Sequence[Cell]]:
        name = names.get(item.book_id) if isinstance(item.book_id, UUID) else None
        return list(list_rows(msgspec.to_builtins(item) | {"bookName": name}))

    rows = await report.context.bulk.render(report.caller.workspace, items, render)
    return [row for some in rows for row in some]


def _list_columns(columns: Sequence[str], fields: Mapping[str, Any]) -> Iterable[Sequence[Cell]]:
    yield [fields.get(column) for column in columns]


def _list_figures(fields: Mapping[str, Any]) -> Iterable[Sequence[Cell]]:
    """A row for each figure that is known, and for each code."""
    place = [fields.get(column) for column in _FUNNEL_COLUMNS[3:]]
    for figure in ("assigned", "locked", "released", "redeemed"):
        if (count := fields[figure]) is not None:
            yield figure, None, count, *place
    for code, count in (fields["refused"] or {}).items():
        yield "refused", code, count, *place

"""Write events to Postgres as facts, exactly once. write_behind.py and partition_opening.py call `record`, which moves
the cursor. quarantine_settler.py and surplus_carrier.py call `record_late` for events from before the cursor. On
NeedsSmallerBatch, write_behind.py records fewer at once. The order matters: the cursor moves first, what a batch
gives back is deleted before it is written again, and the roll-ups of reports are counted from the facts, which
report_rollups.py repeats. fact_reader.py reads the same columns back."""

from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple

import asyncpg

from service.engine.domain.field_types import decode_id
from service.engine.domain.times import from_ms
from service.engine.formats.events import (
    NOT_SENT,
    SENT,
    Answered,
    Assigned,
    BalanceChanged,
    Entry,
    Fact,
    MalformedEvent,
    RequestPart,
    RolledBack,
    StockNotice,
    Unassigned,
    check_characters,
    parse,
    parse_ms,
    read_redemption,
    read_sent,
)
from service.engine.formats.redemption_id import id_from_numbers
from service.engine.record.facts.uses import NeedsSmallerBatch, Uses
from service.engine.record.pool import BY_INDEX, Connection, Database, count_changed, error_name, set_locally
from service.engine.record.queries import query

# The columns in the order of the rows below. COPY takes text, built by hand from the outbox: that costs Python a third
# of typed records, and Postgres the same.
_ASSIGNMENTS = "partition epoch seq workspace book code user_id assigned_at ip user_agent order_id".split()
_OPEN_ASSIGNMENTS = "epoch seq workspace code book user_id assigned_at order_id".split()
_UNASSIGNMENTS = """partition epoch seq workspace book code user_id unassigned_at ip user_agent rolled_back
    assigned_epoch assigned_seq assigned_at order_id""".split()
_REDEMPTIONS = [
    *"""partition epoch seq workspace book code user_id order_id redemption_id order_value currency digits
    discount_amount redeemed_at slot max_redemptions counted_at ip user_agent balance_after""".split(),
    *SENT,
]
_ROLLBACKS = """partition epoch seq workspace book code user_id order_id redemption_id rolled_back_at restore
    ip user_agent reason balance_after""".split()
_BALANCE_CHANGES = """partition epoch seq workspace book code change amount balance_after changed_at ip user_agent
    reason changed_by""".split()
_NOTICES = "partition epoch seq workspace book notice what remaining noticed_at".split()
_ORDER_USES = "workspace order_id redemption_id slot".split()
_KEYS = "epoch seq workspace key op at entry".split()
_SINGLE_USES = "workspace code redemption_id".split()
_ESCAPES = str.maketrans({"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"})
_NULL = "\\N"
_NO_SENT = "\t".join([_NULL] * len(SENT))


class KeyReused(ValueError):
    """An idempotency key was used twice within an hour, the shortest lifetime."""


class NotAssigned(ValueError):
    """An unrecorded assignment was taken back."""


EVENT_ERRORS = (asyncpg.DataError, asyncpg.IntegrityConstraintViolationError, ValueError)
"""Errors of the event itself. Others are retried."""


def refusal_reason(error: Exception) -> str:
    """The reason without row values, which may be codes."""
    is_ours = isinstance(error, MalformedEvent | NeedsSmallerBatch | KeyReused | NotAssigned)
    return f"{type(error).__name__} {error}" if is_ours else error_name(error)


class RejectedEvent(NamedTuple):
    """An event that the record can't take, as it is in the outbox."""

    seq: int
    reason: str
    d: bytes
    r: bytes


async def record(
    connection: Connection,
    partition: int,
    epoch: int,
    from_seq: int,
    to_seq: int,
    fence: int,
    entries: Sequence[Entry],
    digest: bytes,
    quarantined: Sequence[RejectedEvent] = (),
) -> bool:
    """Write the entries after `from_seq` up to `to_seq` and move the cursor, in one transaction.
    `digest` is that of the last event; `quarantined` are the events in between that go into quarantine instead.

    Return False and write nothing if epoch, cursor or fence have changed. The cursor moves first: its row lock stops
    a writer that has lost the lease. A conflict in a unique key is an error; in one of idempotency keys
    all is written again, with a statement that checks these. Raises MalformedEvent, NeedsSmallerBatch, KeyReused,
    NotAssigned.
    """
    batch, cursor = _Batch(partition, epoch, entries), (partition, epoch, from_seq, to_seq, fence, digest)

    async def write(new_keys: bool) -> bool:
        async with connection.transaction():
            if await connection.fetchval(query("move_cursor"), *cursor) is None:
                return False
            await batch.write(connection, new_keys)
            for event in quarantined:
                await connection.execute(query("store_quarantined"), partition, epoch, *event)
        return True

    try:
        return await write(new_keys=True)
    except asyncpg.UniqueViolationError as error:
        if getattr(error, "constraint_name", None) != "idempotency_keys_pkey":
            raise
        return await write(new_keys=False)


async def record_late(connection: Connection, partition: int, epoch: int, entries: Sequence[Entry]) -> None:
    """Write events of an older time, in the caller's transaction; the cursor stays. Raises EVENT_ERRORS."""
    await _Batch(partition, epoch, entries).write(connection, new_keys=False, is_late=True)


async def prune_keys(database: Database, limit: int) -> int:
    """Delete at most so many expired idempotency keys; return their number."""
    return await count_changed(database, query("prune_keys"), limit)


class _Open(NamedTuple):
    """An assignment of the batch that stands: its line in `open_assignments`, and columns of it."""

    line: str
    user: str
    seq: int
    at: str
    order: str


class _Batch:
    """The rows of one transaction, as lines of COPY.

    A use that is spent and given back within the batch is not written. A use that was spent before the batch and
    given back in it is deleted first, so that it can be spent again; its place in an order must not have been taken
    before that. If that would hide a conflict, the batch raises NeedsSmallerBatch. Likewise, an assignment that was
    taken back within the batch is not written as open, and an open one from before the batch is deleted first.
    """

    def __init__(self, partition: int, epoch: int, entries: Sequence[Entry]) -> None:
        self._partition, self._epoch = partition, epoch
        self._runs = find_runs([entry[0] for entry in entries])
        check_characters(b"".join([entry[1] for entry in entries]))
        self._head = f"{partition}\t{epoch}\t"
        self._assignments: list[str] = []
        self._open: dict[tuple[int, str], _Open] = {}
        self._brief: set[tuple[int, str]] = set()
        """Workspaces and codes of assignments that the batch makes and takes back."""
        self._closed: dict[tuple[int, str], str] = {}
        """The users of assignments from before the batch that it takes back, by workspace and code."""
        self._unassignments: list[tuple[str, str | tuple[int, str]]] = []
        """Lines, each with the columns of its assignment; with workspace and code if that is from before the batch."""
        self._redemptions: list[str] = []
        self._rollbacks: list[str] = []
        self._balance_changes: list[str] = []
        self._has_cards = False
        self._assigned_at: list[str] = []
        self._redeemed_ids: list[str] = []
        self._rolled_back_ids: list[str] = []
        self._uses = Uses()
        self._notices: list[str] = []
        self._keys: dict[tuple[str, str], tuple[int, str, str, str, str, str]] = {}
        for entry in entries:
            try:
                if entry[1].startswith(b"R "):
                    self._add_redemption(*entry)
                else:
                    self._add_other(*entry)
            except NeedsSmallerBatch as error:
                error.seq = entry[0]
                raise

    def _add_other(self, seq: int, d: bytes, r: bytes, kept: bytes | None) -> None:
        event = parse(self._epoch, seq, d, r, kept)
        match event:
            case Assigned():
                self._add_assignment(event)
            case Unassigned():
                self._add_unassignment(event)
            case RolledBack():
                self._add_rollback(event)
            case BalanceChanged():
                self._add_balance_change(event)
            case StockNotice():
                self._add_notice(event)
            case _:
                pass  # an answer under a key, or an epoch's first
        if event.kept is not None and isinstance(event, Fact | Answered):
            self._add_key(seq, str(event.workspace), from_ms(event.at_ms), event.request, event.kept)

    async def write(self, connection: Connection, new_keys: bool, is_late: bool = False) -> None:
        """Write all rows, in the caller's transaction. If all keys are new, they are copied, which costs less.
        `is_late`: rollbacks of the batch's redemptions may be recorded already."""
        await self._write_assignments(connection)
        await _copy(connection, "redemptions", _REDEMPTIONS, self._redemptions)
        await _copy(connection, "rollbacks", _ROLLBACKS, self._rollbacks)
        await _copy(connection, "balance_changes", _BALANCE_CHANGES, self._balance_changes)
        uses = self._uses
        if uses.orders_freed:
            uses.check_places(await connection.fetch(query("free_orders"), *zip(*uses.orders_freed, strict=True)))
        if uses.singles_freed:
            await connection.execute(query("free_singles"), *zip(*uses.singles_freed, strict=True))
        await _copy(connection, "order_uses", _ORDER_USES, uses.orders())
        await _copy(connection, "single_uses", _SINGLE_USES, uses.singles())
        await _copy(connection, "stock_notices", _NOTICES, self._notices)
        if new_keys:
            await _copy(connection, "idempotency_keys", _KEYS, self._format_keys())
        else:
            await self._store_keys(connection)
        await self._roll_up(connection, is_late)

    async def _roll_up(self, connection: Connection, is_late: bool) -> None:
        """Add the facts to the roll-ups of reports."""
        if self._redeemed_ids or self._rolled_back_ids or self._has_cards:
            await set_locally(connection, BY_INDEX)
        for run in self._runs:
            events = (self._partition, self._epoch, *run)
            if times := self._assigned_at:
                await connection.execute(query("report_assignments"), *events, min(times), max(times))
            if ids := self._redeemed_ids:
                await connection.execute(query("report_redemptions"), *events, min(ids), max(ids))
            if self._has_cards:
                await connection.execute(query("report_cards"), *events)
        back = set(self._rolled_back_ids)
        if is_late and self._redeemed_ids:
            back.update([row[0] for row in await connection.fetch(query("rolled_back_of"), self._redeemed_ids)])
        if back:
            await connection.execute(query("report_rollbacks"), list(back))
            if self._has_cards:
                await connection.execute(query("report_returned"), list(back))

    async def _write_assignments(self, connection: Connection) -> None:
        closed = await self._close_assignments(connection) if self._closed else {}
        if self._brief and await connection.fetchval(query("open_assignments"), *zip(*self._brief, strict=True)):
            raise NeedsSmallerBatch("a code was assigned twice, and taken back")
        await _copy(connection, "assignments", _ASSIGNMENTS, self._assignments)
        await _copy(connection, "open_assignments", _OPEN_ASSIGNMENTS, [one.line for one in self._open.values()])
        lines = [f"{line}\t{of if isinstance(of, str) else closed[of]}\n" for line, of in self._unassignments]
        await _copy(connection, "unassignments", _UNASSIGNMENTS, lines)

    async def _close_assignments(self, connection: Connection) -> dict[tuple[int, str], str]:
        """The columns of the assignments from before the batch that were taken back. Raises NotAssigned."""
        rows = [(*code, user) for code, user in self._closed.items()]
        closed: dict[tuple[int, str], str] = {}
        for w, code, *columns, was_users in await connection.fetch(
            query("close_assignments"), *zip(*rows, strict=True)
        ):
            if not was_users:
                raise NotAssigned("an assignment was taken back that is not recorded")
            closed[w, code] = "\t".join(_NULL if column is None else str(column) for column in columns)
        return closed

    def _format_keys(self) -> list[str]:
        rows = list(self._keys.values())
        if _has_escapes("".join([key + op + kept for _, _, key, op, _, kept in rows])):
            rows = [(seq, w, _escape(key), _escape(op), at, _escape(kept)) for seq, w, key, op, at, kept in rows]
        return [f"{self._epoch}\t{seq}\t{w}\t{key}\t{op}\t{at}\t{kept}\n" for seq, w, key, op, at, kept in rows]

    async def _store_keys(self, connection: Connection) -> None:
        """The statement checks whether an existing key may be used again."""
        rows = [(seq, int(w), *rest) for seq, w, *rest in self._keys.values()]
        if not rows:
            return
        if await count_changed(connection, query("store_keys"), self._epoch, *zip(*rows, strict=True)) != len(rows):
            raise KeyReused("an idempotency key was used twice within an hour")

    def _add_key(self, seq: int, w: str, at: str, request: RequestPart, kept: str) -> None:
        row = (seq, w, request.key, request.op, at, kept)
        if self._keys.setdefault((w, request.key), row) is not row:
            raise NeedsSmallerBatch("an idempotency key was used twice")

    def _add_assignment(self, event: Assigned) -> None:
        code, at, order = (event.workspace, event.code), from_ms(event.at_ms), event.order or _NULL
        self._assign(event.seq, *code, event.book, event.user, at, _format_client(event.request), order)

    def _assign(
        self, seq: int, w: int, code: str, book: int | str, user: str, at: str, client: str, order: str
    ) -> None:
        if (w, code) in self._open:
            raise NeedsSmallerBatch("a code was assigned twice")
        self._assigned_at.append(at)
        self._assignments.append(f"{self._format_line(seq, w, book, code, user)}\t{at}\t{client}\t{order}\n")
        line = f"{self._epoch}\t{seq}\t{w}\t{code}\t{book}\t{user}\t{at}\t{order}\n"
        self._open[w, code] = _Open(line, user, seq, at, order)

    def _add_unassignment(self, event: Unassigned) -> None:
        code = event.workspace, event.code
        rolled_back = "f" if event.order is None else "t"
        line = f"{self._format_fact(event)}\t{from_ms(event.at_ms)}\t{_format_client(event.request)}\t{rolled_back}"
        if code in self._open:
            brief = self._open.pop(code)
            if brief.user != event.user:
                raise NeedsSmallerBatch("a code was assigned, and taken from another")
            self._unassignments.append((line, f"{self._epoch}\t{brief.seq}\t{brief.at}\t{brief.order}"))
            self._brief.add(code)  # the database checks that it was unassigned before
        elif code in self._brief or code in self._closed:
            raise NeedsSmallerBatch("an assignment was taken back twice")
        else:
            self._closed[code] = event.user
            self._unassignments.append((line, code))

    def _add_notice(self, event: StockNotice) -> None:
        self._notices.append(
            f"{self._head}{event.seq}\t{event.workspace}\t{event.book}\t{event.notice}\t"
            f"{event.what}\t{event.left}\t{from_ms(event.at_ms)}\n"
        )

    def _add_redemption(self, seq: int, d: bytes, r: bytes, kept: bytes | None) -> None:
        redeemed, request, answer = read_redemption(d, r, kept)
        w, code, value, currency = redeemed.workspace, redeemed.code, redeemed.value_e4, redeemed.currency
        at, redemption_id = _format_time(redeemed.at_ms), id_from_numbers(self._epoch, seq, int(redeemed.at_ms))
        user, order = decode_id(redeemed.user), _NULL if redeemed.order == "-" else decode_id(redeemed.order)
        ip, ua = request.ip, request.ua
        if b"\\" in r:  # without it there is nothing to escape: JSON escapes control characters
            ip, ua = _escape(ip), _escape(ua)
        sent = _NO_SENT if read_sent(request) == NOT_SENT else _format_sent(request)
        most, after_e4, counted_ms = redeemed.max_uses, redeemed.balance_after_e4, redeemed.counted_ms
        counted_at = _NULL if counted_ms == "-" else _format_time(counted_ms)
        after = _NULL if after_e4 == "-" else after_e4 + "e-4"
        if after_e4 != "-":
            self._has_cards = True
        self._redeemed_ids.append(redemption_id)
        self._redemptions.append(
            f"{self._head}{seq}\t{w}\t{redeemed.book}\t{code}\t{user}\t{order}\t{redemption_id}\t"
            f"{_NULL if value == '-' else value + 'e-4'}\t{_NULL if currency == '-' else currency}\t"
            f"{redeemed.digits}\t{redeemed.discount_e4}e-4\t{at}\t{redeemed.slot}\t{most}\t{counted_at}\t"
            f"{ip or _NULL}\t{ua or _NULL}\t{after}\t{sent}\n"
        )
        if order is not _NULL:
            self._uses.take_place(f"{w}\t{order}\t{redemption_id}\t{redeemed.slot}\n")
        if most == "1":
            self._uses.use_up(f"{w}\t{code}\t{redemption_id}\n")
        if gift := redeemed.gift_code:
            self._assign(seq, int(w), gift, redeemed.gift_book, user, at, f"{ip or _NULL}\t{ua or _NULL}", order)
        if answer is not None:
            self._add_key(seq, w, at, request, answer)

    def _add_rollback(self, event: RolledBack) -> None:
        order, redemption_id = event.order, event.redemption_id
        self._rolled_back_ids.append(redemption_id)
        self._has_cards |= event.balance_after_e4 is not None
        self._rollbacks.append(
            f"{self._format_fact(event)}\t{order or _NULL}\t{redemption_id}\t{from_ms(event.at_ms)}\t"
            f"{'t' if event.restore else 'f'}\t{_format_client(event.request)}\t"
            f"{_escape(event.request.reason) or _NULL}\t"
            f"{_NULL if event.balance_after_e4 is None else f'{event.balance_after_e4}e-4'}\n"
        )
        if event.restore:
            self._uses.give_back(event)

    def _add_balance_change(self, event: BalanceChanged) -> None:
        request = event.request
        self._has_cards = True
        self._balance_changes.append(
            f"{self._head}{event.seq}\t{event.workspace}\t{event.book}\t{event.code}\t{event.kind}\t"
            f"{event.amount_e4}e-4\t{event.balance_after_e4}e-4\t{from_ms(event.at_ms)}\t{_format_client(request)}\t"
            f"{_escape(request.reason) or _NULL}\t{_escape(request.by) or _NULL}\n"
        )

    def _format_fact(self, event: Fact) -> str:
        return self._format_line(event.seq, event.workspace, event.book, event.code, event.user)

    def _format_line(self, seq: int, w: int | str, book: int | str, code: str, user: str) -> str:
        return f"{self._head}{seq}\t{w}\t{book}\t{code}\t{user}"


def find_runs(numbers: Sequence[int]) -> list[tuple[int, int]]:
    """The first and last of each run of consecutive numbers, which rise."""
    breaks = [place for place in range(1, len(numbers)) if numbers[place] != numbers[place - 1] + 1]
    return [(numbers[first], numbers[last - 1]) for first, last in pairwise([0, *breaks, len(numbers)]) if last > first]


@lru_cache(maxsize=1024)
def _format_time(ms: str) -> str:
    """A time as Postgres reads it, cached: neighbours often share a millisecond. Raises MalformedEvent."""
    return from_ms(parse_ms(ms))


def _format_client(request: RequestPart) -> str:
    return f"{_escape(request.ip) or _NULL}\t{_escape(request.ua) or _NULL}"


def _format_sent(request: RequestPart) -> str:
    texts = [field.write_text(getattr(request, name)) for name, field in SENT.items()]
    return "\t".join([_escape(text) or _NULL for text in texts])


def _escape(text: str) -> str:
    return text.translate(_ESCAPES) if _has_escapes(text) else text


def _has_escapes(text: str) -> bool:
    return "\\" in text or "\t" in text or "\n" in text or "\r" in text


async def _copy(connection: Connection, table: str, columns: Sequence[str], lines: Sequence[str]) -> None:
    if lines:
        rows = memoryview("".join(lines).encode())
        await connection.copy_to_table(table, source=rows, columns=columns, format="text")

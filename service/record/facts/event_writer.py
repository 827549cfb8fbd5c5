"""Write events to Postgres as facts, exactly once."""

from collections.abc import Sequence
from functools import lru_cache
from itertools import groupby
from typing import NamedTuple

import asyncpg

from service.domain.field_types import decode_field, decode_id
from service.domain.times import from_ms
from service.formats.events import (
    Answered,
    Assigned,
    Entry,
    Fact,
    RequestPart,
    RolledBack,
    StockNotice,
    Unassigned,
    check_characters,
    decode_answers,
    moment,
    parse,
    parse_requests,
    redemption_id_start,
    split_redemptions,
)
from service.record.facts.binary_rows import (
    NULL,
    bigint_field,
    integer_field,
    join_rows,
    latin_1,
    money_field,
    parse_uuid_field,
    row_start,
    size,
    text_field,
    time_field,
)
from service.record.facts.spent_uses import (
    ORDER_USE,
    ORDER_USES,
    SINGLE_USE,
    SINGLE_USES,
    SpentUses,
    Undecided,
)
from service.record.pool import Connection, Database
from service.record.queries import query

# The columns in the order of the rows below. COPY takes text, or its binary format where there are many rows.
_ASSIGNMENTS = (
    "partition epoch seq workspace book code user_id assigned_at ip user_agent order_id unassigned_at".split()
)
_UNASSIGNMENTS = "partition epoch seq workspace book code user_id unassigned_at ip user_agent".split()
_REDEMPTIONS = """partition epoch seq redemption_id workspace book currency digits slot max_redemptions order_value
    discount_amount redeemed_at code user_id order_id ip user_agent metadata""".split()
_ROLLBACKS = """partition epoch seq workspace book code user_id order_id redemption_id rolled_back_at restore
    ip user_agent reason""".split()
_NOTICES = "partition epoch seq workspace book notice what remaining noticed_at".split()
_KEYS = "partition epoch seq workspace at key op entry".split()
_BINARY = (_REDEMPTIONS, ORDER_USES, SINGLE_USES, _KEYS)
_NUMBER = "\0\0\0\x08\0\0"  # the field of an event's number begins so; its last six bytes follow
_ESCAPES = str.maketrans({"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"})
_NULL = "\\N"


class KeyReused(ValueError):
    """An idempotency key was used twice within its lifetime."""


class NotAssigned(ValueError):
    """An unrecorded assignment was taken back."""


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

    Return False and write nothing if epoch, cursor or fence have changed. The cursor moves first: its row lock stops
    a writer that has lost the lease. A conflict in a unique key is an error. Raises MalformedEvent, Undecided,
    KeyReused, NotAssigned.
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


async def prune_keys(database: Database, limit: int) -> int:
    """Delete at most so many expired idempotency keys; return their number."""
    return int((await database.execute(query("prune_keys"), limit)).split()[1])


_Key = tuple[int, int, str, str, int, str]
"""Of an idempotency key: its event's number and workspace, key, operation, its event's time, stored answer."""


class _Batch:
    """The rows of one transaction, for COPY: lines of text, or pieces of its binary format.

    A use that is spent and given back within the batch is not written. A use that was spent before the batch and
    given back in it is deleted first, so that it can be spent again. If that would hide a conflict, the batch is
    Undecided. Likewise, an assignment that was taken back within the batch is written as closed, and one from before
    the batch is closed first.
    """

    def __init__(self, partition: int, epoch: int, entries: Sequence[Entry]) -> None:
        self._partition, self._epoch = partition, epoch
        check_characters(b"".join([entry[1] for entry in entries]))
        self._head = f"{partition}\t{epoch}\t"
        self._place = integer_field(partition) + bigint_field(epoch)
        self._assignments: list[str] = []
        self._ends: dict[int, str] = {}
        self._open: dict[tuple[int, str], tuple[int, str]] = {}
        self._brief: set[tuple[int, str]] = set()
        self._closed: dict[tuple[int, str], tuple[str, str]] = {}
        self._unassignments: list[str] = []
        self._redemptions: list[str] = []
        self._rollbacks: list[str] = []
        self._uses = SpentUses()
        self._notices: list[str] = []
        self._key_head = f"{row_start(len(_KEYS))}{self._place}"
        self._key_rows: list[str] = []
        self._keys: dict[tuple[int, str], _Key] = {}
        for is_redemption, run in groupby(entries, key=lambda entry: entry[1].startswith(b"R ")):
            if is_redemption:
                self._redeemed(list(run))
            else:
                for entry in run:
                    self._other(*entry)

    def _other(self, seq: int, d: bytes, r: bytes, kept: bytes | None) -> None:
        event = parse(self._epoch, seq, d, r, kept)
        match event:
            case Assigned():
                self._assigned(event)
            case Unassigned():
                self._unassigned(event)
            case RolledBack():
                self._rolled_back(event)
            case StockNotice():
                self._noticed(event)
            case _:
                pass  # an answer under a key, or an epoch's first
        if event.kept is not None and isinstance(event, Fact | Answered):
            request = event.request
            row = (seq, event.workspace, request.key, request.op, event.at_ms, event.kept)
            self._keep(row, f"{bigint_field(seq)}{integer_field(event.workspace)}{time_field(event.at_ms)}")

    async def write(self, connection: Connection, new_keys: bool) -> None:
        """Write all rows, in the caller's transaction. If all idempotency keys are new, they are copied, which costs
        less."""
        await self._write_assignments(connection)
        await _copy(connection, "redemptions", _REDEMPTIONS, self._redemptions)
        await _copy(connection, "rollbacks", _ROLLBACKS, self._rollbacks)
        uses = self._uses
        if uses.orders_freed:
            await connection.execute(query("free_orders"), *zip(*uses.orders_freed, strict=True))
        if uses.singles_freed:
            await connection.execute(query("free_singles"), *zip(*uses.singles_freed, strict=True))
        await _copy(connection, "order_uses", ORDER_USES, uses.orders())
        await _copy(connection, "single_uses", SINGLE_USES, uses.singles())
        await _copy(connection, "stock_notices", _NOTICES, self._notices)
        if new_keys:
            await _copy(connection, "idempotency_keys", _KEYS, self._key_rows)
        else:
            await self._store_keys(connection)

    async def _write_assignments(self, connection: Connection) -> None:
        if self._closed:
            rows = [(*code, *closing) for code, closing in self._closed.items()]
            if await connection.fetchval(query("close_assignments"), *zip(*rows, strict=True)):
                raise NotAssigned("an assignment was taken back that is not recorded")
        if self._brief and await connection.fetchval(query("open_assignments"), *zip(*self._brief, strict=True)):
            raise Undecided("a code was assigned twice, and taken back")
        lines = [f"{line}\t{self._ends.get(at, _NULL)}\n" for at, line in enumerate(self._assignments)]
        await _copy(connection, "assignments", _ASSIGNMENTS, lines)
        await _copy(connection, "unassignments", _UNASSIGNMENTS, self._unassignments)

    async def _store_keys(self, connection: Connection) -> None:
        """The statement checks whether an existing key may be used again."""
        rows = [(*row[:4], from_ms(row[4]), row[5]) for row in self._keys.values()]
        stored = await connection.execute(query("store_keys"), self._partition, self._epoch, *zip(*rows, strict=True))
        if stored != f"INSERT 0 {len(rows)}":
            raise KeyReused("an idempotency key was used twice within an hour")

    def _keep(self, row: _Key, event: str) -> None:
        """Add a row, whose first fields are the event's number, workspace and time."""
        _, w, key, op, _, answer = row
        if self._keys.setdefault((w, key), row) is not row:
            raise Undecided("an idempotency key was used twice")
        answer = f"{text_field(key)}{_common_field(op)}{text_field(answer)}"
        self._key_rows.append(f"{self._key_head}{event}{answer}")

    def _assigned(self, event: Assigned) -> None:
        client = _client(event.request)
        self._assign(
            (event.workspace, event.code),
            event.user,
            f"{self._fact(event)}\t{from_ms(event.at_ms)}\t{client}\t{event.order or _NULL}",
        )

    def _assign(self, code: tuple[int, str], user: str, line: str) -> None:
        if code in self._open:
            raise Undecided("a code was assigned twice")
        self._open[code] = len(self._assignments), user
        self._assignments.append(line)

    def _unassigned(self, event: Unassigned) -> None:
        code, at = (event.workspace, event.code), from_ms(event.at_ms)
        self._unassignments.append(f"{self._fact(event)}\t{at}\t{_client(event.request)}\n")
        if code in self._open:
            row, user = self._open.pop(code)
            if user != event.user:
                raise Undecided("a code was assigned, and taken from another")
            self._ends[row] = at
            self._brief.add(code)  # the database checks that it was unassigned before
        elif code in self._brief or code in self._closed:
            raise Undecided("an assignment was taken back twice")
        else:
            self._closed[code] = event.user, at

    def _noticed(self, event: StockNotice) -> None:
        self._notices.append(
            f"{self._head}{event.seq}\t{event.workspace}\t{event.book}\t{event.notice}\t"
            f"{event.what}\t{event.left}\t{from_ms(event.at_ms)}\n"
        )

    def _redeemed(self, entries: Sequence[Entry]) -> None:
        seqs, decided, parts, answers = zip(*entries, strict=True)
        head, uses = f"{row_start(len(_REDEMPTIONS))}{self._place}{_NUMBER}", self._uses
        read = zip(seqs, split_redemptions(decided), parse_requests(parts), decode_answers(answers), strict=True)
        for seq, fields, request, answer in read:
            w, book, code, user, order, id_, value, currency, digits, discount, at, slot, max_uses, gift = fields
            at_ms, time, id_start = _moment(at, self._epoch)
            number = seq.to_bytes(6, "big").decode("latin-1")
            own_id = f"{id_start}{number}" if id_ == "-" else parse_uuid_field(id_)
            terms, w_field, slot_field = _terms(w, book, currency, digits, slot, max_uses)
            user = "-" if user == "%-" else user  # decode_id and decode_field, without their calls
            order = "" if order == "-" else "-" if order == "%-" else order
            code_field, user_field = f"{size(len(code))}{code}", f"{size(len(user))}{user}"
            order_field = f"{size(len(order))}{order}" if order else NULL
            ip, ua = request.ip, request.ua
            self._redemptions.append(
                f"{head}{number}{own_id}{terms}{NULL if value == '-' else money_field(value)}{money_field(discount)}"
                f"{time}{code_field}{user_field}{order_field}"
                f"{text_field(ip) if ip else NULL}{_common_field(ua) if ua else NULL}"
                f"{text_field(bytes(request.metadata).decode()) if request.metadata else NULL}"
            )
            if order:
                uses.take_place(f"{ORDER_USE}{w_field}{order_field}{slot_field}{own_id}")
            if max_uses == "1":
                uses.use_up(f"{SINGLE_USE}{w_field}{code_field}{own_id}")
            if gift:
                self._give(seq, at_ms, fields, request)
            if answer is not None:
                key = seq, int(w), request.key, request.op, at_ms, answer
                self._keep(key, f"{_NUMBER}{number}{w_field}{time}")

    def _give(self, seq: int, at_ms: int, redemption: tuple[str, ...], request: RequestPart) -> None:
        """Assign a checkout's gift."""
        w, _, _, user, order, *_, gift = redemption
        book, code = gift.split(" ")
        user, order = decode_id(user), decode_field(order)
        about = self._line(seq, w, book, code, user)
        self._assign((int(w), code), user, f"{about}\t{from_ms(at_ms)}\t{_client(request)}\t{order or _NULL}")

    def _rolled_back(self, event: RolledBack) -> None:
        order, own_id = event.order, event.redemption_id
        self._rollbacks.append(
            f"{self._fact(event)}\t{order or _NULL}\t{own_id}\t{from_ms(event.at_ms)}\t"
            f"{'t' if event.restore else 'f'}\t{_client(event.request)}\t{_escaped(event.request.reason) or _NULL}\n"
        )
        if not event.restore:
            return
        self._uses.give_back(event)

    def _fact(self, event: Fact) -> str:
        return self._line(event.seq, event.workspace, event.book, event.code, event.user)

    def _line(self, seq: int, w: int | str, book: int | str, code: str, user: str) -> str:
        return f"{self._head}{seq}\t{w}\t{book}\t{code}\t{user}"


@lru_cache(maxsize=1024)
def _moment(at: str, epoch: int) -> tuple[int, str, str]:
    """A time, its field, and the start of the field of a redemption's id. Cached because neighbouring events often
    share a millisecond. Raises MalformedEvent."""
    at_ms = moment(at)
    return at_ms, time_field(at_ms), f"{size(16)}{latin_1(redemption_id_start(epoch, at_ms))}"


@lru_cache(maxsize=1024)
def _terms(w: str, book: str, currency: str, digits: str, slot: str, max_uses: str) -> tuple[str, str, str]:
    """The fields that many redemptions of a book have in common; of these the workspace's, and the slot's."""
    w, slot = integer_field(w), integer_field(slot)
    currency = NULL if currency == "-" else text_field(currency)
    common = f"{w}{integer_field(book)}{currency}{integer_field(digits, 2)}{slot}{integer_field(max_uses)}"
    return common, w, slot


_common_field = lru_cache(maxsize=1024)(text_field)
"""For texts that are often the same: operations and user agents."""


def _client(request: RequestPart) -> str:
    return f"{_escaped(request.ip) or _NULL}\t{_escaped(request.ua) or _NULL}"


def _escaped(text: str) -> str:
    return text.translate(_ESCAPES) if _has_escapes(text) else text


def _has_escapes(text: str) -> bool:
    return "\\" in text or "\t" in text or "\n" in text or "\r" in text


async def _copy(connection: Connection, table: str, columns: Sequence[str], rows: Sequence[str]) -> None:
    if rows:
        form = "binary" if columns in _BINARY else "text"
        data = join_rows(rows) if form == "binary" else "".join(rows).encode()
        await connection.copy_to_table(table, source=memoryview(data), columns=columns, format=form)

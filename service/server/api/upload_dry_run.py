"""The dry run of an upload: its result without adding codes, and the lines that it would reject as a CSV file. codes.py
calls this."""

import asyncio
from array import array
from collections.abc import AsyncIterator, Iterable, Sequence

from service.engine.domain.configuration import BookRow
from service.engine.domain.errors import Refusal
from service.engine.domain.money import from_e4
from service.server.api.context import Context
from service.server.api.csv_rows import Excel, encode_csv_head, encode_csv_rows
from service.server.in_postgres.code_rows import find_known_codes
from service.server.requests.code_requests import UPLOADED, CodeLine, Lines, RejectedLine, Uploaded
from service.server.requests.json_codes import JsonCodes

MAX_REJECTED_BYTES = 2 << 20
"""Of the file of rejected lines, which stays in memory until the whole upload has been read."""
_BUCKETS, _BUCKET_CODES = 256, 1_536
_HEADER = ("line", "reason", "text")
_CUT_OFF = "More lines are rejected; correct these lines first."

Parsed = AsyncIterator[Iterable[CodeLine | RejectedLine]]


class DistinctCounter:
    """Counts distinct codes in at most 3 MiB: exactly up to 300,000, beyond that within about 0.5 %. With cards it also
    adds up the amount of each code's first line, in as many bytes again.

    1. A code's hash chooses a bucket, which keeps the hash.
    2. A full bucket drops the hashes that it has twice.
    3. If more than 7/8 of the bucket remain, the bucket samples: from now on it keeps half of all hashes, then a
       quarter, and so on, and each of these hashes counts for 2, 4, … codes.
    """

    def __init__(self, buckets: int = _BUCKETS, bucket_codes: int = _BUCKET_CODES, has_cards: bool = False) -> None:
        self._buckets = [array("q") for _ in range(buckets)]
        self._amounts = [array("q") for _ in range(buckets)] if has_cards else None
        self._levels = [0] * buckets
        self._bucket_codes = bucket_codes

    def add(self, codes: Iterable[tuple[str, int]]) -> None:
        """Count these codes, each with its amount in 10⁻⁴ units, unless they have been counted."""
        for code, amount_e4 in codes:
            number, rest = hash(code), len(self._buckets)
            place, number = number % rest, number // rest
            if number & ((1 << self._levels[place]) - 1) == 0:
                bucket = self._buckets[place]
                bucket.append(number)
                if self._amounts:
                    self._amounts[place].append(amount_e4)
                if len(bucket) >= self._bucket_codes:
                    self._shrink(place)

    def count(self) -> int:
        """The number of distinct codes."""
        return sum(len(set(bucket)) << level for bucket, level in zip(self._buckets, self._levels, strict=True))

    def sum_amounts(self) -> int:
        """The amount of all distinct codes, in 10⁻⁴ units."""
        return sum(sum(self._list_distinct(place).values()) << level for place, level in enumerate(self._levels))

    @property
    def is_exact(self) -> bool:
        """Whether no bucket samples."""
        return not any(self._levels)

    def _shrink(self, place: int) -> None:
        kept = self._list_distinct(place)
        while len(kept) > self._bucket_codes * 7 // 8:
            self._levels[place] += 1
            mask = (1 << self._levels[place]) - 1
            kept = {number: amount_e4 for number, amount_e4 in kept.items() if number & mask == 0}
        self._buckets[place] = array("q", kept)
        if self._amounts:
            self._amounts[place] = array("q", kept.values())

    def _list_distinct(self, place: int) -> dict[int, int]:
        """The hashes of a bucket, and the amount that came first with each."""
        if self._amounts is None:
            return dict.fromkeys(self._buckets[place], 0)
        return dict(zip(reversed(self._buckets[place]), reversed(self._amounts[place]), strict=True))


async def check_upload(
    context: Context, book: BookRow, parsed: Parsed, parser: Lines | JsonCodes, rest: AsyncIterator[bytes]
) -> Uploaded:
    """The result that an upload of these lines would have now, in bounded memory. For a file that an upload refuses
    whole because of its layout it is empty: codes.py adds `file` with the problem. `rest` is the file's unread part."""
    try:
        return await _count_lines(context, book, parsed)
    except Refusal:
        if parser.layout is None or parser.layout.problem is None:
            raise
    async for _ in rest:  # some clients look for no response before they have sent all
        await asyncio.sleep(0)
    return Uploaded(added=0, duplicates=0, invalid=0, errors=[])


async def _count_lines(context: Context, book: BookRow, parsed: Parsed) -> Uploaded:
    result = Uploaded(added=0, duplicates=0, invalid=0, errors=[])
    card = book.card
    new, valid = DistinctCounter(has_cards=card is not None), 0
    value_e4 = card.value_e4 if card else 0
    batch: list[tuple[str, int]] = []

    async def count_batch(lines: Sequence[tuple[str, int]]) -> None:
        async with context.bulk.at_postgres.turn(book.workspace):
            known = await find_known_codes(context.pool, book.workspace, [code for code, _ in lines])
        new.add(line for line in lines if line[0] not in known)

    async for part in parsed:
        for line in part:
            if isinstance(line, RejectedLine):
                result.count_rejected(line)
            else:
                valid += 1
                batch.append((line.code, line.amount_e4 or value_e4))
        if len(batch) >= UPLOADED:
            await count_batch(batch)
            batch = []
    if batch:
        await count_batch(batch)
    result.added = min(new.count(), valid)
    result.duplicates = valid - result.added
    result.is_exact = new.is_exact
    if card:
        result.amount = from_e4(new.sum_amounts(), card.digits)
    return result


async def collect_rejected(parsed: Parsed, excel: Excel) -> bytes:
    """The rejected lines as a CSV file with number, reason and text. A file of more than 2 MiB ends with a line that
    says so."""
    file = bytearray(encode_csv_head(_HEADER, excel))
    async for part in parsed:
        rows = [(line.line, line.reason, line.text) for line in part if isinstance(line, RejectedLine)]
        if not rows or len(file) > MAX_REJECTED_BYTES:
            continue
        file += encode_csv_rows(rows, excel)
        if len(file) > MAX_REJECTED_BYTES:
            file += encode_csv_rows([(None, _CUT_OFF, None)], excel)
    return bytes(file)

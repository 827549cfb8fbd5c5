"""The dry run of an upload: its result without adding codes, and the lines that it would reject as a CSV file. codes.py
calls this."""

import asyncio
from array import array
from collections.abc import AsyncIterator, Iterable, Sequence

from service.engine.domain.errors import Refusal
from service.server.api.context import Context
from service.server.api.csv_rows import Excel, encode_csv_head, encode_csv_rows
from service.server.record.code_rows import find_known_codes
from service.server.requests.code_requests import UPLOADED, CodeLine, Lines, RejectedLine, Uploaded
from service.server.requests.json_codes import JsonCodes

MAX_REJECTED_BYTES = 2 << 20
"""Of the file of rejected lines, which stays in memory until the whole upload has been read."""
_BUCKETS, _BUCKET_CODES = 256, 1_536
_HEADER = ("line", "reason", "text")
_CUT_OFF = "More lines are rejected; correct these lines first."

Parsed = AsyncIterator[Iterable[CodeLine | RejectedLine]]


class DistinctCounter:
    """Counts distinct codes in at most 3 MiB: exactly up to 300,000, beyond that within about 0.5 %.

    1. A code's hash chooses a bucket, which keeps the hash.
    2. A full bucket drops the hashes that it has twice.
    3. If more than 7/8 of the bucket remain, the bucket samples: from now on it keeps half of all hashes, then a
       quarter, and so on, and each of these hashes counts for 2, 4, … codes.
    """

    def __init__(self, buckets: int = _BUCKETS, bucket_codes: int = _BUCKET_CODES) -> None:
        self._buckets = [array("q") for _ in range(buckets)]
        self._levels = [0] * buckets
        self._bucket_codes = bucket_codes

    def add(self, codes: Iterable[str]) -> None:
        """Count these codes, unless they have been counted."""
        for code in codes:
            number, rest = hash(code), len(self._buckets)
            place, number = number % rest, number // rest
            if number & ((1 << self._levels[place]) - 1) == 0:
                bucket = self._buckets[place]
                bucket.append(number)
                if len(bucket) >= self._bucket_codes:
                    self._shrink(place)

    def count(self) -> int:
        """The number of distinct codes."""
        return sum(len(set(bucket)) << level for bucket, level in zip(self._buckets, self._levels, strict=True))

    @property
    def is_exact(self) -> bool:
        """Whether no bucket samples."""
        return not any(self._levels)

    def _shrink(self, place: int) -> None:
        kept = set(self._buckets[place])
        while len(kept) > self._bucket_codes * 7 // 8:
            self._levels[place] += 1
            mask = (1 << self._levels[place]) - 1
            kept = {number for number in kept if number & mask == 0}
        self._buckets[place] = array("q", kept)


async def check_upload(
    context: Context, workspace: int, parsed: Parsed, parser: Lines | JsonCodes, rest: AsyncIterator[bytes]
) -> Uploaded:
    """The result that an upload of these lines would have now, in bounded memory. For a file that an upload refuses
    whole because of its layout it is empty: codes.py adds `file` with the problem. `rest` is the file's unread part."""
    try:
        return await _count_lines(context, workspace, parsed)
    except Refusal:
        if parser.layout is None or parser.layout.problem is None:
            raise
    async for _ in rest:  # some clients look for no response before they have sent all
        await asyncio.sleep(0)
    return Uploaded(added=0, duplicates=0, invalid=0, errors=[])


async def _count_lines(context: Context, workspace: int, parsed: Parsed) -> Uploaded:
    result = Uploaded(added=0, duplicates=0, invalid=0, errors=[])
    new, valid = DistinctCounter(), 0
    batch: list[str] = []

    async def count_batch(codes: Sequence[str]) -> None:
        async with context.bulk.at_postgres.turn(workspace):
            known = await find_known_codes(context.pool, workspace, codes)
        new.add(code for code in codes if code not in known)

    async for part in parsed:
        for line in part:
            if isinstance(line, RejectedLine):
                result.count_rejected(line)
            else:
                valid += 1
                batch.append(line.code)
        if len(batch) >= UPLOADED:
            await count_batch(batch)
            batch = []
    if batch:
        await count_batch(batch)
    result.added = min(new.count(), valid)
    result.duplicates = valid - result.added
    result.is_exact = new.is_exact
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

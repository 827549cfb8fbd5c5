"""Fields of COPY's binary format, each with its length in front.

Such a field takes Postgres less CPU than its text, and needs no escapes. Here it is a text of Latin-1 characters, one a
byte, because f-strings are Python's fastest way to join short pieces. A value that Postgres would refuse as text raises
the same error.
"""

from collections.abc import Iterable
from functools import lru_cache
from struct import Struct, error
from uuid import UUID

import asyncpg

NULL = "\xff\xff\xff\xff"
_HEADER, _TRAILER = "PGCOPY\n\xff\r\n\0" + 8 * "\0", "\xff\xff"
_bigint = Struct(">iq").pack
_size = Struct(">i").pack
_numeric = Struct(">ihhHHHHHH").pack
_INTEGERS = {2: Struct(">ih").pack, 4: Struct(">ii").pack}
_2000_MS = 946_684_800_000
_POSITIVE, _NEGATIVE = 0, 0x4000
_END_E4 = 10**15  # the columns are numeric(15, 4)


def join_rows(rows: Iterable[str]) -> bytes:
    """The data of a COPY."""
    return "".join([_HEADER, *rows, _TRAILER]).encode("latin-1")


def latin_1(data: bytes) -> str:
    return data.decode("latin-1")


def row_start(columns: int) -> str:
    return latin_1(columns.to_bytes(2, "big"))


@lru_cache(maxsize=4096)
def size(length: int) -> str:
    return latin_1(_size(length))


def text_field(text: str) -> str:
    """Raises ValueError if the text is not Unicode."""
    if not text.isascii():
        text = latin_1(text.encode())
    return f"{size(len(text))}{text}"


@lru_cache(maxsize=1024)
def integer_field(number: int | str, length: int = 4) -> str:
    """An int, or of another length in bytes."""
    try:
        return latin_1(_INTEGERS[length](length, int(number)))
    except error:
        raise _out_of_range() from None


def bigint_field(number: int) -> str:
    return latin_1(_bigint(8, number))


def time_field(at_ms: int) -> str:
    return bigint_field((at_ms - _2000_MS) * 1000)


def parse_uuid_field(text: str) -> str:
    try:
        return f"{size(16)}{latin_1(UUID(text).bytes)}"
    except ValueError:
        raise asyncpg.InvalidTextRepresentationError("invalid UUID") from None


@lru_cache(maxsize=8192)
def money_field(value_e4: str) -> str:
    """An amount in 10⁻⁴ units. Postgres's digits have base 10,000, so the last one is exactly the fraction."""
    value = int(value_e4)
    sign, rest = (_NEGATIVE, -value) if value < 0 else (_POSITIVE, value)
    if rest >= _END_E4:
        raise _out_of_range()
    rest, fraction = divmod(rest, 10_000)
    rest, ones = divmod(rest, 10_000)
    return latin_1(_numeric(16, 4, 2, sign, 4, *divmod(rest, 10_000), ones, fraction))


def _out_of_range() -> Exception:
    return asyncpg.NumericValueOutOfRangeError("value out of range")

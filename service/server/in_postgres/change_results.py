"""Pack what became of the codes that a job changed: a thousand codes take some 10 KiB. job_rows.py and
change_history.py call this. Postgres keeps these bytes, fields by position: only append a field, with a default."""

import zlib
from collections.abc import Sequence
from typing import Literal, NamedTuple

import msgspec

Result = Literal["changed", "unchanged", "refused"]


class CodeResult(NamedTuple):
    """A code; `before` and `after` are its switch, expiry or status, '' for none. `reason` is a refusal's code."""

    code: str
    result: Result
    before: str = ""
    after: str = ""
    reason: str = ""


class PendingCodes(NamedTuple):
    """Codes that scripts are deciding, and the page of codes that they are from."""

    examined: int
    last: int
    codes: list[str]


_encode = msgspec.msgpack.Encoder().encode
_results = msgspec.msgpack.Decoder(list[CodeResult])
_pending = msgspec.msgpack.Decoder(PendingCodes)


def pack_results(results: Sequence[CodeResult]) -> bytes:
    return zlib.compress(_encode(results), 1)


def unpack_results(packed: bytes) -> list[CodeResult]:
    return _results.decode(zlib.decompress(packed))


def pack_pending(pending: PendingCodes) -> bytes:
    return zlib.compress(_encode(pending), 1)


def unpack_pending(packed: bytes) -> PendingCodes:
    return _pending.decode(zlib.decompress(packed))

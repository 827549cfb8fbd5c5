"""The bodies of uploads of codes, in parts as they arrive, for codes.py. What they hold is bounded."""

from collections.abc import AsyncIterator
from typing import Any

import msgspec
from litestar import Request

from service.engine.domain.configuration import BookRow
from service.engine.domain.decoding import decode
from service.engine.domain.errors import malformed
from service.engine.domain.field_types import Request as _Request
from service.server.api.idempotency import Stream
from service.server.api.reading import (
    JSON_BYTES,
    UPLOAD_BYTES,
    UPLOAD_JSON_BYTES,
    parse_media_type,
    read_chunks,
    refuse_media_type,
)
from service.server.requests.code_requests import Lines
from service.server.requests.csv_layout import CsvOptions
from service.server.requests.json_codes import JsonCodes, split_book


class _RawCodesOf(_Request, kw_only=True):
    """UploadCodesOf, whose codes are parsed later."""

    book_id: str
    codes: msgspec.Raw


_raw_codes_of = msgspec.json.Decoder(_RawCodesOf)


def open_body(
    request: Request[Any, Any, Any], kind: str, options: CsvOptions, book: BookRow
) -> tuple[Lines | JsonCodes, AsyncIterator[bytes]]:
    """The parser for a body of this media type with codes of the book, and the body's parts."""
    if kind == "application/json":
        return JsonCodes(book.card), read_chunks(request, UPLOAD_JSON_BYTES)
    if kind not in ("text/csv", "text/plain"):
        raise refuse_media_type(kind, "application/json, text/csv or text/plain")
    return Lines(kind == "text/csv", options, card=book.card), read_chunks(request, UPLOAD_BYTES)


async def open_body_with_book(
    request: Request[Any, Any, Any],
) -> tuple[str, bytes | Stream, Stream | AsyncIterator[bytes]]:
    """The `bookId` of a JSON body, the body, and its codes in parts. Up to 1 MiB `bookId` may be anywhere."""
    if (kind := parse_media_type(request.headers)) != "application/json":
        raise refuse_media_type(kind, "application/json")
    chunks, begin = read_chunks(request, UPLOAD_JSON_BYTES), b""
    async for chunk in chunks:
        begin += chunk
        if split := split_book(begin):
            book_id, before, rest = split
            stream = Stream(_continue(rest, chunks), before)
            return book_id, stream, stream
        if len(begin) > JSON_BYTES:
            raise malformed("bookId", f"must come before `codes` in a body above {JSON_BYTES:,} bytes")
    payload = decode(_raw_codes_of, begin)
    return payload.book_id, begin, _continue(b'{"codes":' + payload.codes + b"}", None)


async def _continue(begin: bytes, chunks: AsyncIterator[bytes] | None) -> AsyncIterator[bytes]:
    yield begin
    if chunks is not None:
        async for chunk in chunks:
            yield chunk

"""Parse the codes of a JSON upload as its bytes arrive, in bounded memory, for codes.py and upload_dry_run.py."""

import re
from collections.abc import Iterator
from itertools import islice

import msgspec

from service.engine.domain.configuration import DiscountRow
from service.engine.domain.decoding import decode
from service.engine.domain.errors import FieldError, Refusal, malformed, refuse_fields
from service.engine.domain.file_kinds import explain_kind
from service.server.requests.code_requests import (
    LINES,
    CardCode,
    CodeLine,
    RejectedLine,
    UploadCodes,
    UploadCodesOf,
    parse_list,
)

MAX_ITEM_BYTES = 64 << 10
"""Of one item of the list."""
MAX_AROUND_BYTES = 1_024
"""Before and after the list."""

_SPACE, _TEXT = rb"[ \t\r\n]*+", rb'"[^"\\]*+(?:\\.[^"\\]*+)*'
_CODES = rb'"codes"' + _SPACE + rb":" + _SPACE + rb"\["
_begin = re.compile(_SPACE + rb"\{" + _SPACE + _CODES).match
_begin_with_book = re.compile(
    _SPACE + rb"\{" + _SPACE + rb'"bookId"' + _SPACE + rb":" + _SPACE + _TEXT + rb'"' + _SPACE + rb"," + _SPACE + _CODES
).match
_OTHER = rb'[^"{}\[\]]*+'
_FIELDS = rb"\{" + _OTHER + rb"(?:" + _TEXT + rb'"' + _OTHER + rb")*"
_ITEM = rb"(?:" + _TEXT + rb'"|' + _FIELDS + rb"\})" + _SPACE
_items = re.compile(rb"(?:" + _SPACE + _ITEM + rb",)+", re.DOTALL).match
_end = re.compile(rb"(" + _SPACE + rb"(?:" + _ITEM + rb")?)\]", re.DOTALL).match
_BROKEN = _TEXT + rb"\\?"
_is_unfinished = re.compile(
    _SPACE + rb"(?:" + _ITEM + rb"|" + _BROKEN + rb"|" + _FIELDS + rb"(?:" + _BROKEN + rb")?)?", re.DOTALL
).fullmatch
_item_number, _position = re.compile(r"codes\[(\d+)\]"), re.compile(r" \(byte \d+\)")
_decoder, _decoder_with_book = msgspec.json.Decoder(UploadCodes), msgspec.json.Decoder(UploadCodesOf)


def split_book(begin: bytes) -> tuple[str, bytes, bytes] | None:
    """The `bookId` of a body that begins so, what is before the codes, and the other bytes as JsonCodes parses them.
    None if `bookId` does not come first, or not yet. Raises Refusal `malformed`."""
    found = _begin_with_book(begin)
    if found is None:
        return None
    return decode(_decoder_with_book, found[0] + b"]}").book_id, found[0], b'{"codes":[' + begin[found.end() :]


class JsonCodes:
    """Parses the body of an upload, `{"codes": [...]}`, with the results and refusals of UploadCodes.

    The text around the list is decoded at the end, as if the list had one item. Codes before a mistake have been
    returned by then. Memory: one item.
    """

    layout: None = None

    def __init__(self, card: DiscountRow | None = None) -> None:
        """`card`: the discount of a book of cards."""
        self._card = card
        self._begins = self._lists = True
        self._rest = b""
        self._number = 0

    def feed(self, data: bytes) -> Iterator[list[CodeLine | RejectedLine]]:
        """The codes that are complete now, some at a time. Raises Refusal `malformed`."""
        self._rest += data
        if self._begins:
            begin = _begin(self._rest)
            if begin is None:
                if len(self._rest) > MAX_AROUND_BYTES:
                    raise malformed("body", explain_kind(self._rest) or 'must begin with {"codes": [')
                return
            self._begins, self._rest = False, self._rest[begin.end() :]
        if self._lists:
            yield from self._parse_items()
        if not self._lists and len(self._rest) > MAX_AROUND_BYTES:
            raise malformed("body", f"has more than {MAX_AROUND_BYTES:,} bytes after the list of codes")

    def close(self) -> Iterator[list[CodeLine | RejectedLine]]:
        """The remaining codes, at the end of the body. Raises Refusal `malformed`."""
        if self._begins:
            yield from self._number_codes(decode(_decoder, self._rest).codes)
        elif self._lists:
            self._decode(self._rest)
        elif self._decode(b'"-"]' + self._rest) != ["-"]:
            raise malformed("codes", "is there twice")

    def _parse_items(self) -> Iterator[list[CodeLine | RejectedLine]]:
        if items := _items(self._rest):
            self._rest = self._rest[items.end() :]
            yield from self._number_codes(self._decode(items[0].rstrip(b", \t\r\n") + b"]}"))
        if end := _end(self._rest):
            self._lists, self._rest = False, self._rest[end.end() :]
            if self._number and not end[1].strip():
                raise malformed("body", "is not valid JSON in UTF-8: trailing comma in array")
            yield from self._number_codes(self._decode(end[1] + b"]}"))
        elif not _is_unfinished(self._rest) and len(self._rest) > MAX_AROUND_BYTES:
            self._decode(self._rest)
        elif len(self._rest) > MAX_ITEM_BYTES:
            raise malformed(f"codes[{self._number}]", f"is longer than {MAX_ITEM_BYTES:,} bytes")

    def _decode(self, items: bytes) -> list[str | CardCode]:
        """The items that begin here, before the rest of the body. Raises Refusal, with numbers in the whole list."""
        try:
            return decode(_decoder, b'{"codes":[' + items).codes
        except Refusal as refusal:
            raise refuse_fields(refusal.code, [self._renumber(*error) for error in refusal.errors]) from None

    def _renumber(self, field: str, reason: str) -> FieldError:
        field = _item_number.sub(lambda found: f"codes[{int(found[1]) + self._number}]", field)
        return FieldError(field, _position.sub("", reason))

    def _number_codes(self, codes: list[str | CardCode]) -> Iterator[list[CodeLine | RejectedLine]]:
        first, self._number = self._number + 1, self._number + len(codes)
        lines = parse_list(codes, first, self._card)
        while piece := list(islice(lines, LINES)):
            yield piece

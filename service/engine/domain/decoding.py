"""Decode a body into its struct, for reading.py, base.py and batch.py. Errors become a Refusal of the bad fields."""

from codecs import BOM_UTF8
from typing import Any, TypeVar

import msgspec

from service.engine.domain.errors import BadField, Refusal, malformed, refuse_fields
from service.engine.domain.field_types import check_kept
from service.engine.domain.file_kinds import name_kind
from service.engine.domain.mistakes import MAX_BYTES, describe_error, refuse_request
from service.engine.domain.plain_texts import amounts_of, check_amounts, check_texts, has_amounts, has_lists

T = TypeVar("T")

MAX_VALUES = 50_000
"""Of a body with a list. Its values are decoded in one piece, about 3 ms for so many, before the list's own bound
refuses some."""


class _Metadata(msgspec.Struct):
    metadata: msgspec.Raw


_raw_metadata = msgspec.json.Decoder(_Metadata)


def decode(decoder: "msgspec.json.Decoder[T]", body: bytes, every: bool = True) -> T:
    """The struct in the body. Raises Refusal `malformed` or `invalid`, which names every mistake, or the first one."""
    if len(body) > MAX_VALUES and body.count(b",") >= MAX_VALUES and has_lists(decoder.type):
        raise Refusal("too_large", f"The body has more than {MAX_VALUES:,} values; send less at once.")
    try:
        is_short = len(body) <= MAX_BYTES
        if is_short and has_amounts(decoder.type):
            check_amounts(decoder.type, body)
        request = decoder.decode(body)
        if not is_short and has_amounts(decoder.type):  # its lists are as short as they must be
            check_amounts(decoder.type, body)
        _check_metadata(request, body)
        return request
    except (msgspec.ValidationError, BadField) as error:
        raise _refuse(decoder.type, error, body, every) from None
    except RecursionError:
        raise malformed("body", "is nested too deeply") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise malformed("body", _explain_syntax(error, body)) from None


def decode_raw(decoder: "msgspec.json.Decoder[Any]", raw: msgspec.Raw) -> Any:
    """As decode, of one of many structs: it looks for odd amounts only where there are some, and names one mistake."""
    try:
        request: msgspec.Struct = decoder.decode(raw)
        if any(getattr(request, name) is not None for name in amounts_of(type(request))):
            check_amounts(decoder.type, raw)
        _check_metadata(request, raw)
    except (BadField, msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return decode(decoder, bytes(raw), every=False)
    return request


def convert(value: Any, kind: type[T]) -> T:
    """As decode, from values that are already decoded (such as the demo's books)."""
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        raise refuse_request(kind, error, value) from None


def convert_query(values: dict[str, str], kind: type[T]) -> T:
    """As decode, from the parameters of a query."""
    try:
        check_texts(kind, values)
        return msgspec.convert(values, kind, strict=False)
    except (msgspec.ValidationError, BadField) as error:
        raise refuse_request(kind, error, values, strict=False) from None


def _check_metadata(request: Any, body: bytes | msgspec.Raw) -> None:
    if metadata := getattr(request, "metadata", None):
        sent = bytes(body)
        kept = msgspec.json.encode(metadata)
        # Else it was sent as it is kept, without spaces.
        if sent.count(b'"metadata"') != 1 or b'"metadata":' + kept not in sent:
            check_kept(metadata, len(kept), _raw_metadata.decode(body).metadata)


def _explain_syntax(error: msgspec.DecodeError | UnicodeDecodeError, body: bytes) -> str:
    """Why a body is no JSON."""
    if not body.strip():
        return "is empty; send a JSON object"
    if kind := name_kind(body):
        problem = f"the body is {kind}"
    elif body.startswith(BOM_UTF8):
        problem = "it begins with a byte order mark; send it without"
    elif isinstance(error, UnicodeDecodeError):
        problem = f"the byte 0x{error.object[error.start]:02x} is of another encoding"
    else:
        problem = str(error).removeprefix("JSON is malformed: ").replace("be strings", "be strings in double quotes")
    return f"is not valid JSON in UTF-8: {problem}"[:200]


def _refuse(kind: Any, error: Exception, body: bytes, every: bool) -> Refusal:
    if len(body) <= MAX_BYTES:
        try:
            return refuse_request(kind, error, msgspec.json.decode(body), every=every)
        except RecursionError:
            return malformed("body", "is nested too deeply")
        except (msgspec.DecodeError, UnicodeDecodeError):  # not JSON after the mistake, which is named alone
            pass
    code, field = describe_error(error)
    return refuse_fields(code, [field])

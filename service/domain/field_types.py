"""The words of requests: codes, the caller's ids, text, metadata; and what every request struct is based on."""

import re
from typing import Annotated, Any
from uuid import UUID

import msgspec

from service.domain.errors import BadField

END = r"$(?![\s\S])"  # the very end: `$` alone also matches before a last newline, and ECMA knows no \Z

CODE_PATTERN = r"^[A-Za-z0-9_-]{4,64}" + END
ID_PATTERN = r"^(?!\.\.?" + END + r""")[!"$&'()*+,\-.0-9:;<=>@A-Z\[\]^_`a-z{|}~]{1,100}""" + END

RESERVED_CODES = frozenset(
    "LOCK REDEEM ASSIGN UNASSIGN UNLOCK EXTEND VALIDATE CODES GENERATE ACTIVE USER-SPECIFIC TIME-SPECIFIC".split()
)
MAX_INT = 2**31 - 1

PRINTABLE = r"^(?: |[^\p{C}\p{Z}])*$"
"""What check_text takes, in the words of JSON Schema; Python's re doesn't know them."""

UserId = Annotated[
    str, msgspec.Meta(pattern=ID_PATTERN, description="The caller's id of a user.", examples=["user-42"])
]
OrderId = Annotated[
    str, msgspec.Meta(pattern=ID_PATTERN, description="The caller's id of an order.", examples=["A-1001"])
]
Count = Annotated[int, msgspec.Meta(ge=1, le=MAX_INT)]

_is_code = re.compile(CODE_PATTERN).match
_is_id = re.compile(ID_PATTERN).match
_control_escape = re.compile(rb"\\(?:[bfnrt]|u00[01])|\x7f|\xc2[\x80-\x9f]")


class Request(msgspec.Struct, rename="camel", forbid_unknown_fields=True, kw_only=True):
    """A request's body: camelCase, unknown fields refused."""


class Answer(msgspec.Struct, rename="camel", kw_only=True):
    """An answer's body: camelCase."""


def canonical_code(text: str) -> str | None:
    """The code as it is kept (upper case), or None where the text can't be one."""
    if not _is_code(text):
        return None
    code = text.upper()
    return None if code in RESERVED_CODES else code


def encode_field(text: str | None) -> str:
    """An id as records and events have it, where '-' is none: the id '-' is '%-', since no id has a '%'."""
    if text is None:
        return "-"
    return "%-" if text == "-" else text


def quote_json(text: str | None) -> str:
    """An id, a time or an amount as JSON; of what would be escaped none of them has more than a quote."""
    return "null" if text is None else '"' + text.replace('"', '\\"') + '"'


def decode_field(kept: str) -> str | None:
    """The inverse of word."""
    if kept == "-":
        return None
    return "-" if kept == "%-" else kept


def decode_id(kept: str) -> str:
    """The inverse of word, where there is one: an id that is never none."""
    return "-" if kept == "%-" else kept


def is_caller_id(text: str) -> bool:
    """Whether the text may be a userId or an orderId."""
    return _is_id(text) is not None


def own_id(text: str) -> UUID | None:
    """An id of ours (a UUID in its usual spelling), or None where the text can't be one."""
    if len(text) != 36:
        return None
    try:
        value = UUID(text)
    except ValueError:
        return None
    return value if str(value) == text.lower() else None


def text(min_length: int, max_length: int, **told: Any) -> msgspec.Meta:
    """What the OpenAPI document says of a text that check_text checks."""
    schema = {"minLength": min_length, "maxLength": max_length, "pattern": PRINTABLE}
    return msgspec.Meta(extra_json_schema={name: value for name, value in schema.items() if value}, **told)


def check_text(field: str, text: str | None, min_length: int, max_length: int) -> None:
    """Raise BadField unless the text is printable and of a fitting length, in characters."""
    if text is None:
        return
    if not min_length <= len(text) <= max_length:
        raise BadField(field, f"must have {min_length} to {max_length} characters")
    if not text.isprintable():
        raise BadField(field, "must be printable, without control characters")


def packed_metadata(field: str, metadata: dict[str, Any] | None, max_bytes: int) -> bytes:
    """Metadata as JSON bytes; BadField where it is too large or holds control characters."""
    if not metadata:
        return b"{}"
    packed = msgspec.json.encode(metadata)
    if len(packed) > max_bytes:
        raise BadField(field, f"must have at most {max_bytes} bytes as JSON")
    if _control_escape.search(packed.replace(rb"\\", b"")):
        raise BadField(field, "must be without control characters")
    return packed

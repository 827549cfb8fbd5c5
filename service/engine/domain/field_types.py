"""Types of fields: codes, the caller's ids, text, metadata; and the base structs of requests and responses.

All requests and responses use it. `encode_field` makes what Redis's keys, records and events contain: its bytes must
not change. `Answer.from_row` copies fields by name.
"""

import re
import unicodedata
from collections.abc import Callable, Mapping
from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any, Generic, Self, TypeVar

import msgspec
from msgspec import UNSET, UnsetType

from service.engine.domain.errors import BadField
from service.engine.domain.times import from_ms, to_ms

Item = TypeVar("Item")

END = r"$(?![\s\S])"  # the end of the string: `$` alone also matches before a last newline, and ECMA has no \Z

CODE_PATTERN = r"^[A-Za-z0-9_-]{4,64}" + END
CODE_CHARACTERS = "4 to 64 of A-Z a-z 0-9 - _"
"""CODE_PATTERN in words."""
ID_PATTERN = r"^(?!\.\.?" + END + r""")[!"$&'()*+,\-.0-9:;<=>@A-Z\[\]^_`a-z{|}~]{1,100}""" + END
ID_CHARACTERS = "1 to 100 printable ASCII characters without space, / \\ ? # %"
"""ID_PATTERN in words."""

RESERVED_CODES = frozenset(
    "LOCK REDEEM ASSIGN UNASSIGN UNLOCK EXTEND VALIDATE CODES GENERATE ACTIVE USER-SPECIFIC TIME-SPECIFIC".split()
)
"""Texts that follow `/v1/coupons/` in paths, and so are no codes."""
MAX_INT = 2**31 - 1
MAX_CODES = 10_000_000
"""That one request makes, or a book keeps free."""
METADATA_BYTES = 4096
MAX_SENT = 4 * METADATA_BYTES
"""Of metadata with its spaces, escapes and zeros."""
METADATA_LEVELS = 8
"""Of objects and arrays within each other; metadata itself is the first."""
DEFAULT_OVERLAP_S = 86_400

PRINTABLE = r"^(?: |[^\p{C}\p{Z}])*$"
"""What check_text accepts, for JSON Schema only: Python's re does not support these classes."""

CodeText = Annotated[str, msgspec.Meta(pattern=CODE_PATTERN, description=f"{CODE_CHARACTERS}.")]
UserId = Annotated[
    str, msgspec.Meta(pattern=ID_PATTERN, description=f"Your own: {ID_CHARACTERS}.", examples=["user-42"])
]
OrderId = Annotated[
    str, msgspec.Meta(pattern=ID_PATTERN, description=f"Your own: {ID_CHARACTERS}.", examples=["A-1001"])
]
Count = Annotated[int, msgspec.Meta(ge=1, le=MAX_INT)]

is_code_character = re.compile(r"[A-Za-z0-9_-]\Z").match
is_id_character = re.compile(r"[!-~](?<![/\\?#%])\Z").match
_NAMES = {" ": "a space", "\n": "a line break", "\r": "a line break", "\t": "a tab"}
_is_code = re.compile(CODE_PATTERN).match
_is_id = re.compile(ID_PATTERN).match
_control_escape = re.compile(rb"\\(?:[bfnrt]|u00[01])|\x7f|\xc2[\x80-\x9f]")


class Request(msgspec.Struct, rename="camel", forbid_unknown_fields=True, kw_only=True):
    """A request's body: camelCase, without unknown fields."""

    def list_changes(self, defaults: Mapping[str, Any]) -> dict[str, Any]:
        """The fields that are not UNSET, by name. A null is the field's default, if it has one here."""
        changes = {name: getattr(self, name) for name in self.__struct_fields__ if getattr(self, name) is not UNSET}
        return {name: defaults.get(name) if value is None else value for name, value in changes.items()}


class Nothing(Request):
    """A request without fields."""


class Rotation(Request):
    """The rotation of a secret."""

    overlap_seconds: Annotated[
        Annotated[int, msgspec.Meta(ge=0, le=30 * DEFAULT_OVERLAP_S)] | None,
        msgspec.Meta(description="How long the old secret stays valid; null means one day."),
    ] = None

    @property
    def overlap_s(self) -> int:
        return DEFAULT_OVERLAP_S if self.overlap_seconds is None else self.overlap_seconds


class Answer(msgspec.Struct, rename="camel", kw_only=True):
    """A response's body: camelCase."""

    @classmethod
    def from_row(cls, row: object, **others: Any) -> Self:
        """Make the body from `others` and from the row's attributes of the same names. A `datetime`, and an attribute
        `<name>_ms` in milliseconds since 1970, becomes a time in RFC 3339."""
        values = {name: _read_attribute(row, name) for name in cls.__struct_fields__ if name not in others}
        return cls(**values, **others)


class Page(Answer, Generic[Item]):
    """A page of a list, newest first."""

    items: list[Item]
    next_cursor: str | None


def _read_attribute(row: object, name: str) -> Any:
    if hasattr(row, name):
        value = getattr(row, name)
        return from_ms(to_ms(value)) if isinstance(value, datetime) else value
    time_ms = getattr(row, f"{name}_ms")
    return None if time_ms is None else from_ms(time_ms)


def canonicalize_code(text: str) -> str | None:
    """The code in upper case, as it is stored; None if the text is not a valid code."""
    if not _is_code(text):
        return None
    code = text.upper()
    return None if code in RESERVED_CODES else code


LONGEST = 512
"""Characters that no text may exceed whose faults are named: the most are those of a name in a path."""


def find_fault(text: str, is_allowed: Callable[[str], object]) -> str:
    """The first character that a text may not have, by name and place: `a space at position 5`; else its length, which
    is the fault of any text beyond LONGEST."""
    for place, character in enumerate(text[:LONGEST], 1):
        if not is_allowed(character):
            if character in _NAMES or "!" <= character <= "~":
                return f"{_NAMES.get(character, f'`{character}`')} at position {place}"
            shown = f"`{character}`" if character.isprintable() else "the character"
            return f"{shown} ({unicodedata.name(character, 'control').lower()}) at position {place}"
    return f"{len(text)} characters"


def explain_code(text: str) -> str:
    """Why a text is no code."""
    if text.upper() in RESERVED_CODES:
        return f"{text} is a reserved word"
    return f"a code has {CODE_CHARACTERS}, and this one has {find_fault(text, is_code_character)}"


def encode_field(text: str | None) -> str:
    """An id as a field of a record or event. None is '-', and the id '-' is '%-': no id contains a '%'."""
    if text is None:
        return "-"
    return "%-" if text == "-" else text


def decode_field(field: str) -> str | None:
    if field == "-":
        return None
    return "-" if field == "%-" else field


def decode_id(field: str) -> str:
    """The inverse of encode_field, for a field that always has an id."""
    return "-" if field == "%-" else field


def quote_id(field: str) -> str:
    """As decode_id, as JSON. The quote is the only character in ids that JSON escapes."""
    if '"' in field or field == "%-":
        return '"' + decode_id(field).replace('"', '\\"') + '"'
    return f'"{field}"'


def quote_field(field: str) -> str:
    """As decode_field, as JSON; without a call of quote_id for most ids."""
    if field == "-":
        return "null"
    return quote_id(field) if '"' in field or field == "%-" else f'"{field}"'


def is_caller_id(text: str) -> bool:
    """Whether the text is a valid userId or orderId."""
    return _is_id(text) is not None


def text_schema(
    min_length: int, max_length: int, description: str = "Printable characters only.", **meta: Any
) -> msgspec.Meta:
    """The OpenAPI schema of a text that check_text checks."""
    schema = {"minLength": min_length, "maxLength": max_length, "pattern": PRINTABLE}
    schema = {name: value for name, value in schema.items() if value}
    return msgspec.Meta(extra_json_schema=schema, description=description, **meta)


def check_text(field: str, text: str | UnsetType | None, min_length: int, max_length: int) -> None:
    """Raise BadField if there is a text that is not printable, or whose length in characters is out of bounds."""
    if text is None or text is UNSET:
        return
    if not min_length <= len(text) <= max_length:
        raise BadField(field, f"must have {min_length} to {max_length} characters")
    if not text.isprintable():
        raise BadField(field, "must have printable characters only")


def encode_metadata(metadata: dict[str, Any] | None, max_bytes: int = METADATA_BYTES) -> bytes:
    """Metadata as JSON bytes. Raises BadField if it is too large, nested too deeply, or has control characters."""
    if not metadata:
        return b"{}"
    try:
        encoded = msgspec.json.encode(metadata)
    except RecursionError:
        raise _refuse_depth() from None
    if len(encoded) > max_bytes:
        raise BadField("metadata", f"must have at most {max_bytes} bytes as JSON, but has {len(encoded)}")
    # Most metadata has fewer objects and arrays than levels are allowed.
    if encoded.count(b"{") + encoded.count(b"[") > METADATA_LEVELS and _count_levels(metadata) > METADATA_LEVELS:
        raise _refuse_depth()
    if _control_escape.search(encoded.replace(rb"\\", b"")):
        raise BadField("metadata", "must not have control characters")
    return encoded


def check_kept(metadata: dict[str, Any], size: int, raw: msgspec.Raw) -> None:
    """Raise BadField if decoding changed metadata: a number that a float rounds, or a name that an object has twice.
    What is too large, by its bytes as encoded, is left to encode_metadata."""
    if size > METADATA_BYTES:
        return
    sent = bytes(raw)
    if len(sent) > MAX_SENT:  # so that what follows takes little time
        raise BadField("metadata", f"must have at most {MAX_SENT} bytes with its spaces, but has {len(sent)}")
    names, level = 0, [metadata]
    while level:
        names += sum(len(one) for one in level if isinstance(one, dict))
        level = _list_containers(level)
    if names < _string.sub(b"", sent).count(b":"):
        raise BadField("metadata", "must not have the same name twice in an object")
    _exact.decode(sent)


def _check_float(text: str) -> None:
    try:
        is_exact = Decimal(text) == Decimal(repr(float(text)))
    except ArithmeticError:  # an exponent of 19 digits
        is_exact = False
    if not is_exact:
        raise BadField("metadata", f"must not have the number {text[:40]}, which would be rounded: send it as a string")


_exact = msgspec.json.Decoder(float_hook=_check_float)
_string = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*"')


def _count_levels(metadata: dict[str, Any]) -> int:
    levels = 0
    level: list[Any] = [metadata]
    while level:
        levels += 1
        level = _list_containers(level)
    return levels


def _list_containers(level: list[Any]) -> list[Any]:
    """The objects and arrays in these."""
    return [member for one in level for member in _list_members(one) if type(member) in (dict, list)]


def _list_members(container: Any) -> list[Any]:
    return list(container.values()) if isinstance(container, dict) else container


def _refuse_depth() -> BadField:
    return BadField("metadata", f"must have at most {METADATA_LEVELS} levels of objects and arrays")

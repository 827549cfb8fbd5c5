"""Decoding a request body into its struct. Errors become a Refusal that names the field."""

import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Any, TypeVar, cast

import msgspec
from msgspec import inspect

from service.domain.errors import BadField, FieldError, Refusal, invalid, malformed
from service.domain.field_types import CODE_PATTERN, ID_PATTERN
from service.domain.money import MAX_DIGITS, is_plain

T = TypeVar("T")

MAX_ECHO = 200
"""Characters of a client's text that a response repeats."""

_path = re.compile(r" - at `\$\.?(.*)`$")
_named = re.compile(r"field `([^`]*)`")
_out_of_range = re.compile(
    r"^Expected `[^`]+` (?:of length|>|<|matching|that's)"
    r"|^Integer value out of range|^Invalid enum value|^Invalid value '"
)
_odd_amount = re.compile(
    rb'"(?=["\\+\-.0-9_eE\s\x80-\xff])(?!-?[0-9]{1,50}(?:\.[0-9]{1,50})?")(?:[-+0-9._eE\s\x80-\xff]|\\[bfnrt]|\\u[0-9a-fA-F]{4})*"'
)
"""A string that msgspec may accept as a Decimal though it is not an amount in plain notation, or is very long."""

_TYPES = {
    "str": "a string",
    "int": "a whole number",
    "float": "a number",
    "decimal": "a decimal number",
    "bool": "true or false",
    "array": "an array",
    "object": "an object",
    "datetime": "a time such as 2026-11-27T00:00:00Z",
    "uuid": "a UUID",
}
"""How errors name msgspec's types."""
_REASONS = {
    "Invalid UUID": "must be a UUID",
    "Invalid decimal string": "must be a decimal number such as 25.00",
    "Invalid RFC3339 encoded datetime": "must be a time such as 2026-11-27T00:00:00Z",
    "Expected `datetime` with a timezone component": "must have an offset, such as 2026-11-27T00:00:00Z",
}
_PATTERN_REASONS = {
    repr(CODE_PATTERN): "must have 4 to 64 of the characters A-Z a-z 0-9 - _",
    repr(ID_PATTERN): "must have 1 to 100 printable ASCII characters without space, / \\ ? # %",
}
_COMPARISONS = {">=": "at least", "<=": "at most", ">": "more than", "<": "less than"}
_expected_pattern = re.compile(r"Expected `str` matching regex (.*)", re.DOTALL).fullmatch
_expected_length = re.compile(r"Expected `(\w+)` of length (>=|<=) (\d+)").fullmatch
_expected_bound = re.compile(r"Expected `\w+` (>=|<=|>|<) (\S+)").fullmatch
_expected_type = re.compile(r"Expected `([^`]+)`(?:, got `[^`]+`)?").fullmatch
_invalid_value = re.compile(r"Invalid (?:enum )?value (.+)", re.DOTALL).fullmatch

_is_dated = re.compile(r"\d{4}-", re.ASCII).match


def decode(decoder: "msgspec.json.Decoder[T]", body: bytes) -> T:
    """The struct in the body. Raises Refusal `malformed` or `invalid`."""
    try:
        if _has_amounts(decoder.type):
            _refuse_odd_amounts(decoder.type, body)
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        raise refusal_from_error(error) from None
    except RecursionError:
        raise malformed("body", "is nested too deeply") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise malformed("body", f"is not JSON in UTF-8 ({error})"[:200]) from None


def decode_raw(decoder: "msgspec.json.Decoder[Any]", raw: msgspec.Raw) -> Any:
    """As decode, of one of many structs: it looks for odd amounts only if the struct has amounts."""
    try:
        request: msgspec.Struct = decoder.decode(raw)
        if any(getattr(request, name) is not None for name in _amounts_of(type(request))):
            _refuse_odd_amounts(decoder.type, raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return decode(decoder, bytes(raw))
    return request


def _refuse_odd_amounts(kind: Any, body: bytes | msgspec.Raw) -> None:
    if _odd_amount.search(body):
        check_texts(kind, msgspec.json.decode(body))


def convert(value: Any, kind: type[T]) -> T:
    """As decode, from values that are already decoded (such as the demo's books)."""
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        raise refusal_from_error(error) from None


def check_texts(kind: Any, value: Any) -> None:
    """Raise Refusal for strings that msgspec accepts but the API does not: amounts not in plain notation (`1_000`,
    ` 1`, `1e3`, digits of other scripts), and times as seconds since 1970 (`197`)."""
    try:
        _check_texts(_described(kind), value, "")
    except BadField as bad:
        raise refusal_from_field(bad) from None


_described = lru_cache(maxsize=256)(inspect.type_info)


@lru_cache(maxsize=256)
def _amounts_of(kind: type[msgspec.Struct]) -> tuple[str, ...]:
    """The fields that are amounts, or have some."""
    return tuple(field.name for field in msgspec.structs.fields(kind) if _has_amounts(field.type))


@lru_cache(maxsize=256)
def _has_amounts(kind: Any) -> bool:
    return b'"format":"decimal"' in msgspec.json.encode(msgspec.json.schema(kind))


def _check_texts(kind: inspect.Type, value: Any, path: str) -> None:
    if isinstance(kind, inspect.DateTimeType):
        if isinstance(value, str) and not _is_dated(value):
            raise BadField(path, "must be a time such as 2026-11-27T00:00:00Z", malformed=True)
    elif not isinstance(kind, inspect.DecimalType):
        for part in _parts(kind, value, path):
            _check_texts(*part)
    elif isinstance(value, str):
        if not is_plain(value):
            raise BadField(path, "must be a decimal number such as 25.00", malformed=True)
        if len(value) > MAX_DIGITS:
            raise BadField(path, f"must have at most {MAX_DIGITS} characters")


def _parts(kind: inspect.Type, value: Any, path: str) -> Iterator[tuple[inspect.Type, Any, str]]:
    """The parts of a value and the members of its union type: types, values and paths."""
    match kind:
        case inspect.Metadata(type=inner):
            yield inner, value, path
        case inspect.UnionType(types=kinds):
            yield from ((one, value, path) for one in kinds)
        case inspect.ListType(item_type=item) if isinstance(value, list):
            items = cast("list[Any]", value)
            yield from ((item, one, f"{path}[{number}]") for number, one in enumerate(items))
        case inspect.StructType() if isinstance(value, dict):
            members = cast("dict[str, Any]", value)
            if kind.tag_field is None or members.get(kind.tag_field) == kind.tag:
                for field in kind.fields:
                    if (name := field.encode_name) in members:
                        yield field.type, members[name], f"{path}.{name}" if path else name
        case _:
            pass


def refusal_from_error(error: msgspec.ValidationError) -> Refusal:
    """The Refusal of a validation error: `malformed` for a wrong type, `invalid` for a value out of range."""
    cause = error.__cause__
    if isinstance(cause, BadField):
        return refusal_from_field(cause)
    text = str(error)
    at = _path.search(text)
    path = at[1] if at else ""
    reason = text[: at.start()] if at else text
    if reason.startswith("Object ") and (named := _named.search(reason)):
        path = f"{path}.{named[1]}" if path else named[1]
        path = path[:MAX_ECHO]  # the client chose it, so it may be long
        reason = "is required" if "missing" in reason else "is not a field of this request"
        return malformed(path, reason)
    make = invalid if _out_of_range.match(reason) else malformed
    return make(path[:MAX_ECHO] or "body", _explain(reason)[:MAX_ECHO])


def _explain(reason: str) -> str:
    """The reason of a validation error without msgspec's type names and patterns."""
    if match := _expected_pattern(reason):
        return _PATTERN_REASONS.get(match[1], "has characters or a length that this field does not allow")
    if match := _expected_length(reason):
        return f"must have {_COMPARISONS[match[2]]} {match[3]} {'items' if match[1] == 'array' else 'characters'}"
    if match := _expected_bound(reason):
        return f"must be {_COMPARISONS[match[1]]} {match[2]}"
    if match := _expected_type(reason):
        return "must be " + " or ".join(_TYPES.get(name, name) for name in match[1].split(" | "))
    if match := _invalid_value(reason):
        return f"must be one of the allowed values, not {match[1]}"
    return _REASONS.get(reason) or reason.replace("`", "")


def refusal_from_field(bad: BadField) -> Refusal:
    """The Refusal of a BadField that a struct's `__post_init__` raised."""
    code = "malformed" if bad.malformed else "invalid"
    return Refusal(code, f"{bad.field}: {bad.reason}", [FieldError(bad.field, bad.reason)])

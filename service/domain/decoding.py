"""From a body's bytes to a request struct, or to the refusal that names the field."""

import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Any, TypeVar, cast

import msgspec
from msgspec import inspect

from service.domain.errors import BadField, FieldError, Refusal, invalid, malformed
from service.domain.money import MAX_DIGITS, is_plain

T = TypeVar("T")

MAX_ECHO = 200
"""Characters of what a client sent that an answer names."""

_path = re.compile(r" - at `\$\.?(.*)`$")
_named = re.compile(r"field `([^`]*)`")
_out_of_range = re.compile(
    r"^Expected `[^`]+` (?:of length|>|<|matching|that's)"
    r"|^Integer value out of range|^Invalid enum value|^Invalid value '"
)
_odd_amount = re.compile(
    rb'"(?=["\\+\-.0-9_eE\s\x80-\xff])(?!-?[0-9]{1,50}(?:\.[0-9]{1,50})?")(?:[-+0-9._eE\s\x80-\xff]|\\[bfnrt]|\\u[0-9a-fA-F]{4})*"'
)
"""A string that a Decimal may be made of though it isn't money as it is written here, or a very long one."""

_is_dated = re.compile(r"\d{4}-", re.ASCII).match


def decode(decoder: "msgspec.json.Decoder[T]", body: bytes) -> T:
    """The struct that the body holds; Refusal `malformed` or `invalid` otherwise."""
    try:
        if _has_amounts(decoder.type) and _odd_amount.search(body):
            check_texts(decoder.type, msgspec.json.decode(body))
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        raise refusal_of(error) from None
    except RecursionError:
        raise malformed("body", "is nested too deep") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise malformed("body", f"is not readable JSON in UTF-8 ({error})"[:200]) from None


def convert(value: Any, kind: type[T]) -> T:
    """As decode, from values that are decoded already (a book of the demo)."""
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        raise refusal_of(error) from None


def check_texts(kind: Any, value: Any) -> None:
    """Refusal where a string is not an amount in plain notation, though msgspec would make a Decimal of it (`1_000`,
    ` 1`, `1e3`, digits of other scripts); or no time, though it would take it for seconds since 1970 (`197`)."""
    try:
        _check_texts(_described(kind), value, "")
    except BadField as bad:
        raise refusal_of_field(bad) from None


_described = lru_cache(maxsize=256)(inspect.type_info)


@lru_cache(maxsize=256)
def _has_amounts(kind: Any) -> bool:
    return b'"format":"decimal"' in msgspec.json.encode(msgspec.json.schema(kind))


def _check_texts(kind: inspect.Type, value: Any, path: str) -> None:
    if isinstance(kind, inspect.DateTimeType):
        if isinstance(value, str) and not _is_dated(value):
            raise BadField(path, "must be a time, as 2026-11-27T00:00:00Z", malformed=True)
    elif not isinstance(kind, inspect.DecimalType):
        for part in _parts(kind, value, path):
            _check_texts(*part)
    elif isinstance(value, str):
        if not is_plain(value):
            raise BadField(path, "must be a decimal number, as 25.00", malformed=True)
        if len(value) > MAX_DIGITS:
            raise BadField(path, f"must have at most {MAX_DIGITS} characters")


def _parts(kind: inspect.Type, value: Any, path: str) -> Iterator[tuple[inspect.Type, Any, str]]:
    """What a value consists of, or may be: types, values and paths."""
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


def refusal_of(error: msgspec.ValidationError) -> Refusal:
    """A validation error in the contract's words: 400 where it can't be read, 422 where it is out of range."""
    cause = error.__cause__
    if isinstance(cause, BadField):
        return refusal_of_field(cause)
    text = str(error)
    at = _path.search(text)
    path = at[1] if at else ""
    reason = text[: at.start()] if at else text
    if reason.startswith("Object ") and (named := _named.search(reason)):
        path = f"{path}.{named[1]}" if path else named[1]
        path = path[:MAX_ECHO]  # it is the client's, and may be long
        reason = "is required" if "missing" in reason else "is not a field of this request"
        return malformed(path, reason)
    make = invalid if _out_of_range.match(reason) else malformed
    return make(path[:MAX_ECHO] or "body", reason.replace("`", "")[:MAX_ECHO])


def refusal_of_field(bad: BadField) -> Refusal:
    """The refusal for a field that a struct's own checks found bad."""
    code = "malformed" if bad.malformed else "invalid"
    return Refusal(code, f"{bad.field}: {bad.reason}", [FieldError(bad.field, bad.reason)])

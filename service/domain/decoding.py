"""From a body's bytes to a request struct, or to the refusal that names the field."""

import re
from typing import Any, TypeVar

import msgspec

from service.domain.errors import BadField, FieldError, Refusal, invalid, malformed

T = TypeVar("T")

_path = re.compile(r" - at `\$\.?(.*)`$")
_named = re.compile(r"field `([^`]*)`")
_out_of_range = re.compile(
    r"^Expected `[^`]+` (?:of length|>|<|matching|that's)"
    r"|^Integer value out of range|^Invalid enum value|^Invalid value '"
)


def decode(decoder: "msgspec.json.Decoder[T]", body: bytes) -> T:
    """The struct that the body holds; Refusal `malformed` or `invalid` otherwise."""
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        raise refusal_of(error) from None
    except RecursionError:
        raise malformed("body", "is nested too deep") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise malformed("body", f"is not readable JSON in UTF-8 ({error})"[:200]) from None


def convert(value: Any, kind: type[T]) -> T:
    """As decode, from values that are decoded already (a batch's operations, a query)."""
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        raise refusal_of(error) from None


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
        reason = "is required" if "missing" in reason else "is not a field of this request"
        return malformed(path, reason)
    make = invalid if _out_of_range.match(reason) else malformed
    return make(path or "body", reason.replace("`", ""))


def refusal_of_field(bad: BadField) -> Refusal:
    """The refusal for a field that a struct's own checks found bad."""
    code = "malformed" if bad.malformed else "invalid"
    return Refusal(code, f"{bad.field}: {bad.reason}", [FieldError(bad.field, bad.reason)])

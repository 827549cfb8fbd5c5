"""Find all mistakes of a request that can't be decoded, each with the value that was sent, for decoding.py.

msgspec names the first mistake only. So a refused request is looked at once more, field by field.
"""

import difflib
import itertools
import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Any, cast

import msgspec
from msgspec import inspect

from service.engine.domain.errors import QUOTED, BadField, FieldError, Refusal, refuse_fields
from service.engine.domain.field_types import (
    CODE_PATTERN,
    ID_CHARACTERS,
    ID_PATTERN,
    find_fault,
    is_code_character,
    is_id_character,
)
from service.engine.domain.plain_texts import check_texts, describe_type

MAX_BYTES = 16 * 1024
"""Of a body that is looked at for further mistakes."""
MAX_MISTAKES = 20
MAX_ECHO = 200
"""Characters of a client's text that a response repeats."""
_LISTED = 10
"""Fields that a reason lists; of a request with more it lists none."""
_SECRET = frozenset(("lockToken", "secret"))
"""Fields whose values no reason quotes."""

_path = re.compile(r" - at `\$\.?(.*)`$")
_named = re.compile(r"field `([^`]*)`")
_out_of_range = re.compile(
    r"^Expected `[^`]+` (?:of length|>|<|matching|that's)"
    r"|^Integer value out of range|^Invalid enum value|^Invalid value '"
)
_TYPES = {
    "str": "a string",
    "int": "a whole number",
    "float": "a number",
    "decimal": "a decimal number",
    "bool": "true or false",
    "array": "an array",
    "object": "an object",
    "datetime": "a time such as 2036-11-27T00:00:00Z",
    "uuid": "a UUID",
}
"""How errors name msgspec's types."""
_REASONS = {
    "Invalid UUID": "must be a UUID",
    "Invalid decimal string": "must be a decimal number such as 25.00",
    "Invalid RFC3339 encoded datetime": "must be a time such as 2036-11-27T00:00:00Z",
    "Expected `datetime` with a timezone component": "must have an offset, such as 2036-11-27T00:00:00Z",
}
_PATTERN_REASONS = {
    repr(CODE_PATTERN): "must have 4 to 64 of the characters A-Z a-z 0-9 - _",
    repr(ID_PATTERN): f"must have {ID_CHARACTERS}",
}
_CHARACTERS = dict(zip(_PATTERN_REASONS.values(), (is_code_character, is_id_character), strict=True))
_COMPARISONS = {">=": "at least", "<=": "at most", ">": "more than", "<": "less than"}
_expected_pattern = re.compile(r"Expected `str` matching regex (.*)", re.DOTALL).fullmatch
_expected_length = re.compile(r"Expected `(\w+)` of length (>=|<=) (\d+)").fullmatch
_expected_bound = re.compile(r"Expected `\w+` (>=|<=|>|<) (\S+)").fullmatch
_expected_type = re.compile(r"Expected `([^`]+)`(?:, got `[^`]+`)?").fullmatch
_invalid_value = re.compile(r"Invalid (?:enum )?value (.+)", re.DOTALL).fullmatch

Mistake = tuple[str, FieldError]
"""The code, `malformed` or `invalid`, and the field."""


def refuse_request(kind: Any, error: Exception, request: Any, strict: bool = True, every: bool = True) -> Refusal:
    """The Refusal of a decoded JSON value, of which `error` is the first mistake. `strict` is as msgspec's."""
    code, first = describe_error(error)
    if first.reason.startswith("must be one of") and (choices := _list_choices(kind, first.field)):
        reason = f"must be one of {', '.join(choices)}"
        first = FieldError(first.field, reason + _quote_value(first.field, reason, _look_up(request, first.field)))
    mistakes = [first]
    if isinstance(request, dict) and (struct := _find_struct(kind, request)):
        members = cast("dict[str, Any]", request)
        only = None if every else _find_first_name(first.field)
        further = _take_first(_find_structural(struct, members, "", strict, only)) or _take_first(
            _find_semantic(struct, members, strict)
        )
        found = {field.field: field for _, field in further}
        mistakes = [found.pop(first.field, first), *found.values()][: MAX_MISTAKES if every else 1]
    return refuse_fields(code, mistakes)


def describe_error(error: Exception) -> Mistake:
    """The mistake of a BadField, or of msgspec's ValidationError, without its type names and patterns."""
    cause = error if isinstance(error, BadField) else error.__cause__
    if isinstance(cause, BadField):
        return "malformed" if cause.malformed else "invalid", FieldError(cause.field, cause.reason)
    text = str(error)
    at = _path.search(text)
    path = at[1] if at else ""
    reason = text[: at.start()] if at else text
    if reason.startswith("Object ") and (named := _named.search(reason)):
        path = f"{path}.{named[1]}" if path else named[1]
        return "malformed", FieldError(path[:MAX_ECHO], _REQUIRED if "missing" in reason else _UNKNOWN)
    code = "invalid" if _out_of_range.match(reason) else "malformed"
    return code, FieldError(path[:MAX_ECHO] or "body", _explain(reason)[:MAX_ECHO])


_REQUIRED = "is required"
_UNKNOWN = "is not a field of this request"


def _explain(reason: str) -> str:
    if match := _expected_pattern(reason):
        return _PATTERN_REASONS.get(match[1], "has characters or a length that this field does not allow")
    if match := _expected_length(reason):
        return f"must have {_COMPARISONS[match[2]]} {match[3]} {'items' if match[1] == 'array' else 'characters'}"
    if match := _expected_bound(reason):
        return f"must be {_COMPARISONS[match[1]]} {match[2]}"
    if match := _expected_type(reason):
        names = [_TYPES.get(name, name) for name in match[1].split(" | ") if name != "null"]
        return f"must be {' or '.join(names) or 'null'}"
    if match := _invalid_value(reason):
        return f"must be one of the allowed values, not {match[1]}"
    return _REASONS.get(reason) or reason.replace("`", "")


def _find_structural(
    kind: type[msgspec.Struct], members: dict[str, Any], path: str, strict: bool, only: str | None = None
) -> Iterator[Mistake]:
    """The fields of wrong names, types and ranges."""
    fields = _list_fields(kind)
    tag = kind.__struct_config__.tag_field
    for name in members:
        if name not in fields and name != tag and only in (None, name):
            yield "malformed", FieldError(_join(path, name)[:MAX_ECHO], _UNKNOWN + _suggest(name, fields, members))
    for name, field in fields.items():
        if only not in (None, name):
            continue
        if name in members:
            yield from _find_in_value(field.type, members[name], _join(path, name), strict)
        elif field.required:
            yield "malformed", FieldError(_join(path, name), _REQUIRED)


@lru_cache(maxsize=256)
def _list_fields(kind: type[msgspec.Struct]) -> dict[str, msgspec.structs.FieldInfo]:
    return {field.encode_name: field for field in msgspec.structs.fields(kind)}


def _find_in_value(kind: Any, value: Any, path: str, strict: bool) -> Iterator[Mistake]:
    if _is_raw(describe_type(kind)):  # decoded later
        return
    try:
        msgspec.convert(value, kind, strict=strict)
        check_texts(kind, value)
    except (msgspec.ValidationError, BadField) as error:
        yield from _take_first(_find_in_parts(kind, value, path, strict)) or [_describe_whole(kind, value, path, error)]


def _take_first(mistakes: Iterator[Mistake]) -> list[Mistake]:
    return [*itertools.islice(mistakes, MAX_MISTAKES)]


def _find_in_parts(kind: Any, value: Any, path: str, strict: bool) -> Iterator[Mistake]:
    if isinstance(value, dict) and (struct := _find_struct(kind, value)):
        yield from _find_structural(struct, cast("dict[str, Any]", value), path, strict)
    elif isinstance(value, list):
        for number, item in enumerate(cast("list[Any]", value)):
            if isinstance(item, dict) and (struct := _find_struct(kind, item, of_items=True)):
                yield from _find_structural(struct, cast("dict[str, Any]", item), f"{path}[{number}]", strict)


def _describe_whole(kind: Any, value: Any, path: str, error: Exception) -> Mistake:
    """The mistake of a value that has no structs with mistakes of their own."""
    code, (inner, reason) = describe_error(error)
    if isinstance(error.__cause__, BadField):
        return code, FieldError(inner, reason)
    inner = "" if inner == "body" else inner
    place = f"{path}{inner}" if inner.startswith("[") else _join(path, inner) if inner else path
    if reason.startswith("must be one of") and (choices := _list_choices(kind, inner)):
        reason = f"must be one of {', '.join(choices)}"
    return code, FieldError(place[:MAX_ECHO], reason + _quote_value(path, reason, _look_up(value, inner)))


def _find_semantic(kind: type[msgspec.Struct], members: dict[str, Any], strict: bool) -> Iterator[Mistake]:
    """The values that contradict others or are out of range, which a struct's `__post_init__` finds one at a time: the
    field of each is left out to find the next."""
    members, reported = dict(members), set[str]()
    while len(reported) < MAX_MISTAKES:
        try:
            msgspec.convert(members, kind, strict=strict)
        except msgspec.ValidationError as error:
            code, (field, reason) = describe_error(error)
            if field in reported or not isinstance(error.__cause__, BadField):
                return
            reported.add(field)
            name = _find_first_name(field)
            yield code, FieldError(field, reason + _quote_value(field, reason, _look_up(members, field)))
            if members.pop(name, None) is None:
                return
        else:
            return


def _find_struct(kind: Any, value: Any, of_items: bool = False) -> type[msgspec.Struct] | None:
    """The struct that a JSON object is meant to be, or an object in an array."""
    structs = [one for one in _list_members(kind, of_items) if isinstance(one, inspect.StructType)]
    if len(structs) <= 1:
        return structs[0].cls if structs else None
    return next((one.cls for one in structs if one.tag_field and value.get(one.tag_field) == one.tag), None)


def _list_choices(kind: Any, inner: str) -> list[str]:
    """The texts of which the value at this path must be one."""
    members = _list_members(kind, inner.startswith("["))
    tags = [str(one.tag) for one in members if isinstance(one, inspect.StructType) and one.tag_field == inner]
    texts = [str(text) for one in members if isinstance(one, inspect.LiteralType) for text in one.values]
    return sorted(tags) or texts


def _is_raw(kind: inspect.Type) -> bool:
    members = (*_list_members(kind, False), *_list_members(kind, True))
    return any(isinstance(one, inspect.RawType) for one in members)


def _list_members(kind: Any, of_items: bool) -> list[inspect.Type]:
    """The members of a union type, or of its arrays' items."""
    pending: list[tuple[inspect.Type, bool]] = [
        (kind if isinstance(kind, inspect.Type) else describe_type(kind), of_items)
    ]
    found: list[inspect.Type] = []
    while pending:
        match pending.pop():
            case inspect.Metadata(type=inner), wants_items:
                pending.append((inner, wants_items))
            case inspect.UnionType(types=kinds), wants_items:
                pending.extend((one, wants_items) for one in kinds)
            case inspect.ListType(item_type=item), True:
                pending.append((item, False))
            case one, False:
                found.append(one)
            case _:
                pass
    return found


def _suggest(name: str, fields: dict[str, Any], members: dict[str, Any]) -> str:
    absent = {field.lower(): field for field in fields if field not in members}
    near = difflib.get_close_matches(name[:QUOTED].replace("_", "").lower(), absent, 1, 0.8)
    if near:
        return f"; perhaps {absent[near[0]]} is meant"
    return f"; it may have {', '.join(absent.values())}" if 0 < len(absent) <= _LISTED else ""


def _quote_value(path: str, reason: str, value: Any) -> str:
    """What was sent, as the end of a reason."""
    if not reason.startswith("must ") or value is msgspec.UNSET or path.rpartition(".")[2] in _SECRET:
        return ""
    if isinstance(value, list):
        return f", but has {len(cast('list[Any]', value))} items" if reason.startswith("must have") else ""
    if isinstance(value, dict):
        return "" if reason.startswith("must have") else ", but is an object"
    if isinstance(value, str) and (is_allowed := _CHARACTERS.get(reason)):
        is_short = len(value) <= QUOTED and value.isprintable()
        quoted = f"is {msgspec.json.encode(value).decode()}, with" if is_short else "has"
        return f", but {quoted} {find_fault(value, is_allowed)}"
    if isinstance(value, str) and (len(value) > QUOTED or not value.isprintable()):
        return f", but has {len(value)}" if reason.endswith("characters") else ""
    return f", but is {msgspec.json.encode(value).decode()[:QUOTED]}"


def _look_up(value: Any, path: str) -> Any:
    """The value at a path such as `discount.tiers[0].from`; UNSET if there is none."""
    for step in re.findall(r"[^.\[\]]+", path):
        try:
            value = value[int(step) if isinstance(value, list) else step]
        except (LookupError, TypeError, ValueError):
            return msgspec.UNSET
    return value


def _find_first_name(path: str) -> str:
    """The first name of a path."""
    return re.split(r"[.\[]", path, maxsplit=1)[0]


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name

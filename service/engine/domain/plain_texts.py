"""Refuse strings that msgspec accepts and the API does not, for decoding.py and mistakes.py: amounts not in plain
notation (`1_000`, ` 1`, `1e3`, digits of other scripts), and times as seconds since 1970 (`197`)."""

import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Any, cast

import msgspec
from msgspec import inspect

from service.engine.domain.errors import BadField
from service.engine.domain.money import MAX_DIGITS, is_plain

_odd_amount = re.compile(
    rb'"(?=["\\+\-.0-9_eE\s\x80-\xff])(?!-?[0-9]{1,50}(?:\.[0-9]{1,50})?")(?:[-+0-9._eE\s\x80-\xff]++|\\[bfnrt]|\\u[0-9a-fA-F]{4})*"'
)
"""A string that msgspec may accept as a Decimal though it is not an amount in plain notation, or is very long."""

_is_dated = re.compile(r"\d{4}-", re.ASCII).match

describe_type = lru_cache(maxsize=256)(inspect.type_info)


def check_amounts(kind: Any, body: bytes | msgspec.Raw) -> None:
    """As check_texts, of a JSON body; saves decoding it if no string in it can be such an amount."""
    if _odd_amount.search(body):
        check_texts(kind, msgspec.json.decode(body))


def check_texts(kind: Any, value: Any) -> None:
    """Raise BadField for a string of the decoded value that the API does not accept."""
    _check_texts(describe_type(kind), value, "")


@lru_cache(maxsize=256)
def amounts_of(kind: type[msgspec.Struct]) -> tuple[str, ...]:
    """The fields that are amounts, or have some."""
    return tuple(field.name for field in msgspec.structs.fields(kind) if has_amounts(field.type))


@lru_cache(maxsize=256)
def has_amounts(kind: Any) -> bool:
    """Whether the type is an amount, or has some."""
    return b'"format":"decimal"' in msgspec.json.encode(msgspec.json.schema(kind))


@lru_cache(maxsize=256)
def has_lists(kind: Any) -> bool:
    """Whether the type is a list, or has some."""
    return b'"type":"array"' in msgspec.json.encode(msgspec.json.schema(kind))


def _check_texts(kind: inspect.Type, value: Any, path: str) -> None:
    if isinstance(kind, inspect.DateTimeType):
        if isinstance(value, str) and not _is_dated(value):
            raise BadField(path, "must be a time such as 2036-11-27T00:00:00Z", malformed=True)
    elif not isinstance(kind, inspect.DecimalType):
        for part in _parts(kind, value, path):
            _check_texts(*part)
    elif isinstance(value, str):
        if not is_plain(value):
            raise BadField(path, "must be a decimal number such as 25.00", malformed=True)
        if len(value) > MAX_DIGITS:
            raise BadField(path, f"must have at most {MAX_DIGITS} characters")


@lru_cache(maxsize=256)
def _checked_fields(struct: type) -> tuple[tuple[str, inspect.Type], ...]:
    """The names and types of the fields that have times or amounts."""
    kind = describe_type(struct)
    fields = kind.fields if isinstance(kind, inspect.StructType) else ()
    return tuple((field.encode_name, field.type) for field in fields if _is_checked(field.type))


def _is_checked(kind: inspect.Type) -> bool:
    match kind:
        case inspect.DateTimeType() | inspect.DecimalType():
            return True
        case inspect.Metadata(type=inner):
            return _is_checked(inner)
        case inspect.UnionType(types=kinds):
            return any(map(_is_checked, kinds))
        case inspect.ListType(item_type=item):
            return _is_checked(item)
        case inspect.StructType(cls=struct):
            return bool(_checked_fields(struct))
        case _:
            return False


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
                for name, field_type in _checked_fields(kind.cls):
                    if name in members:
                        yield field_type, members[name], f"{path}.{name}" if path else name
        case _:
            pass

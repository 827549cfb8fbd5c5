"""The table of a book's settings: a field of BookRow has a note, as `Annotated[bool, Setting("Whether …")]`.

A setting with `words` is a switch or a count, and its row is all there is of it. From the row come its column and
parameter (service/engine/record/queries.py), its fields in requests and answers
(service/server/requests/book_requests.py), the OpenAPI document (service/server/api/field_texts.py), the console's form
(service/console/pages.py), and the text that scripts read (service/engine/formats/stored_settings.py).
"""

from collections.abc import Callable, Mapping
from functools import cache
from typing import Annotated, Any, NamedTuple, TypeVar, cast, get_args, get_origin, get_type_hints

import msgspec
from msgspec import UNSET, UnsetType

from service.engine.domain.field_types import Answer, Count

Row = type[msgspec.Struct]
T = TypeVar("T")


class Setting(NamedTuple):
    """A note at a field."""

    words: str = ""
    """What it means, for documents; none for a field that requests, answers and queries have by hand."""
    asked: str = ""
    """What documents say of it in requests alone."""
    label: str = ""
    """Its name in the console's form; none for a field that the form has by hand."""
    hint: str = ""
    """What the form says below it."""
    default: Any = None
    """Its value where a request has null, or a new book nothing. A switch is False."""
    lua: str = ""
    """Its name in Lua, if Redis stores it by name where it is not `usual`."""
    usual: Any = None
    """The value without which Redis stores nothing of it, where that isn't the default."""
    unaffected: str = ""
    """The usual texts (lua/fast/usual_*.lua) that decide the same whatever the value is, a letter each: l (lock), r
    (redeem), x (refusal of a used-up code), s (refusal of a sold-out book). The others leave a book where it is not
    usual to the general text. An earlier version reads these letters, too: never give a text one that it has learned
    to judge; such a setting gets a place of its own in stored_settings.py."""


class Field(NamedTuple):
    """A field with its note."""

    kind: Any
    """Its type without notes, such as `int | None`."""
    limits: msgspec.Meta | None
    """The bounds of a count other than Count's."""
    setting: Setting


@cache
def fields_of(row: Row) -> dict[str, Field]:
    """The fields that have a note, in their order."""
    fields: dict[str, Field] = {}
    for name, hint in get_type_hints(row, include_extras=True).items():
        kind, *notes = get_args(hint) if get_origin(hint) is Annotated else (hint,)
        for setting in (note for note in notes if isinstance(note, Setting)):
            whole = setting._replace(default=False) if kind is bool else setting
            usual = whole.default if setting.usual is None else setting.usual
            limits = next((note for note in notes if isinstance(note, msgspec.Meta)), None)
            fields[name] = Field(kind, limits, whole._replace(usual=usual))
    return fields


def described(row: Row) -> dict[str, Field]:
    """The settings with words: the switches and counts."""
    return {name: field for name, field in fields_of(row).items() if field.setting.words}


def with_settings(row: Row) -> Callable[[type[T]], type[T]]:
    """Add the row's switches and counts that it does not have yet to a request, where UNSET is absent, or an answer."""

    def add(kind: type[T]) -> type[T]:
        there = {field.name for field in msgspec.structs.fields(cast("Any", kind))}
        made: list[Any] = []
        for name, field in described(row).items():
            if name not in there:
                made.append((name, field.kind) if issubclass(kind, Answer) else (name, _asked(field), UNSET))
        return add_fields(kind, made)

    return add


def add_fields(kind: type[T], fields: list[Any], *, kw_only: bool = True) -> type[T]:
    """The struct with further fields, as defstruct takes them, after its own."""
    names = {"__doc__": kind.__doc__, "__module__": kind.__module__}
    made = msgspec.defstruct(kind.__name__, fields, bases=cast("Any", (kind,)), namespace=names, kw_only=kw_only)
    return cast("type[T]", made)


def _asked(field: Field) -> Any:
    """The type in a request."""
    limited: Any = Annotated[int, field.limits] if field.limits else Count
    optional = (bool if field.kind is bool else limited) | UnsetType | None
    return Annotated[optional, msgspec.Meta(description=field.setting.asked)] if field.setting.asked else optional


def defaults_of(row: Row) -> dict[str, Any]:
    """The defaults of switches and counts."""
    return {name: field.setting.default for name, field in described(row).items()}


def in_json(by_name: Mapping[str, T]) -> dict[str, T]:
    """The same by the names that the API's JSON has."""
    return {to_camel(name): value for name, value in by_name.items()}


def to_camel(name: str) -> str:
    first, *others = name.split("_")
    return first + "".join(map(str.capitalize, others))

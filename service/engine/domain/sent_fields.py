"""The table of fields that clients send with a redemption, and that are stored and given back: a field of RequestPart
(events.py) has a note, as `Annotated[str, Sent("Where …", example="web")]`.

Beside its column in sql/migrations/ a row is all there is of it. From the row come its fields in requests and answers,
which requests are usual (usual_requests.py), the text of COPY and the columns of queries (record/), the
OpenAPI document, the export as CSV, and what tests send and expect. Scripts don't read it: a repeated redemption
answers with what is stored, whatever the repeat sends.
"""

from collections.abc import Callable, Mapping
from typing import Annotated, Any, NamedTuple, TypeVar, get_args, get_origin, get_type_hints

import msgspec

from service.engine.domain.errors import BadField, refusal_from_field
from service.engine.domain.field_types import check_text, encode_metadata, text_schema
from service.engine.domain.settings import add_fields, to_camel

T = TypeVar("T")


class Sent(NamedTuple):
    """A note at a field."""

    words: str = ""
    """What it means, for documents; none for a field that other structs have, too."""
    most: int = 64
    """Characters of a text; bytes of an object, as JSON."""
    example: Any = None
    """Of a redemption, for documents."""
    in_checkout: bool = True
    """Whether a checkout takes it."""


class SentField(NamedTuple):
    """A field with its note."""

    is_object: bool
    """Whether it is an object in JSON; else a text."""
    sent: Sent

    @property
    def requested(self) -> Any:
        """The type in a request."""
        if self.is_object:
            return dict[str, Any] | None
        examples = [self.sent.example] if self.sent.example else None
        return Annotated[str, text_schema(1, self.sent.most, examples=examples)] | None

    @property
    def answered(self) -> Any:
        """The type in an answer."""
        return dict[str, Any] | msgspec.Raw if self.is_object else str | None

    @property
    def shown(self) -> msgspec.Raw:
        """What an answer has where nothing was sent."""
        return msgspec.Raw(b"{}" if self.is_object else b"null")

    def read_text(self, text: str) -> Any:
        """The value in RequestPart, of a column."""
        return msgspec.Raw(text.encode()) if self.is_object else text

    def write_text(self, value: Any) -> str:
        """The inverse of read_text."""
        return bytes(value).decode() if self.is_object else value

    def show_text(self, text: str | None) -> Any:
        """The value in an answer, of a column."""
        return (self.shown if text is None else msgspec.Raw(text.encode())) if self.is_object else text

    def encode(self, name: str, value: Any) -> Any:
        """The value in RequestPart, of a request; None for nothing. Raises BadField."""
        if self.is_object:
            return msgspec.Raw(encode_metadata(value, self.sent.most)) if value else None
        check_text(to_camel(name), value, 1, self.sent.most)
        return value


Table = Mapping[str, SentField]


def sent_fields(row: type[msgspec.Struct]) -> dict[str, SentField]:
    """The fields that have a note, in their order."""
    fields: dict[str, SentField] = {}
    for name, hint in get_type_hints(row, include_extras=True).items():
        kind, *notes = get_args(hint) if get_origin(hint) is Annotated else (hint,)
        for sent in (note for note in notes if isinstance(note, Sent)):
            fields[name] = SentField(kind is msgspec.Raw, sent)
    return fields


def encode_sent(table: Table, request: object) -> dict[str, Any]:
    """What the request sends of these fields, as RequestPart has it. Raises Refusal."""
    sent: dict[str, Any] = {}
    try:
        for name, field in table.items():
            if (value := field.encode(name, getattr(request, name))) is not None:
                sent[name] = value
    except BadField as bad:
        raise refusal_from_field(bad) from None
    return sent


def with_sent(table: Table) -> Callable[[type[T]], type[T]]:
    """Add the fields to a request."""
    return lambda kind: add_fields(kind, [(name, field.requested, None) for name, field in table.items()])


def with_shown(table: Table) -> Callable[[type[T]], type[T]]:
    """Add the fields to an answer."""
    return lambda kind: add_fields(kind, [(name, field.answered) for name, field in table.items()], kw_only=False)


def with_columns(table: Table) -> Callable[[type[T]], type[T]]:
    """Add the fields to a row of a query, whose last columns they are."""
    return lambda kind: add_fields(kind, [(name, str | None) for name in table], kw_only=False)

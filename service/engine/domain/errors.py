"""Errors that a client receives: anything that refuses a request raises Refusal; structs raise BadField while they are
decoded. problem_document.py renders a Refusal; FieldError's names are in its JSON, and in batch_answers.py's."""

import random
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from service.engine.domain.outcomes import BY_CODE, Outcome

QUOTED = 40
"""Characters of a value that a refusal repeats; of a longer one it may give the length."""
_DETAILED = 3
"""Bad fields in a detail; `errors` has all of them."""


_PARTS = {name: f"The {name}" for name in ("body", "query", "request")}
"""What an error is about that is of no single field."""


class FieldError(NamedTuple):
    """A bad field: its path in the request (`discount.value`), and the reason."""

    field: str
    reason: str


class Refusal(Exception):
    """A rejected request. It changed nothing, unless the code is `outcome_unknown` or `internal`. `retry_after_ms` is
    set if a later attempt may succeed."""

    def __init__(
        self, code: str, detail: str = "", errors: Sequence[FieldError] = (), retry_after_ms: int | None = None
    ) -> None:
        self.outcome: Outcome = BY_CODE[code]
        self.detail = detail or self.outcome.detail
        self.errors = tuple(errors)
        self.retry_after_ms = retry_after_ms
        self.figures: Mapping[str, Any] = {}
        """Further members of the problem document (service/engine/domain/figures.py)."""
        self.rates = ""
        """The caller's remaining limits, as make_rate_headers in service/engine/domain/limits.py reads them."""
        self.workspace = 0
        """The workspace of a caller who lacks a scope; 0 in any other refusal."""
        super().__init__(code)

    @property
    def code(self) -> str:
        """The stable code that client programs compare."""
        return self.outcome.code

    def drop_frames(self) -> "Refusal":
        """This refusal without the frames that raised it, so that the garbage collector need not walk them while many
        refusals are kept."""
        self.__context__ = None
        return self.with_traceback(None)

    @classmethod
    def temporary(cls, code: str, detail: str = "", least_ms: int = 500, most_ms: int = 2000) -> "Refusal":
        """A refusal with a random `Retry-After` between the two times, so that clients do not retry all at once."""
        return cls(code, detail, retry_after_ms=random.randint(least_ms, most_ms))  # noqa: S311, no secret


class BadField(ValueError):
    """A bad field, raised while a request is decoded: `malformed` for a wrong type or syntax, else out of range."""

    def __init__(self, field: str, reason: str, malformed: bool = False) -> None:
        self.field, self.reason, self.malformed = field, reason, malformed
        super().__init__(f"{field}: {reason}")


def invalid(field: str, reason: str) -> Refusal:
    """The Refusal of a value that is out of range or inconsistent."""
    return refuse_fields("invalid", [FieldError(field, reason)])


def malformed(field: str, reason: str) -> Refusal:
    """The Refusal of a request that can't be decoded."""
    return refuse_fields("malformed", [FieldError(field, reason)])


def refuse_fields(code: str, errors: Sequence[FieldError]) -> Refusal:
    """The Refusal of bad fields. Its detail has the first few."""
    sentences = [f"{_PARTS.get(error.field, error.field)} {error.reason}." for error in errors[:_DETAILED]]
    if len(errors) > _DETAILED:
        sentences.append(f"And {len(errors) - _DETAILED} more.")
    return Refusal(code, " ".join(sentences), errors)


def refusal_from_field(bad: BadField) -> Refusal:
    """The Refusal of a BadField that was raised after the decoding."""
    return (malformed if bad.malformed else invalid)(bad.field, bad.reason)

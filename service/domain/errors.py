"""What a client is told when a request is refused."""

import random
from collections.abc import Sequence
from typing import NamedTuple

from service.domain.outcomes import BY_CODE, BY_NUMBER, Outcome


class FieldError(NamedTuple):
    """One bad field: its path in the request's words (`discount.value`), and why."""

    field: str
    reason: str


class Refusal(Exception):
    """A request that changed nothing; `retry_after_ms` where waiting helps."""

    def __init__(
        self,
        code: str,
        detail: str = "",
        errors: Sequence[FieldError] = (),
        retry_after_ms: int | None = None,
    ) -> None:
        self.outcome: Outcome = BY_CODE[code]
        self.detail = detail or self.outcome.sentence
        self.errors = tuple(errors)
        self.retry_after_ms = retry_after_ms
        self.rates = ""
        """What is left of the caller's limits, as service/domain/limits.py reads it."""
        super().__init__(code)

    @property
    def code(self) -> str:
        """The stable code, for programs."""
        return self.outcome.code

    @classmethod
    def passing(cls, code: str, detail: str = "", least_ms: int = 500, most_ms: int = 2000) -> "Refusal":
        """A refusal that time mends, with a moment to come back at: drawn, so that not all come back at once."""
        return cls(code, detail, retry_after_ms=random.randint(least_ms, most_ms))  # noqa: S311, no secret

    @classmethod
    def by_number(cls, number: int, retry_after_ms: int | None = None) -> "Refusal":
        """The refusal that a script named."""
        code = BY_NUMBER[number].code
        if code == "invalid":  # the one value that only a script can judge: it knows the currency
            return invalid(
                "orderValue", "has more digits after the point than its currency, or an item's unitPrice has"
            )
        if retry_after_ms is None and BY_NUMBER[number].status == 503:
            return cls.passing(code)
        return cls(code, retry_after_ms=retry_after_ms)


class BadField(ValueError):
    """Raised while a request is decoded: a field that is readable but senseless, or (malformed) not readable."""

    def __init__(self, field: str, reason: str, malformed: bool = False) -> None:
        self.field, self.reason, self.malformed = field, reason, malformed
        super().__init__(f"{field}: {reason}")


def invalid(field: str, reason: str) -> Refusal:
    """A readable request with a value out of range."""
    return Refusal("invalid", f"{field}: {reason}", [FieldError(field, reason)])


def malformed(field: str, reason: str) -> Refusal:
    """A request, or a part of it, that can't be read."""
    return Refusal("malformed", f"{field}: {reason}", [FieldError(field, reason)])

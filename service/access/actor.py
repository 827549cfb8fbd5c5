"""Who acts, as the audit tells it: known where a request is admitted, needed where a change is written."""

from contextvars import ContextVar
from typing import Literal, NamedTuple
from uuid import UUID

SHOWN_OF_CODES = 4
"""A code is masked to its last quarter, and at most so much."""


class Actor(NamedTuple):
    """Who acts, and from where."""

    kind: Literal["key", "command", "service"] = "service"
    key_id: UUID | None = None
    ip: str | None = None
    user_agent: str | None = None
    request_id: str | None = None


acting: ContextVar[Actor] = ContextVar("acting", default=Actor())  # noqa: B039, it can't change
"""A task that a request starts acts for it."""


def masked(code: str) -> str:
    """What may be kept or logged of a code, or of whose it is, beside the thing itself."""
    return "…" + code[len(code) - min(SHOWN_OF_CODES, len(code) // 4) :]

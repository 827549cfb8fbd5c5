"""The actor of a request: set where the request is authenticated, read where the audit log records a change."""

from contextvars import ContextVar
from typing import Literal, NamedTuple
from uuid import UUID

UNMASKED_CHARACTERS = 4
"""A masked code shows its last quarter, at most this many characters."""


class Actor(NamedTuple):
    """The key, command or service that makes a change, and the client's address."""

    kind: Literal["key", "command", "service"] = "service"
    key_id: UUID | None = None
    ip: str | None = None
    user_agent: str | None = None
    request_id: str | None = None


current_actor: ContextVar[Actor] = ContextVar("current_actor", default=Actor())  # noqa: B039, it can't change
"""Tasks that a request starts inherit its actor."""


def mask(code: str) -> str:
    """The part of a code, a user id or a key that may be logged: `…` and its last characters."""
    return "…" + code[len(code) - min(UNMASKED_CHARACTERS, len(code) // 4) :]

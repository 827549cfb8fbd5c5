"""The actor of a request: auth.py, commands and surplus_carrier.py set it, audit_log.py reads it when it records a
change. `mask` also cuts codes for logs; the audit in Postgres keeps masked codes and is searched by them: it must not
change."""

from contextvars import ContextVar
from typing import Literal, NamedTuple
from uuid import UUID

UNMASKED_CHARACTERS = 4
"""A masked code shows its last quarter, at most this many characters."""


ActorKind = Literal["key", "person", "command", "service"]


class Actor(NamedTuple):
    """The key, person, command or service that makes a change, and the client's address."""

    kind: ActorKind = "service"
    key_id: UUID | None = None
    person: str | None = None
    """As Caller.person."""
    ip: str | None = None
    user_agent: str | None = None
    request_id: str | None = None


current_actor: ContextVar[Actor] = ContextVar("current_actor", default=Actor())  # noqa: B039, it can't change
"""Tasks that a request starts inherit its actor."""


def mask(code: str) -> str:
    """The part of a code, a user id or a key that may be logged: `…` and its last characters."""
    return "…" + code[len(code) - min(UNMASKED_CHARACTERS, len(code) // 4) :]

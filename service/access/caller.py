"""Who asks: a credential's workspace and what it may do."""

from dataclasses import dataclass, field
from uuid import UUID

from service.domain.errors import Refusal
from service.domain.limits import public_words
from service.formats import key_names

SCOPES = ("public", "checkout", "manage", "operate")
"""None implies another."""


@dataclass(frozen=True, slots=True)
class Caller:
    """A credential, as every process keeps it in memory."""

    key_id: UUID | None
    """None for a user's token."""
    workspace: int
    workspace_id: UUID
    partition: int
    mode: str
    scopes: frozenset[str]
    expires_ms: int | None = None
    user: str | None = None
    """Whom a user's token is for: it may do nothing for anybody else."""
    limits: str = ""
    """What limits its requests, as service/domain/limits.py has it; '' for nothing."""
    prefix: str = field(init=False)
    gate: str = field(init=False)
    outbox: str = field(init=False)
    keys: key_names.WorkspaceKeys = field(init=False)
    is_told: bool = field(init=False)
    """Whether it hears why a coupon can't be used; one with the scope `public` alone doesn't."""
    holder: str = field(init=False)
    """Whose counters its requests and locks are on: the key's, or a user's of a token."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "prefix", key_names.prefix(self.partition, self.workspace))
        object.__setattr__(self, "gate", key_names.gate(self.partition))
        object.__setattr__(self, "outbox", key_names.outbox(self.partition))
        object.__setattr__(self, "keys", key_names.of_workspace(self.prefix))
        object.__setattr__(self, "is_told", not self.scopes.isdisjoint(("checkout", "user")))
        object.__setattr__(self, "holder", _holder_of(self))
        if not self.is_told and "public" in self.scopes:
            object.__setattr__(self, "limits", public_words(self.limits))


def own_user(caller: Caller, asked: str | None) -> str | None:
    """The user that a request is about: whom it names, or whom the caller's token is for. Refusal `forbidden` where it
    names another."""
    if caller.user is None or asked == caller.user:
        return asked
    if asked is not None:
        raise Refusal("forbidden", "A user's token is for that user alone.")
    return caller.user


def _holder_of(caller: Caller) -> str:
    """In digits and capitals. Users share as many counters as there are buckets, which bounds them."""
    if caller.user is not None:
        return f"U{key_names.bucket(caller.user)}"
    return "" if caller.key_id is None else caller.key_id.hex.upper()

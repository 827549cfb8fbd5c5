"""The caller of a request: the workspace and the scopes of its credential. key_rows.py, console_sessions.py,
user_tokens.py and jobs make it; all operations read it. Postgres keeps the names of SCOPES; keys.py and keys.js repeat
them. `limit_key` is in the names of Redis's counters."""

from collections.abc import Collection
from dataclasses import dataclass, field
from uuid import UUID

from service.engine.domain.errors import Refusal
from service.engine.domain.limits import encode_public_limits
from service.engine.formats import key_names

SCOPES = ("public", "checkout", "manage", "operate")
"""No scope implies another scope."""
_ROLES = (*SCOPES, "user")
"""A role's place is its bit of an account. Only this process reads accounts, so the order may change."""


@dataclass(frozen=True, slots=True)
class Caller:
    """A key, console session or user token, as each process stores it in memory."""

    key_id: UUID | None
    """None for a user token, a person or a job."""
    workspace: int
    workspace_id: UUID
    partition: int
    mode: str
    scopes: frozenset[str]
    expires_ms: int | None = None
    user: str | None = None
    """The user of a user token; the token may act for this user only. None for other credentials."""
    person: str | None = None
    """The person of a console session: an e-mail address or another name, unique at its provider (people.py)."""
    limits: str = ""
    """The limits of its requests, in the form of encode_key_limits (limits.py); '' for no limits. A
    `public` credential without `checkout` gets encode_public_limits."""
    is_suspended: bool = False
    """Whether its workspace is suspended: then it has no scopes."""
    account: int = field(init=False)
    """Workspace and roles as one number, by which requests are counted (read_account)."""
    prefix: str = field(init=False)
    gate: str = field(init=False)
    outbox: str = field(init=False)
    """`prefix` begins the workspace's keys in Redis; `gate` and `outbox` are keys of its partition."""
    keys: key_names.WorkspaceKeys = field(init=False)
    sees_reasons: bool = field(init=False)
    """Whether a validate says why a coupon can't be used: with the scope `checkout` or `user`."""
    limit_key: str = field(init=False)
    """Names the counters of its requests and locks: the key id, or the bucket of the token's user or of the person."""

    def __post_init__(self) -> None:
        if self.is_suspended:
            object.__setattr__(self, "scopes", frozenset())
        object.__setattr__(self, "account", make_account(self.workspace, self.scopes))
        object.__setattr__(self, "prefix", key_names.prefix(self.partition, self.workspace))
        object.__setattr__(self, "gate", key_names.gate(self.partition))
        object.__setattr__(self, "outbox", key_names.outbox(self.partition))
        object.__setattr__(self, "keys", key_names.of_workspace(self.prefix))
        object.__setattr__(self, "sees_reasons", not self.scopes.isdisjoint(("checkout", "user")))
        object.__setattr__(self, "limit_key", _make_limit_key(self))
        if not self.sees_reasons and "public" in self.scopes:
            object.__setattr__(self, "limits", encode_public_limits(self.limits))


def make_account(workspace: int, roles: Collection[str]) -> int:
    return workspace << len(_ROLES) | sum(1 << place for place, role in enumerate(_ROLES) if role in roles)


def read_account(account: int) -> tuple[int, list[str]]:
    """The workspace and the roles of an account."""
    return account >> len(_ROLES), [role for place, role in enumerate(_ROLES) if account >> place & 1]


def resolve_user(caller: Caller, user: str | None) -> str | None:
    """The user that a request is about: the one that it names, else the user of the caller's token. Raises Refusal
    `forbidden` if the request names another user than the token."""
    if caller.user is None or user == caller.user:
        return user
    if user is not None:
        raise Refusal("forbidden", "A user token is valid for its own user only.")
    return caller.user


def _make_limit_key(caller: Caller) -> str:
    """Digits and capital letters. Users, or people, of one bucket share a counter, which bounds their number."""
    if caller.user is not None:
        return f"U{key_names.bucket(caller.user)}"
    if caller.person is not None:
        return f"P{key_names.bucket(caller.person)}"
    return "" if caller.key_id is None else caller.key_id.hex.upper()

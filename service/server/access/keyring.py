"""Authenticate by API key, console session or user token, from memory: no request waits for Postgres.

auth.py and the fast lane call this; wiring.py looks for changed keys five times a second, and at a message of a change.
Postgres keeps the digests of keys and sessions: they must not change.
"""

import hashlib
import time
from collections.abc import Collection
from typing import NamedTuple
from uuid import UUID

from service.engine.domain.errors import Refusal
from service.engine.operations.caller import SCOPES, Caller
from service.engine.record.processes import MAX_AGE_S
from service.server.access.user_tokens import Tokens

MAX_ENTRIES = 1024
"""Of the cache of headers, and of the counts of rejections."""
_SEND_KEY = "Send a valid API key or token as `Authorization: Bearer …`."
_NO_KEY = "The API key in `Authorization` does not exist, has expired, or was revoked."
_NO_SESSION = "The console session has ended, or its key was revoked. Sign in again."
_NEW_KEY = "Copy it again, or create a key with `scrip keys create` or on the console's page Keys."


def digest_session_secret(secret: str) -> bytes:
    """The stored digest of a console session's secret. The prefix keeps it apart from the digests of keys."""
    return hashlib.sha256(b"session " + secret.encode("utf-8", "replace")).digest()


class RejectionCount(NamedTuple):
    """The number of rejected requests of one known key, or of one unknown credential (by its digest). Of user
    tokens, of requests without a credential, and beyond MAX_ENTRIES, it has neither."""

    workspace: int | None
    key_id: UUID | None
    digest: bytes | None
    code: str
    times: int


class Keyring:
    """All live keys and sessions, by the hash of their secret."""

    def __init__(self) -> None:
        self.tokens = Tokens()
        self._outdated_at_s = 0.0
        self._rejections: dict[tuple[int | None, UUID | None, bytes | None, str], int] = {}
        self._callers: dict[bytes, Caller] = {}
        self._by_header: dict[str, Caller] = {}
        """A cache that saves the hash and the clock (2 µs). take_uses empties it. No caller in it expires."""
        self._used_ms: dict[UUID, int] = {}

    def replace(self, callers: dict[bytes, Caller], workspaces: Collection[int] | None = None) -> None:
        """Replace all keys and sessions, or those of these workspaces."""
        if workspaces is not None:
            others = {key: caller for key, caller in self._callers.items() if caller.workspace not in workspaces}
            callers = others | callers
        self._callers = callers
        self._by_header = {}

    def confirm(self, read_at_s: float) -> None:
        """Store that Postgres had these keys and sessions at this time, by time.monotonic."""
        self._outdated_at_s = read_at_s + MAX_AGE_S

    def is_outdated(self, now_s: float) -> bool:
        """Whether the keys and sessions were confirmed too long ago, or never."""
        return now_s > self._outdated_at_s

    def authenticate(self, authorization: str, roles: tuple[str, ...], now_s: float) -> Caller:
        """The caller of an `Authorization` header, at this time by time.monotonic. Raises Refusal `unauthenticated`,
        `workspace_suspended`, `forbidden` if the caller has none of the roles, `keys_outdated`, or as
        Tokens.authenticate does."""
        if now_s > self._outdated_at_s:
            raise _refuse_outdated()
        caller = self._by_header.get(authorization) or self._find_by_header(authorization)
        if caller.scopes.isdisjoint(roles):
            raise self._forbid(caller, roles)
        return caller

    def authenticate_session(self, secret: str, roles: tuple[str, ...], now_s: float) -> Caller:
        """The caller of a console session. Raises Refusal as authenticate does."""
        if now_s > self._outdated_at_s:
            raise _refuse_outdated()
        caller = self._find_live(digest_session_secret(secret), _NO_SESSION)
        if caller.scopes.isdisjoint(roles):
            raise self._forbid(caller, roles)
        return caller

    def take_rejections(self) -> list[RejectionCount]:
        """The rejections since the last call, counted."""
        rejections, self._rejections = self._rejections, {}
        return [RejectionCount(*source, times) for source, times in rejections.items()]

    def take_uses(self) -> dict[UUID, int]:
        """The keys used since the last call, each with the time of a use in ms since 1970."""
        used, self._used_ms = self._used_ms, {}
        self._by_header = {}
        return used

    def _find_by_header(self, authorization: str) -> Caller:
        scheme, _, secret = authorization.partition(" ")
        if scheme.lower() != "bearer":
            self._count_rejection(None, None, None, "unauthenticated")
            missing = "does not begin with `Bearer`" if authorization else "is missing"
            raise Refusal("unauthenticated", f"The header `Authorization` {missing}. {_SEND_KEY}")
        if secret.count(".") == 2:  # no key has a dot
            try:
                return self.tokens.authenticate(secret.strip())
            except Refusal as refusal:
                self._count_rejection(None, None, None, refusal.code)
                raise
        digest = hashlib.sha256(secret.strip().encode("utf-8", "replace")).digest()
        caller = self._find_live(digest, f"{_NO_KEY} {_NEW_KEY}")
        if caller.expires_ms is None:
            if len(self._by_header) >= MAX_ENTRIES:
                self._by_header.clear()
            self._by_header[authorization] = caller
        return caller

    def _find_live(self, digest: bytes, refusal: str) -> Caller:
        caller = self._callers.get(digest)
        now_ms = int(time.time() * 1000)
        if caller is None or (caller.expires_ms is not None and caller.expires_ms <= now_ms):
            self._count_rejection(None, None, digest, "unauthenticated")
            raise Refusal("unauthenticated", refusal)
        if caller.key_id is not None:
            self._used_ms[caller.key_id] = now_ms
        return caller

    def _forbid(self, caller: Caller, roles: tuple[str, ...]) -> Refusal:
        code = "workspace_suspended" if caller.is_suspended else "forbidden"
        self._count_rejection(caller.workspace, caller.key_id, None, code)
        if caller.is_suspended:
            return Refusal(code)
        scopes = " or ".join(role for role in roles if role in SCOPES)
        own = f"has {', '.join(sorted(caller.scopes))}"
        if caller.person is not None:
            detail = f"This request needs the scope {scopes}; your role {own}."
        else:
            own = f"this one {own}" if caller.user is None else "a user token has no scopes"
            detail = f"This request needs an API key with the scope {scopes}; {own}. Send such a key."
        refusal = Refusal("forbidden", detail)
        refusal.workspace = caller.workspace
        return refusal

    def _count_rejection(self, workspace: int | None, key_id: UUID | None, digest: bytes | None, code: str) -> None:
        source = (workspace, key_id, digest, code)
        if source not in self._rejections and len(self._rejections) >= MAX_ENTRIES:
            source = (None, None, None, code)
        self._rejections[source] = self._rejections.get(source, 0) + 1


def _refuse_outdated() -> Refusal:
    return Refusal.temporary("keys_outdated", least_ms=1000, most_ms=3000)

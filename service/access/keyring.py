"""Who asks: API keys, kept in memory and asked for again five times a second, so that no request waits for Postgres."""

import hashlib
import time
from typing import NamedTuple, NoReturn
from uuid import UUID

from service.access.caller import SCOPES, Caller
from service.access.user_tokens import Tokens
from service.domain.errors import Refusal

MAX_KNOWN = 1024


def session_digest(secret: str) -> bytes:
    """What is kept of a console session's secret; none of a key's digests, so that neither passes for the other."""
    return hashlib.sha256(b"session " + secret.encode("utf-8", "replace")).digest()


class Refused(NamedTuple):
    """How often was refused what somebody asked: a key's bearer, or one who sent what has this digest."""

    workspace: int | None
    key_id: UUID | None
    digest: bytes | None
    code: str
    times: int


class Keyring:
    """All keys and sessions that are live, by the hash of their secret."""

    def __init__(self) -> None:
        self.tokens = Tokens()
        self._refused: dict[tuple[int | None, UUID | None, bytes | None, str], int] = {}
        self._callers: dict[bytes, Caller] = {}
        self._known: dict[str, Caller] = {}
        """By the header that named them since `used` was asked: no hash, no clock (2 µs). None that has an end."""
        self._used_ms: dict[UUID, int] = {}

    def replace(self, callers: dict[bytes, Caller]) -> None:
        """Take these keys and sessions and no others from now on."""
        self._callers = callers
        self._known = {}

    def authenticated(self, authorization: str, roles: tuple[str, ...]) -> Caller:
        """Whom the header's value names. Refusal `unauthenticated`, or `forbidden` where the key has none of the
        roles."""
        found = self._known.get(authorization) or self._find(authorization)
        return found if not found.scopes.isdisjoint(roles) else self._forbidden(found, roles)

    def in_session(self, secret: str, roles: tuple[str, ...]) -> Caller:
        """Whom a console session's secret names; refuses as authenticated does."""
        found = self._live(session_digest(secret))
        return found if not found.scopes.isdisjoint(roles) else self._forbidden(found, roles)

    def refused(self) -> list["Refused"]:
        """What was refused since this was asked before."""
        refused, self._refused = self._refused, {}
        return [Refused(*whose, count) for whose, count in refused.items()]

    def used(self) -> dict[UUID, int]:
        """When keys were used first since this was asked before, in ms since 1970."""
        used, self._used_ms = self._used_ms, {}
        self._known = {}
        return used

    def _find(self, authorization: str) -> Caller:
        scheme, _, secret = authorization.partition(" ")
        if scheme.lower() != "bearer":
            self._count(None, None, None, "unauthenticated")
            raise Refusal("unauthenticated")
        if secret.count(".") == 2:  # no key has a dot
            try:
                return self.tokens.find(secret.strip())
            except Refusal as refusal:
                self._count(None, None, None, refusal.code)
                raise
        caller = self._live(hashlib.sha256(secret.strip().encode("utf-8", "replace")).digest())
        if caller.expires_ms is None:
            if len(self._known) >= MAX_KNOWN:
                self._known.clear()
            self._known[authorization] = caller
        return caller

    def _live(self, digest: bytes) -> Caller:
        caller = self._callers.get(digest)
        now_ms = int(time.time() * 1000)
        if caller is None or (caller.expires_ms is not None and caller.expires_ms <= now_ms):
            self._count(None, None, digest, "unauthenticated")
            raise Refusal("unauthenticated")
        if caller.key_id is not None:
            self._used_ms[caller.key_id] = now_ms
        return caller

    def _forbidden(self, caller: Caller, roles: tuple[str, ...]) -> NoReturn:
        self._count(caller.workspace, caller.key_id, None, "forbidden")
        scopes = " or ".join(role for role in roles if role in SCOPES)
        raise Refusal("forbidden", f"This takes a key with the scope {scopes}.")

    def _count(self, workspace: int | None, key_id: UUID | None, digest: bytes | None, code: str) -> None:
        whose = (workspace, key_id, digest, code)
        if whose not in self._refused and len(self._refused) >= MAX_KNOWN:
            whose = (None, None, None, code)
        self._refused[whose] = self._refused.get(whose, 0) + 1

"""Who asks: API keys, kept in memory and asked for again five times a second, so that no request waits for Postgres."""

import hashlib
import time
from typing import NoReturn
from uuid import UUID

from service.domain.errors import Refusal
from service.domain.identity import SCOPES, Caller
from service.domain.tokens import Tokens

MAX_KNOWN = 1024


def session_digest(secret: str) -> bytes:
    """What is kept of a console session's secret; none of a key's digests, so that neither passes for the other."""
    return hashlib.sha256(b"session " + secret.encode("utf-8", "replace")).digest()


class Keyring:
    """All keys and sessions that are live, by the hash of their secret."""

    def __init__(self) -> None:
        self.tokens = Tokens()
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
        return found if not found.scopes.isdisjoint(roles) else _forbidden(roles)

    def in_session(self, secret: str, roles: tuple[str, ...]) -> Caller:
        """Whom a console session's secret names; refuses as authenticated does."""
        found = self._live(session_digest(secret))
        return found if not found.scopes.isdisjoint(roles) else _forbidden(roles)

    def used(self) -> dict[UUID, int]:
        """When keys were used first since this was asked before, in ms since 1970."""
        used, self._used_ms = self._used_ms, {}
        self._known = {}
        return used

    def _find(self, authorization: str) -> Caller:
        scheme, _, secret = authorization.partition(" ")
        if scheme.lower() != "bearer":
            raise Refusal("unauthenticated")
        if secret.count(".") == 2:  # no key has a dot
            return self.tokens.find(secret.strip())
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
            raise Refusal("unauthenticated")
        if caller.key_id is not None:
            self._used_ms[caller.key_id] = now_ms
        return caller


def _forbidden(roles: tuple[str, ...]) -> NoReturn:
    scopes = " or ".join(role for role in roles if role in SCOPES)
    raise Refusal("forbidden", f"This takes a key with the scope {scopes}.")

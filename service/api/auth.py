"""Who asks: API keys, kept in memory and asked for again twice a second, so that no request waits for Postgres."""

import hashlib
import time
from typing import Any
from uuid import UUID

from litestar import Request

from service.domain.errors import Refusal
from service.domain.identity import Caller


class Keyring:
    """All keys that are live, by the hash of their secret."""

    def __init__(self) -> None:
        self._callers: dict[bytes, Caller] = {}
        self._used_ms: dict[UUID, int] = {}

    def replace(self, callers: dict[bytes, Caller]) -> None:
        """Take these keys and no others from now on."""
        self._callers = callers

    def find(self, secret: str) -> Caller | None:
        """The key's owner; None where it is unknown, revoked or past its end."""
        caller = self._callers.get(hashlib.sha256(secret.encode("utf-8", "replace")).digest())
        if caller is None:
            return None
        now_ms = int(time.time() * 1000)
        if caller.expires_ms is not None and caller.expires_ms <= now_ms:
            return None
        self._used_ms[caller.key_id] = now_ms
        return caller

    def used(self) -> dict[UUID, int]:
        """When keys were used last, in ms since 1970; those that were since this was asked before."""
        used, self._used_ms = self._used_ms, {}
        return used


def caller(request: Request[Any, Any, Any], *scopes: str) -> Caller:
    """Who asks. Refusal `unauthenticated`, or `forbidden` where the key has none of the scopes."""
    return authenticated(request, request.headers.get("authorization", ""), scopes)


def authenticated(request: Request[Any, Any, Any], authorization: str, scopes: tuple[str, ...]) -> Caller:
    """As caller, with the header's value at hand."""
    scheme, _, secret = authorization.partition(" ")
    found = request.app.state.context.keyring.find(secret.strip()) if scheme.lower() == "bearer" else None
    if found is None:
        raise Refusal("unauthenticated")
    if found.scopes.isdisjoint(scopes):
        raise Refusal("forbidden", f"This takes a key with the scope {' or '.join(scopes)}.")
    return found

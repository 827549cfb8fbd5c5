"""Who asks: a key in the header, or a console session in a cookie."""

import hashlib
import hmac
from typing import Any
from urllib.parse import urlsplit

from litestar import Request

from service.domain.errors import Refusal
from service.domain.identity import Caller

SESSION_COOKIE = "scrip_session"
CSRF_HEADER = "X-CSRF-Token"
_SAFE = frozenset(("GET", "HEAD", "OPTIONS"))


def caller(request: Request[Any, Any, Any], *scopes: str) -> Caller:
    """Who asks. Refusal `unauthenticated`, or `forbidden` where the key has none of the scopes."""
    return authenticated(request, request.headers.get("authorization", ""), scopes)


def authenticated(request: Request[Any, Any, Any], authorization: str, scopes: tuple[str, ...]) -> Caller:
    """As caller, with the header's value at hand. The header goes before a session."""
    keyring = request.app.state.context.keyring
    if not authorization and (secret := request.cookies.get(SESSION_COOKIE)):
        found = keyring.in_session(secret, scopes)
        if request.scope["method"] not in _SAFE:
            check_origin(request)
            if not hmac.compare_digest(request.headers.get(CSRF_HEADER, "").encode(), csrf_token(secret).encode()):
                raise Refusal("forbidden", f"A session's changes need its token in {CSRF_HEADER}.")
        return found
    return keyring.authenticated(authorization, scopes)


def csrf_token(secret: str) -> str:
    """What a session's own pages send along with each change, and no other site can know."""
    return hashlib.sha256(b"csrf " + secret.encode("utf-8", "replace")).hexdigest()


def check_origin(request: Request[Any, Any, Any]) -> None:
    """Refusal `forbidden` where the request comes from a page of another site, or of none."""
    if urlsplit(request.headers.get("origin", "")).netloc != request.headers.get("host"):
        raise Refusal("forbidden", "This is for pages of this site alone.")

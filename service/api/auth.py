"""Who asks, by a key in the header or a console session in a cookie, and whether he may: judged before any handler."""

import hashlib
import hmac
from typing import Any, cast
from urllib.parse import urlsplit

from litestar import Request
from litestar.connection import ASGIConnection
from litestar.handlers import BaseRouteHandler

from service.access.actor import Actor, current_actor
from service.access.caller import Caller
from service.api.request_limits import count
from service.domain.errors import Refusal
from service.operations.call_headers import shown_agent

OPEN = {"open": True}
"""A handler's or router's `opt` where anybody may ask. All others name roles (documented.py), or answer nobody."""
SESSION_COOKIE = "scrip_session"
CSRF_HEADER = "X-CSRF-Token"
_SAFE = frozenset(("GET", "HEAD", "OPTIONS"))


async def admit(connection: ASGIConnection[Any, Any, Any, Any], handler: BaseRouteHandler) -> None:
    """Refusal `unauthenticated`, or `forbidden` where the caller has none of the roles that the handler takes."""
    if handler.opt.get("open"):
        return
    roles = handler.opt.get("roles")
    if roles is None:
        raise Refusal("forbidden")
    request = cast("Request[Any, Any, Any]", connection)
    who = connection.scope["state"]["caller"] = authenticate(request, roles)
    act_for(request, who)
    if who.limits and not handler.opt.get("counted"):
        await count(request, who)


def act_for(request: Request[Any, Any, Any], who: Caller) -> None:
    """Let the audit know who asks, and from where."""
    if who.key_id is not None:
        client, agent = request.scope.get("client"), request.headers.get("user-agent")
        request_id = request.scope["state"].get("request_id")
        address = client[0] if client else None
        current_actor.set(Actor("key", who.key_id, address, shown_agent(agent) if agent else None, request_id))


def caller(request: Request[Any, Any, Any]) -> Caller:
    """Who was admitted."""
    return request.scope["state"]["caller"]


def authenticate(request: Request[Any, Any, Any], roles: tuple[str, ...]) -> Caller:
    """Who asks; refuses as admit does. The header goes before a session."""
    keyring = request.app.state.context.keyring
    authorization = request.headers.get("authorization", "")
    if not authorization and (secret := request.cookies.get(SESSION_COOKIE)):
        found = keyring.authenticate_session(secret, roles)
        if request.scope["method"] not in _SAFE:
            check_origin(request)
            if not hmac.compare_digest(request.headers.get(CSRF_HEADER, "").encode(), csrf_token(secret).encode()):
                raise Refusal("forbidden", f"A session's changes need its token in {CSRF_HEADER}.")
        return found
    return keyring.authenticate(authorization, roles)


def csrf_token(secret: str) -> str:
    """What a session's own pages send along with each change, and no other site can know."""
    return hashlib.sha256(b"csrf " + secret.encode("utf-8", "replace")).hexdigest()


def check_origin(request: Request[Any, Any, Any]) -> None:
    """Refusal `forbidden` where the request comes from a page of another site, or of none."""
    if urlsplit(request.headers.get("origin", "")).netloc != request.headers.get("host"):
        raise Refusal("forbidden", "This is for pages of this site alone.")

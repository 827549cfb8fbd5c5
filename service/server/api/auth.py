"""Authentication and authorization, before any handler: by a key or token in the header, or a console session. app.py
makes `admit` the guard of all routes; session.py authenticates by itself. The console's api.js sends CSRF_HEADER."""

import hashlib
import hmac
from datetime import timedelta
from typing import Any, cast
from urllib.parse import urlsplit
from uuid import UUID

from litestar import Request
from litestar.connection import ASGIConnection
from litestar.datastructures import Cookie
from litestar.handlers import BaseRouteHandler

from service.common.config import is_loopback
from service.engine.domain.errors import Refusal
from service.engine.operations.call_headers import clean_user_agent
from service.engine.operations.caller import Caller
from service.engine.record.actor import Actor, ActorKind, current_actor
from service.engine.record.shared_pool import current_workspace
from service.server.answers.accounting import now_s
from service.server.api.request_limits import count_request
from service.server.in_postgres.console_sessions import LIFE
from service.server.requests.cookies import read_cookie

OPEN = {"open": True}
"""The `opt` of handlers and routers that need no credentials. A handler without it and without roles (documented.py)
rejects every request."""
FOR_OPERATORS = {"roles": ("manage", "operate")}
FOR_MANAGERS = {"roles": ("manage",)}
"""The `opt` of the console's handlers, which are not in the OpenAPI document and so have no operation id with roles."""
SESSION_COOKIE = "scrip_session"
CSRF_HEADER = "X-CSRF-Token"
_UNLIMITED = ("operate",)
"""The roles of requests that no limit refuses: else a limit that is too low would refuse the request that lifts it."""
_SAFE = frozenset(("GET", "HEAD", "OPTIONS"))


async def admit(connection: ASGIConnection[Any, Any, Any, Any], handler: BaseRouteHandler) -> None:
    """Put the caller into the request's state. Raises Refusal as Keyring.authenticate does, and `rate_limited`."""
    if handler.opt.get("open"):
        return
    roles = handler.opt.get("roles")
    if roles is None:
        raise Refusal("forbidden")
    request = cast("Request[Any, Any, Any]", connection)
    state = connection.scope["state"]
    caller = state["caller"] = authenticate(request, roles)
    if admit_connection := state.get("admit_connection"):
        admit_connection(caller)
    current_workspace.set(caller.workspace)
    set_actor(request, caller)
    if caller.limits and not handler.opt.get("counted") and roles != _UNLIMITED:
        await count_request(request, caller)


def set_actor(request: Request[Any, Any, Any], caller: Caller) -> None:
    """Set the caller as the actor that the audit log records; not a user's token, which changes nothing audited."""
    if caller.person is not None:
        set_origin(request, "person", person=caller.person)
    elif caller.key_id is not None:
        set_origin(request, "key", caller.key_id)


def set_origin(
    request: Request[Any, Any, Any], kind: ActorKind, key_id: UUID | None = None, person: str | None = None
) -> None:
    """Set the actor, with the address, the user agent and the id of the request."""
    client, agent = request.scope.get("client"), request.headers.get("user-agent")
    request_id = request.scope["state"].get("request_id")
    address = client[0] if client else None
    current_actor.set(Actor(kind, key_id, person, address, clean_user_agent(agent) if agent else None, request_id))


def is_session(request: Request[Any, Any, Any]) -> bool:
    """Whether an authenticated request is of a console session."""
    return not request.headers.get("authorization")


def get_caller(request: Request[Any, Any, Any]) -> Caller:
    """The caller that admit authenticated."""
    return request.scope["state"]["caller"]


def authenticate(request: Request[Any, Any, Any], roles: tuple[str, ...]) -> Caller:
    """The caller of a request; a header takes precedence over a session. Raises Refusal as Keyring.authenticate does,
    and `forbidden` for a change by a session without its CSRF token."""
    keyring = request.app.state.context.keyring
    authorization = request.headers.get("authorization", "")
    if not authorization and (secret := read_cookie(request, SESSION_COOKIE)):
        caller = keyring.authenticate_session(secret, roles, now_s())
        if request.scope["method"] not in _SAFE:
            check_origin(request)
            if not hmac.compare_digest(request.headers.get(CSRF_HEADER, "").encode(), csrf_token(secret).encode()):
                raise Refusal("forbidden", f"Send the session's CSRF token in the header {CSRF_HEADER}.")
        return caller
    return keyring.authenticate(authorization, roles, now_s())


def session_cookie(request: Request[Any, Any, Any], secret: str, max_age: int = LIFE // timedelta(seconds=1)) -> Cookie:
    """The cookie of a console session: for this host alone, hidden from scripts, and not sent by other sites' pages."""
    is_secure = has_tls(request)
    return Cookie(SESSION_COOKIE, "/", secret, max_age=max_age, secure=is_secure, httponly=True, samesite="strict")


def has_tls(request: Request[Any, Any, Any]) -> bool:
    """Whether browsers reach the service by TLS: always, unless its host is this machine."""
    host = urlsplit(f"//{request.headers.get('host', '')}").hostname or ""
    return not is_loopback(host)


def csrf_token(secret: str) -> str:
    """The CSRF token of a session: the console's pages send it with each change, other sites can't obtain it."""
    return hashlib.sha256(b"csrf " + secret.encode("utf-8", "replace")).hexdigest()


def check_origin(request: Request[Any, Any, Any]) -> None:
    """Raise Refusal `forbidden` unless the `Origin` header names this site."""
    if urlsplit(request.headers.get("origin", "")).netloc != request.headers.get("host"):
        raise Refusal("forbidden", "Only pages of this site may send this request.")

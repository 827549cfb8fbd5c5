"""Middleware of all Litestar requests: request id, client address, CORS and safety headers, accounting. server.py wraps
the application in it; the fast lane does the same for its requests."""

from typing import Any

from litestar.types import ASGIApp, HTTPScope, Message, Receive, Scope, Send

from service.common.forwarded_for import NO_PROXIES, Proxies
from service.engine.domain.limits import make_rate_headers
from service.server.answers.accounting import NOBODY, SAFE_HEADERS, answers, is_request_id, new_request_id, now_s
from service.server.answers.refused_requests import refused_requests
from service.server.api.cors import NO_ORIGINS, Headers, Origins

_HEADER = b"x-request-id"
_WITH_SLASH = frozenset((b"/", b"/checkout/", b"/console/", b"/schema/"))
"""The root, and the pages, whose addresses people type: the paths that may end with a slash."""
_NOWHERE = "/\0"
"""A path without a route."""


def around(app: ASGIApp, proxies: Proxies = NO_PROXIES, origins: Origins = NO_ORIGINS) -> ASGIApp:
    """Add `X-Request-Id`, which is the client's if valid, and the SAFE_HEADERS that the response lacks. Take the
    client's address from trusted proxies. A path that is not exactly a route's is not found
    (docs/internals/decisions/0079-exact-paths.md)."""

    async def handle(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await app(scope, receive, send)
            return
        _route_exactly(scope)
        sent, origin, forwarded = b"", None, []
        for name, value in scope["headers"]:
            if name == _HEADER and is_request_id(value):
                sent = value
            elif name == b"origin":
                origin = value
            elif name == b"x-forwarded-for":
                forwarded.append(value)
        client = scope["client"]
        if forwarded and client and proxies.trusts(client[0]):
            scope["client"] = (proxies.client(client[0], b",".join(forwarded).decode("latin-1")), 0)
        request_id = sent.decode() or new_request_id()
        state: dict[str, Any] = scope.setdefault("state", {})
        state["request_id"] = request_id
        began_s = now_s()

        async def send_more(message: Message) -> None:
            if message["type"] == "http.response.start":
                own = list(message["headers"])
                names = {name.lower() for name, _ in own}
                safe = [header for header in SAFE_HEADERS if header[0] not in names]
                cors = _make_cors_headers(scope, origins, origin, own)
                rates = [] if b"ratelimit" in names else _encode_rates(state.get("rates", ""))
                message["headers"] = [*safe, *own, *rates, *cors, (_HEADER, request_id.encode())]
                _account(scope, message["status"], began_s)
            await send(message)

        await app(scope, receive, send_more)

    return handle


def _account(scope: HTTPScope, status: int, began_s: float) -> None:
    """Count the response, and keep a refusal."""
    state = scope["state"]
    route = f"{scope['method']} {scope.get('path_template', '')}"  # paths contain codes and ids
    caller = state.get("caller")
    account = caller.account if caller else NOBODY
    counted = (route, status, state.get("outcome", ""), state["request_id"], began_s)
    answers.note(account, *counted)
    if "outcome" in state:
        names = [*scope.get("path_params", {}).values()]
        workspace = caller.workspace if caller else state["refused_workspace"]
        refused_requests.add(workspace, *counted, str(names[-1]) if names else None)


def _route_exactly(scope: HTTPScope) -> None:
    """Litestar would also route a path with an empty segment, or a percent-encoded slash."""
    path = scope["raw_path"]
    if (path.endswith(b"/") and path not in _WITH_SLASH) or b"//" in path or (b"%" in path and b"%2f" in path.lower()):
        scope["path"] = _NOWHERE


def _encode_rates(rates: str) -> Headers:
    """The RateLimit headers of a request that service/server/api/request_limits.py counted; empty for others."""
    return [(name.lower().encode(), value.encode()) for name, value in make_rate_headers(rates).items()]


def _make_cors_headers(scope: HTTPScope, origins: Origins, origin: bytes | None, own: Headers) -> Headers:
    if scope["method"] != "OPTIONS":
        return origins.headers(origin)
    return origins.preflight(origin, next((value for name, value in own if name == b"allow"), b""))

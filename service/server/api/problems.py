"""Rejected requests as problem documents (RFC 9457): app.py's handlers of exceptions. Clients compare `code`; codes and
texts are in service/engine/domain/outcomes.py."""

from typing import Any
from urllib.parse import unquote

import structlog
from litestar import Request, Response
from litestar.exceptions import HTTPException
from litestar.routes import HTTPRoute

from service.engine.domain.errors import Refusal
from service.server.answers.problem_document import MEDIA_TYPE, problem, problem_headers

_BY_STATUS = {
    400: "malformed",
    401: "unauthenticated",
    403: "forbidden",
    404: "not_found",
    405: "method_not_allowed",
    408: "request_timeout",
    413: "too_large",
    415: "unsupported_media_type",
    422: "invalid",
    429: "rate_limited",
    431: "headers_too_large",
    503: "unavailable",
}
_API = "/v1/"
_MAX_CHARACTERS = 500
"""Of an unknown address that is compared with those of the API."""

log = structlog.get_logger()


def refuse(request: Request[Any, Any, Any], refusal: Refusal) -> Response[bytes]:
    """The response to a rejected request."""
    state = request.scope["state"]
    state["outcome"], state["refused_workspace"] = refusal.code, refusal.workspace
    body, headers = problem(refusal, state.get("request_id", "")), problem_headers(refusal)
    return Response(body, status_code=refusal.outcome.status, headers=headers, media_type=MEDIA_TYPE)


def refuse_http(request: Request[Any, Any, Any], error: HTTPException) -> Response[bytes]:
    """The response to a request that Litestar rejects: unknown addresses, methods, bodies."""
    code = _BY_STATUS.get(error.status_code)
    if code is None:
        return fail(request, error)
    given = {name.lower(): value for name, value in (error.headers or {}).items()}
    allowed = sorted(given["allow"].split(", ")) if "allow" in given else []
    detail = ""
    if allowed:
        methods = ", ".join(method for method in allowed if method != "OPTIONS")
        remedy = "`/schema` says what each does" if "," in methods else "Repeat the request with that method"
        detail = f"This address accepts {methods}, not {request.method[:20]}. {remedy}."
    elif code == "not_found" and (meant := _find_similar(request)):
        detail = f"This address does not exist; perhaps `{meant}` is meant. `/schema` lists all addresses and methods."
    answer = refuse(request, Refusal(code, detail))
    if allowed:
        answer.headers["Allow"] = ", ".join(allowed)
    return answer


def fail(request: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
    """The response to an unexpected error. The traceback is logged, not sent."""
    log.error("request_failed", request_id=request.scope["state"].get("request_id", ""), exc_info=error)
    return refuse(request, Refusal("internal"))


def _find_similar(request: Request[Any, Any, Any]) -> str | None:
    """The method and address with the same words: in another order, singular or plural, or with other slashes; or with
    what the sent address lacks of `/v1`, `/coupons` and an id. None if there is none."""
    path = unquote(request.scope["raw_path"].decode("ascii"))
    if len(path) > _MAX_CHARACTERS:
        return None
    path = "/" + "/".join(filter(None, path.split("/")))
    sent = [_simplify(part) for part in path.removeprefix(_API).split("/") if part]
    similar: dict[str, tuple[int, bool, int]] = {}
    for route in request.app.routes:
        if isinstance(route, HTTPRoute) and route.path_format.startswith(_API):
            parts = route.path_format.removeprefix(_API).split("/")
            names = {_simplify(part) for part in parts if not part.startswith("{")}
            shared, more = len(names.intersection(sent)), len(parts) - len(sent)
            if shared and names.issubset([*sent, "coupon"]) and 0 <= more <= 2:
                methods = sorted(route.methods - {"OPTIONS"})
                has_method = request.method in methods
                address = f"{request.method if has_method else methods[0]} {route.path_format}"
                similar[address] = (shared, has_method, -more)
    return max(similar, key=similar.__getitem__, default=None)


def _simplify(part: str) -> str:
    return part.lower().replace("_", "-").removesuffix("s")


HANDLERS: dict[Any, Any] = {Refusal: refuse, HTTPException: refuse_http, Exception: fail}

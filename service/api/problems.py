"""Rejected requests as problem documents (RFC 9457): app.py's handlers of exceptions. Clients compare `code`; codes and
texts are in service/domain/outcomes.py."""

from typing import Any

import structlog
from litestar import Request, Response
from litestar.exceptions import HTTPException

from service.api.similar_address import find_similar
from service.domain.errors import Refusal
from service.operations.problem_document import MEDIA_TYPE, problem, problem_headers

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

log = structlog.get_logger()


def refuse(request: Request[Any, Any, Any], refusal: Refusal) -> Response[bytes]:
    """The response to a rejected request."""
    state = request.scope["state"]
    state["outcome"] = refusal.code
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
        detail = f"This address accepts {methods}, not {request.method[:20]}. Repeat the request with that method."
    elif code == "not_found" and (meant := find_similar(request)):
        detail = f"This address does not exist; perhaps `{meant}` is meant. `/schema` lists all addresses and methods."
    answer = refuse(request, Refusal(code, detail))
    if allowed:
        answer.headers["Allow"] = ", ".join(allowed)
    return answer


def fail(request: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
    """The response to an unexpected error. The traceback is logged, not sent."""
    log.error("request_failed", request_id=request.scope["state"].get("request_id", ""), exc_info=error)
    return refuse(request, Refusal("internal"))


HANDLERS: dict[Any, Any] = {Refusal: refuse, HTTPException: refuse_http, Exception: fail}

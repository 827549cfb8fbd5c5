"""Refusals as problem details (RFC 9457)."""

from typing import Any

import msgspec
import structlog
from litestar import Request, Response
from litestar.exceptions import HTTPException

from service.domain.errors import FieldError, Refusal
from service.domain.outcomes import Outcome

MEDIA_TYPE = "application/problem+json"
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
_encode = msgspec.json.Encoder().encode


def problem_fields(
    outcome: Outcome, detail: str, instance: str, request_id: str, errors: tuple[FieldError, ...] = ()
) -> dict[str, Any]:
    """A problem's body."""
    body: dict[str, Any] = {
        "type": f"/problems/{outcome.code}",
        "title": outcome.sentence,
        "status": outcome.status,
        "detail": detail,
        "instance": instance,
        "code": outcome.code,
        "requestId": request_id,
    }
    if errors or outcome.status in (400, 422):
        body["errors"] = [{"field": error.field, "reason": error.reason} for error in errors]
    return body


def body_of(request: Request[Any, Any, Any], refusal: Refusal) -> bytes:
    """The problem's body of a refused request, or of a refused part of it."""
    request_id = request.scope["state"].get("request_id", "")
    instance = f"/requests/{request_id}"
    return _encode(problem_fields(refusal.outcome, refusal.detail, instance, request_id, refusal.errors))


def refuse(request: Request[Any, Any, Any], refusal: Refusal) -> Response[bytes]:
    """The answer to a refused request."""
    body = body_of(request, refusal)
    headers: dict[str, str] = {}
    if refusal.retry_after_ms is not None:
        headers["Retry-After"] = str(max(1, -(-refusal.retry_after_ms // 1000)))
    if refusal.outcome.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    return Response(body, status_code=refusal.outcome.status, headers=headers, media_type=MEDIA_TYPE)


def refuse_http(request: Request[Any, Any, Any], error: HTTPException) -> Response[bytes]:
    """What the framework itself refuses: unknown addresses, methods, bodies."""
    code = _BY_STATUS.get(error.status_code)
    if code is None:
        return fail(request, error)
    answer = refuse(request, Refusal(code))
    for name, value in (error.headers or {}).items():
        if name.lower() == "allow":
            answer.headers["Allow"] = ", ".join(sorted(value.split(", ")))
    return answer


def fail(request: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
    """What should not have happened: logged with its trace, told without."""
    log.error("request_failed", request_id=request.scope["state"].get("request_id", ""), exc_info=error)
    return refuse(request, Refusal("internal"))


HANDLERS: dict[Any, Any] = {Refusal: refuse, HTTPException: refuse_http, Exception: fail}

"""A refusal as clients see it: a problem (RFC 9457), and the headers that go with it."""

from typing import Any

from service.domain.errors import Refusal
from service.domain.limits import make_rate_headers
from service.operations.base import encode

MEDIA_TYPE = "application/problem+json"


def problem(refusal: Refusal, request_id: str) -> bytes:
    """The body of a refused request's answer, or of a refused part's."""
    outcome = refusal.outcome
    body: dict[str, Any] = {
        "type": f"/problems/{outcome.code}",
        "title": outcome.sentence,
        "status": outcome.status,
        "detail": refusal.detail,
        "instance": f"/requests/{request_id}",
        "code": outcome.code,
        "requestId": request_id,
    }
    if refusal.errors or outcome.status in (400, 422):
        body["errors"] = [{"field": error.field, "reason": error.reason} for error in refusal.errors]
    return encode(body)


def problem_headers(refusal: Refusal) -> dict[str, str]:
    """The headers of a refusal's own, in their order."""
    headers: dict[str, str] = {}
    if refusal.retry_after_ms is not None:
        headers["Retry-After"] = str(max(1, -(-refusal.retry_after_ms // 1000)))
    if refusal.outcome.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    return headers | make_rate_headers(refusal.rates)

"""Render a refusal as a problem document (RFC 9457), and its headers: for Litestar, batches and the fast lane. The
names are in the API's JSON, and documented by `Problem` (documented.py)."""

from functools import cache
from typing import Any

from service.engine.domain.errors import Refusal
from service.engine.domain.limits import make_rate_headers
from service.engine.domain.outcomes import Outcome
from service.engine.operations.base import encode

MEDIA_TYPE = "application/problem+json"
_ID = "@@"
"""No text of an outcome has it."""


def problem(refusal: Refusal, request_id: str) -> bytes:
    """The response body of a refused request, or of a refused part of a batch."""
    outcome = refusal.outcome
    if refusal.detail is outcome.detail and not refusal.errors:
        return encode(request_id)[1:-1].join(_usual_parts(outcome))
    body = _body(outcome, refusal.detail, request_id) | dict(refusal.figures)
    if refusal.errors:
        body["param"] = refusal.errors[0].field
        body["errors"] = [{"field": error.field, "reason": error.reason} for error in refusal.errors]
    return encode(body)


def _body(outcome: Outcome, detail: str, request_id: str) -> dict[str, Any]:
    body: dict[str, Any] = {
        "type": f"/problems/{outcome.code}",
        "title": outcome.sentence,
        "status": outcome.status,
        "detail": detail,
        "instance": f"/requests/{request_id}",
        "code": outcome.code,
        "for": outcome.for_,
        "requestId": request_id,
    }
    return body | {"errors": []} if outcome.status in (400, 422) else body


@cache
def _usual_parts(outcome: Outcome) -> list[bytes]:
    """A refusal's body without a detail of its own, split at the request's id: most refusals of a sale are such."""
    return encode(_body(outcome, outcome.detail, _ID)).split(_ID.encode())


def problem_headers(refusal: Refusal) -> dict[str, str]:
    """The refusal's own headers, in order."""
    headers: dict[str, str] = {}
    if refusal.retry_after_ms is not None:
        headers["Retry-After"] = str(max(1, -(-refusal.retry_after_ms // 1000)))
    if refusal.outcome.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    return headers | make_rate_headers(refusal.rates)

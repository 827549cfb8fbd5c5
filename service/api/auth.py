"""Who asks."""

from typing import Any

from litestar import Request

from service.domain.identity import Caller


def caller(request: Request[Any, Any, Any], *scopes: str) -> Caller:
    """Who asks. Refusal `unauthenticated`, or `forbidden` where the key has none of the scopes."""
    return authenticated(request, request.headers.get("authorization", ""), scopes)


def authenticated(request: Request[Any, Any, Any], authorization: str, scopes: tuple[str, ...]) -> Caller:
    """As caller, with the header's value at hand."""
    return request.app.state.context.keyring.authenticated(authorization, scopes)

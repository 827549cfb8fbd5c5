"""Refused requests of the last hour, by request id; app.py registers both addresses."""

from typing import Annotated, Any
from urllib.parse import quote

import msgspec
from litestar import Controller, Request, get
from litestar.params import PathParameter
from litestar.response import Redirect

from service.engine.domain import field_types
from service.engine.domain.field_types import END, Answer
from service.engine.domain.times import Timestamp
from service.server.api.auth import OPEN
from service.server.api.documented import describe_route
from service.server.api.reading import unpack_request
from service.server.in_postgres.refused_batches import find_refused

_EXAMPLE = {
    "items": [
        {
            "at": "2026-11-20T09:15:30.456Z",
            "route": "POST /v1/coupons/redeem/{code}",
            "status": 409,
            "outcome": "coupon_exhausted",
            "tookMs": 1.2,
            "subject": "…7F3K",
        }
    ],
    "notStored": 0,
}


class RequestName(field_types.Request):
    """The request to find."""

    request_id: Annotated[
        str, msgspec.Meta(pattern=r"^[!-~]{1,128}" + END, description="The `X-Request-Id` of the response.")
    ]


class RefusedRequest(Answer):
    """A refusal."""

    at: Timestamp
    route: str
    status: int
    outcome: str
    took_ms: float
    subject: str | None


class RefusedRequests(Answer):
    """Refusals, newest first."""

    items: list[RefusedRequest]
    not_stored: int


class Refusals(Controller):
    path = "/v1/ops/requests"
    tags = ("Operators",)

    @get(
        **describe_route(
            "findRefusedRequest",
            "Find a refused request by its id",
            returns="The refusals with this id, newest first; an empty list if there is none.",
            query=RequestName,
            answer=_EXAMPLE,
        ),
    )
    async def find(self, request: Request[Any, Any, Any]) -> RefusedRequests:
        """The workspace's refusals and errors with this request id, of the last hour. A response is found a second or
        two after it was sent. Scope `operate`."""
        caller, context, params = unpack_request(request, RequestName)
        found = await find_refused(context.pool, params.request_id, caller.workspace)
        return RefusedRequests(items=[*map(RefusedRequest.from_row, found.refusals)], not_stored=found.dropped)


@get("/requests/{request_id:str}", include_in_schema=False, opt=OPEN)
async def show_request(request: Request[Any, Any, Any], request_id: Annotated[str, PathParameter()]) -> Redirect:
    """The address in a problem's `instance`: leads a browser to the console's search, and other clients to the request
    above, which need a key there. No credentials."""
    name = quote(request_id, safe="")
    if "text/html" in request.headers.get("accept", ""):
        return Redirect(f"/console#/search/{name}")
    return Redirect(f"/v1/ops/requests?requestId={name}")

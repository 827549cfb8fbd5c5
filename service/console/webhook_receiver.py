"""A receiver for testing webhooks without a server of one's own: session.py registers it, the console's page offers its
addresses, and sender.py posts to it."""

from typing import Annotated, Any

from litestar import Request, Response, post
from litestar.params import PathParameter

from service.engine.domain.errors import Refusal
from service.server.api.auth import OPEN
from service.server.api.context import Context
from service.server.api.reading import JSON_BYTES, parse_query, read_chunks

ANSWERS = (204, 503, 410)
"""Accept, fail, or be gone."""


@post("/receiver/{status:int}", opt=OPEN)
async def receive(
    request: Request[Any, Any, Any], status: Annotated[int, PathParameter(description="The status to return.")]
) -> Response[bytes]:
    """Read and discard a delivery, and return the status in the address. Only with the embedded database; in
    production a merchant has receivers."""
    parse_query(request)
    context: Context = request.app.state.context
    if not context.settings.embedded or status not in ANSWERS:
        raise Refusal("not_found")
    async for _ in read_chunks(request, JSON_BYTES):
        pass
    return Response(b"", status_code=status)

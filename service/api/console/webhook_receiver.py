"""A receiver of webhooks for trying them out, where nothing else is at hand that could be told."""

from typing import Annotated, Any

from litestar import Request, Response, Router, post
from litestar.params import PathParameter

from service.api.auth import OPEN
from service.api.context import Context
from service.api.reading import JSON_BYTES, chunks, query
from service.domain.errors import Refusal

ANSWERS = (204, 503, 410)
"""It takes everything, fails, or is gone."""


@post("/{status:int}", include_in_schema=False)
async def receive(
    request: Request[Any, Any, Any], status: Annotated[int, PathParameter(description="What it answers.")]
) -> Response[None]:
    """Read a delivery, keep nothing of it, and answer with the status that the address names. Of a server that runs its
    own database alone: elsewhere nobody but the merchant's receivers is there to be told."""
    query(request)
    context: Context = request.app.state.context
    if not context.settings.embedded or status not in ANSWERS:
        raise Refusal("not_found")
    async for _ in chunks(request, JSON_BYTES):
        pass
    return Response(None, status_code=status)


def receiver_router() -> Router:
    """`/receiver` of the console, which anybody may call, as anybody may call a merchant's."""
    return Router("/receiver", route_handlers=[receive], opt=OPEN)

"""OPTIONS: which methods an address takes."""

from litestar import Litestar, Response
from litestar.handlers import HTTPRouteHandler
from litestar.routes import HTTPRoute
from litestar.types import Scope

from service.api.auth import OPEN


def offer_all_methods(app: Litestar) -> None:
    """Let every address name all of its methods. Litestar's own answer names only those that it knew when the first
    handler of the address was registered."""
    for route in app.routes:
        if isinstance(route, HTTPRoute):
            handler, _ = route.route_handler_map["OPTIONS"]
            _answer_with(handler, ", ".join(sorted(route.methods)))


def _answer_with(handler: HTTPRouteHandler, allow: str) -> None:
    def options_handler(scope: Scope) -> Response[None]:
        return Response(None, status_code=204, headers={"Allow": allow})

    handler(options_handler)
    handler.opt |= OPEN

"""Responses to OPTIONS list all methods of an address: the application calls this once, when it starts."""

from litestar import Litestar, Response
from litestar.handlers import HTTPRouteHandler
from litestar.routes import HTTPRoute
from litestar.types import Scope

from service.api.auth import OPEN


def offer_all_methods(app: Litestar) -> None:
    """Make every OPTIONS response list all methods of its address. Litestar's own response lists only those known when
    the first handler of the address was registered."""
    for route in app.routes:
        if isinstance(route, HTTPRoute):
            handler, _ = route.route_handler_map["OPTIONS"]
            _answer_with(handler, ", ".join(sorted(route.methods)))


def _answer_with(handler: HTTPRouteHandler, allow: str) -> None:
    def options_handler(scope: Scope) -> Response[None]:
        return Response(None, status_code=204, headers={"Allow": allow})

    handler(options_handler)
    handler.opt |= OPEN

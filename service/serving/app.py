"""The Litestar application. server.py calls `create_app`. A new controller is registered here."""

import contextlib
from collections.abc import AsyncIterator
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import asyncpg
import msgspec
import structlog
from litestar import Litestar, Request, Response, Router
from litestar.handlers import HTTPRouteHandler
from litestar.openapi.config import OpenAPIConfig
from litestar.openapi.spec import Components, License, SecurityScheme, Tag
from litestar.plugins import PluginProtocol
from litestar.plugins.core import MsgspecDIPlugin
from litestar.routes import HTTPRoute
from litestar.types import Scope

from service.common.config import Settings
from service.common.metrics_port import serve_metrics
from service.console.pages import (
    SchemaDocument,
    SchemaPage,
    asset_router,
    build_document,
    checkout_pages,
    icon,
    with_page_headers,
)
from service.console.session import console_pages
from service.engine.domain.errors import Refusal
from service.engine.record.pool import ERRORS, is_away
from service.server.answers.accounting import answers
from service.server.api import problems
from service.server.api.auth import OPEN, admit
from service.server.api.controllers import workspace
from service.server.api.controllers.audit import Audit
from service.server.api.controllers.batches import Batches
from service.server.api.controllers.books import Books
from service.server.api.controllers.code_changes import CodeChanges
from service.server.api.controllers.codes import Codes
from service.server.api.controllers.consistency import ConsistencyChecks
from service.server.api.controllers.coupons import Coupons
from service.server.api.controllers.exports import Exports
from service.server.api.controllers.health import Operating
from service.server.api.controllers.histories import Histories
from service.server.api.controllers.hot_operations import make_handlers
from service.server.api.controllers.jobs import Jobs
from service.server.api.controllers.keys import Keys
from service.server.api.controllers.orders import Orders
from service.server.api.controllers.problem_types import ProblemTypes
from service.server.api.controllers.quarantine import QuarantineEvents
from service.server.api.controllers.refusals import Refusals, show_request
from service.server.api.controllers.reports import Reports
from service.server.api.controllers.single_coupons import SingleCoupons
from service.server.api.controllers.users import Users
from service.server.api.controllers.webhooks import Webhooks
from service.server.api.readiness import check_readiness
from service.server.api.schemas import Structs
from service.serving.wiring import open_context

if TYPE_CHECKING:
    from service.common.spans import Traces

log = structlog.get_logger()

_TAGS = [
    Tag("Coupons", "The hot path: assign, lock, extend, unlock, redeem, validate."),
    Tag("Redemptions", "Redemptions, and rolling them back."),
    Tag("Books", "Sets of coupons that share one set of rules."),
    Tag("Codes", "Upload, generate and change codes."),
    Tag("Users", "Users, their coupons and histories."),
    Tag("Reports", "Figures by hour, day and week."),
    Tag("Keys", "API keys."),
    Tag("Webhooks", "Subscriptions to events, and their deliveries."),
    Tag("Audit", "The log of configuration changes and their authors."),
    Tag("Workspace", "The workspace's settings, and a test workspace's clock."),
    Tag("Jobs", "Long-running operations, such as generating codes."),
    Tag("Operators", "Health and consistency."),
]


class Application(Litestar):
    """Litestar without its plugins for pydantic and attrs, which would import these."""

    @staticmethod
    def _get_default_plugins(plugins: list[PluginProtocol]) -> list[PluginProtocol]:
        return [*plugins, MsgspecDIPlugin()]


def create_app(settings: Settings, traces: "Traces | None" = None) -> Litestar:
    """Create the application. It connects to Redis and Postgres at startup."""

    @contextlib.asynccontextmanager
    async def lifespan(app: Litestar) -> AsyncIterator[None]:
        async def check() -> tuple[bool, bytes]:
            ready = await check_readiness(context)
            return ready.status == "ready", msgspec.json.encode(ready)

        is_shared = settings.api_processes > 1
        async with (
            open_context(settings, traces) as context,
            serve_metrics(settings.host, settings.metrics_port, check, is_shared=is_shared),
        ):
            app.state.context = context
            _offer_all_methods(app)
            yield

    app = Application(
        [
            *(Operating, ProblemTypes, ConsistencyChecks, QuarantineEvents, Refusals, Reports),
            *(Books, Codes, CodeChanges, Coupons, Batches, Histories, Orders, Exports),
            *(Users, Jobs, Keys, Audit, Webhooks),
            *make_handlers(),
            SingleCoupons,
            workspace.Settings,
            workspace.TestClock,
            checkout_pages(),
            console_pages(),
            show_request,
            icon,
        ],
        guards=[admit],
        lifespan=[lifespan],
        exception_handlers={**problems.HANDLERS, **dict.fromkeys(ERRORS, _answer_postgres_error)},
        openapi_config=_make_openapi_config(),
        plugins=[Structs()],
        request_max_body_size=None,  # each handler reads its body within a bound of its own
        logging_config=None,
    )
    # accounting.py counts answers by route and role
    answers.roles |= {
        f"{method} {route.path_format}": handler.opt.get("roles", ())
        for route in app.routes
        if isinstance(route, HTTPRoute)
        for method, (handler, _) in route.route_handler_map.items()
        if method != "OPTIONS"
    }
    return app


def _answer_postgres_error(request: Request[Any, Any, Any], error: Exception) -> Response[Any]:
    """Answer 503 `unavailable` if Postgres is unavailable or refuses a right, otherwise 500."""
    if is_refused := isinstance(error, asyncpg.InsufficientPrivilegeError):
        log.error("postgres_right_missing", reason=str(error))  # it names a table, and no row
    if is_refused or is_away(error):
        return problems.refuse(request, Refusal.temporary("unavailable", least_ms=1000, most_ms=3000))
    return problems.fail(request, error)


def _offer_all_methods(app: Litestar) -> None:
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


def _make_openapi_config() -> OpenAPIConfig:
    router = Router(
        "/schema",
        route_handlers=[asset_router("schema")],
        before_request=build_document,
        after_request=with_page_headers,
        opt=OPEN,
        include_in_schema=False,
    )
    return OpenAPIConfig(
        title="Scrip",
        version=version("scrip"),
        description=(
            "Coupon redemption for flash sales. Requests and answers are JSON in UTF-8; a refusal is a problem "
            "(RFC 9457) with a stable `code`, and changes nothing. A request whose body has no required field may be "
            "sent without a body and a `Content-Type`. A path is exact: one with a trailing `/`, "
            "an empty segment or `%2F` is 404 `not_found`."
        ),
        license=License("MIT", identifier="MIT"),
        tags=_TAGS,
        openapi_router=router,
        render_plugins=[SchemaPage(), SchemaDocument()],
        components=Components(
            security_schemes={
                "key": SecurityScheme(type="http", scheme="bearer", description="An API key."),
                "token": SecurityScheme(
                    type="http",
                    scheme="bearer",
                    bearer_format="JWT",
                    description=(
                        "A user's token from a configured issuer. Its `sub` is the user, who may be left out of "
                        "requests; another user is `forbidden`."
                    ),
                ),
            }
        ),
        security=[{"key": []}],
        use_handler_docstrings=True,
    )

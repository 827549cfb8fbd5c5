"""Who may do what: roles are data, and what they don't name nobody may."""

import re
from typing import Any

import pytest
from litestar import Litestar, get
from litestar.handlers import HTTPRouteHandler
from litestar.routes import HTTPRoute
from litestar.testing import TestClient

from service.access.caller import SCOPES
from service.access.roles import ROLES, list_roles
from service.api import problems
from service.api.auth import OPEN, admit
from service.api.request_middleware import around
from service.common.config import Settings
from service.operations.table import ROWS
from service.serving.app import create_app

APP = create_app(Settings())
HOT = {row.operation_id: row.roles for row in ROWS}
OPEN_TO_ALL = {"/", "/console", "/health/live", "/health/ready", "/metrics", "/problems/{code:str}"}
OPEN_PAGES = ("/checkout", "/schema", "/console/assets", "/console/session", "/console/receiver")


def _operations() -> dict[str, Any]:
    paths = APP.openapi_schema.to_schema()["paths"]
    return {operation["operationId"]: operation for methods in paths.values() for operation in methods.values()}


def test_roles_name_operations_that_there_are() -> None:
    """Each operation of the document that isn't for all is some role's, and no role names another."""
    for_some = {name for name, operation in _operations().items() if operation["security"]}
    assert for_some == {row.operation_id for row in ROWS}.union(*ROLES.values())
    assert set(SCOPES) <= set(ROLES)


def test_an_operation_of_no_role_is_an_error() -> None:
    """A route that nobody listed doesn't even start."""
    with pytest.raises(KeyError):
        list_roles("eraseEverything")


def test_handlers_say_what_holds() -> None:
    """The scopes that an operation's description names are those that the roles give it."""
    for name, operation in _operations().items():
        if operation["security"]:
            (said,) = re.findall(r"\bScope ([^.]*)\.", operation["description"])
            assert set(re.findall(r"`(\w+)`", said)) == set(HOT.get(name) or list_roles(name)) & set(SCOPES), name


def test_every_handler_names_roles_or_is_open() -> None:
    """What is served to anybody is a short list, and all else names the roles that it takes."""
    for route in APP.routes:
        for handler in getattr(route, "route_handlers", [getattr(route, "route_handler", None)]):
            is_open = route.path in OPEN_TO_ALL or route.path.startswith(OPEN_PAGES)
            if isinstance(route, HTTPRoute) and handler.http_methods == {"OPTIONS"}:
                continue
            assert bool(handler.opt.get("open")) == is_open, route.path
            assert bool(handler.opt.get("roles")) == (not is_open), route.path


def test_a_handler_that_says_nothing_answers_nobody() -> None:
    """Denied by default: a handler without a word on who may ask is forbidden to all."""

    def handler(path: str, **options: Any) -> HTTPRouteHandler:
        @get(path, **options)
        async def answer() -> str:
            return "told"

        return answer

    app = Litestar(
        [handler("/silent"), handler("/open", opt=OPEN)], guards=[admit], exception_handlers=problems.HANDLERS
    )
    app.asgi_handler = around(app.asgi_handler)
    with TestClient(app) as client:
        assert client.get("/silent", headers={"Authorization": "Bearer demo_admin"}).status_code == 403
        assert client.get("/open").text == "told"

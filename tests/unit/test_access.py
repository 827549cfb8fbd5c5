"""Authorization: roles are data, and an operation that no role names is refused."""

import re
from functools import cache
from typing import Any

import pytest
from litestar import Litestar, get
from litestar.handlers import HTTPRouteHandler
from litestar.routes import HTTPRoute
from litestar.testing import TestClient

from service.common.config import Settings
from service.engine.operations.caller import SCOPES
from service.engine.operations.table import ROWS
from service.server.access.roles import ROLES, list_roles
from service.server.api import problems
from service.server.api.auth import OPEN, admit
from service.server.api.request_middleware import around
from service.serving.app import create_app

HOT = {row.operation_id: row.roles for row in ROWS}
OPEN_TO_ALL = {
    "/", "/favicon.ico", "/console", "/health/live", "/health/ready", "/metrics", "/problems", "/problems/{code:str}",
    "/requests/{request_id:str}",
}  # fmt: skip
OPEN_PAGES = ("/checkout", "/schema", "/console/assets", "/console/session", "/console/sign-in", "/console/receiver")


@cache
def _make_app() -> Litestar:
    return create_app(Settings())


def _operations() -> dict[str, Any]:
    paths = _make_app().openapi_schema.to_schema()["paths"]
    return {operation["operationId"]: operation for methods in paths.values() for operation in methods.values()}


def test_roles_name_existing_operations() -> None:
    """Each operation of the document that isn't open belongs to a role, and no role names another operation."""
    for_some = {name for name, operation in _operations().items() if operation["security"]}
    assert for_some == {row.operation_id for row in ROWS}.union(*ROLES.values())
    assert set(SCOPES) <= set(ROLES)


def test_an_operation_of_no_role_is_an_error() -> None:
    """The API does not start with a route that no role names."""
    with pytest.raises(KeyError):
        list_roles("eraseEverything")


def test_descriptions_name_the_scopes() -> None:
    """An operation's description names exactly the scopes that the roles give it."""
    for name, operation in _operations().items():
        if operation["security"]:
            (scopes,) = re.findall(r"\bScope ([^.]*)\.", operation["description"])
            assert set(re.findall(r"`(\w+)`", scopes)) == set(HOT.get(name) or list_roles(name)) & set(SCOPES), name


def test_every_handler_names_roles_or_is_open() -> None:
    """The open routes are a short list; every other handler names its roles."""
    for route in _make_app().routes:
        for handler in getattr(route, "route_handlers", [getattr(route, "route_handler", None)]):
            is_open = route.path in OPEN_TO_ALL or route.path.startswith(OPEN_PAGES)
            if isinstance(route, HTTPRoute) and handler.http_methods == {"OPTIONS"}:
                continue
            assert bool(handler.opt.get("open")) == is_open, route.path
            assert bool(handler.opt.get("roles")) == (not is_open), route.path


def test_a_handler_without_roles_is_forbidden() -> None:
    """A handler without roles is forbidden to every caller."""

    def handler(path: str, **options: Any) -> HTTPRouteHandler:
        @get(path, **options)
        async def answer() -> str:
            return "answer"

        return answer

    app = Litestar(
        [handler("/silent"), handler("/open", opt=OPEN)], guards=[admit], exception_handlers=problems.HANDLERS
    )
    app.asgi_handler = around(app.asgi_handler)
    with TestClient(app) as client:
        assert client.get("/silent", headers={"Authorization": "Bearer demo_admin"}).status_code == 403
        assert client.get("/open").text == "answer"

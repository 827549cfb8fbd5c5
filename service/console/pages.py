"""The pages: static files that use the API like any client. This module also serves the demo checkout. app.py and
session.py register the routes. The headers are the pages' protection: they allow scripts of this site alone."""

import asyncio
from functools import cache
from html import escape
from pathlib import Path
from typing import Any

import msgspec
from litestar import Request, Response, Router, get
from litestar._openapi.plugin import OpenAPIPlugin
from litestar.file_system import BaseLocalFileSystem
from litestar.openapi.plugins import JsonRenderPlugin, OpenAPIRenderPlugin
from litestar.static_files import create_static_files_router
from litestar.types import FileInfo

from service.common.config import Settings, is_loopback
from service.engine.domain.configuration import BookRow
from service.engine.domain.settings import described, to_camel
from service.server.api.auth import OPEN
from service.server.api.context import Context

DEMO_KEY = "demo_checkout"
_PAGES = Path(__file__).parent / "static"
_NO_KEY = '<meta name="scrip-key" content="">'
_NO_SIGN_IN = '<meta name="scrip-sign-in" content="0">'
_NO_SETTINGS = '<meta name="scrip-book-settings" content="[]">'
_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'self'; base-uri 'none'; object-src 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
    "Cache-Control": "no-cache",
}


def prefilled_key(settings: Settings) -> str:
    """The API key in the page: the demo's, which the README contains too, but only if `scrip run` uses its embedded
    database and listens on loopback. Otherwise empty, and the page asks for a key."""
    return DEMO_KEY if settings.embedded and is_loopback(settings.host) else ""


@get("/", include_in_schema=False)
async def checkout(request: Request[Any, Any, Any]) -> Response[str]:
    """The checkout page. No credentials: it asks for a key."""
    context: Context = request.app.state.context
    key = escape(prefilled_key(context.settings))
    page = _page("checkout", _NO_KEY, f'<meta name="scrip-key" content="{key}">')
    return Response(page, media_type="text/html")


@get("/favicon.ico", include_in_schema=False, opt=OPEN)
async def icon(request: Request[Any, Any, Any]) -> Response[bytes]:
    """The icon of addresses that name none of their own, such as `/`: browsers request it."""
    content = (_PAGES / "console" / "assets" / "icon.svg").read_bytes()
    return with_page_headers(Response(content, media_type="image/svg+xml"))


def with_page_headers(response: Any) -> Any:
    """Add the security headers of a page."""
    response.headers.update(_HEADERS)
    return response


def asset_router(name: str) -> Router:
    """The route `/assets` of a page: its files, without credentials."""
    return create_static_files_router(
        "/assets", [_PAGES / name / "assets"], file_system=_Files(), include_in_schema=False, opt=OPEN, name=name
    )


class SchemaPage(OpenAPIRenderPlugin):
    """The page of the API, which reads `/schema/openapi.json`."""

    def __init__(self) -> None:
        super().__init__(path="/")

    def render(self, request: Request[Any, Any, Any], openapi_schema: dict[str, Any]) -> bytes:
        """The page's `index.html`, unchanged."""
        return (_PAGES / "schema" / "index.html").read_bytes()


class SchemaDocument(JsonRenderPlugin):
    """`/schema/openapi.json`, as build_document made it."""

    def render(self, request: Request[Any, Any, Any], openapi_schema: dict[str, Any]) -> bytes:
        """The document's bytes."""
        return request.app.state.document.result()


async def build_document(request: Request[Any, Any, Any]) -> None:
    """Make the OpenAPI document before the first request below `/schema`, in a thread, since it takes a second.
    Requests that come in that time wait."""
    state = request.app.state
    if "document" not in state:
        state.document = asyncio.ensure_future(asyncio.to_thread(_make_document, request))
    await asyncio.shield(state.document)


def _make_document(request: Request[Any, Any, Any]) -> bytes:
    schema = request.app.plugins.get(OpenAPIPlugin).provide_openapi_schema()
    return SchemaDocument.render_json(request, schema)


class _Files(BaseLocalFileSystem):
    """Local files. An impossible name (with a NUL, or too long) is not found."""

    async def info(self, path: Any, **options: Any) -> FileInfo:
        """The file's metadata. Raises FileNotFoundError."""
        try:
            return await super().info(path, **options)
        except (OSError, ValueError):
            raise FileNotFoundError(path) from None


def checkout_pages() -> Router:
    """`/checkout` and its files."""
    return Router(
        "/checkout", route_handlers=[checkout, asset_router("checkout")], after_request=with_page_headers, opt=OPEN
    )


def console_page(providers: int) -> str:
    """The console's page, with the number of workspaces whose people sign in at a provider, and a book's settings."""
    settings = escape(msgspec.json.encode(_form_fields()).decode())
    return _page(
        "console",
        *(_NO_SIGN_IN, f'<meta name="scrip-sign-in" content="{providers}">'),
        *(_NO_SETTINGS, f'<meta name="scrip-book-settings" content="{settings}">'),
    )


def _form_fields() -> list[dict[str, Any]]:
    """The fields of a book's form that come from the table of settings."""
    return [
        {"name": to_camel(name), "label": one.label, "hint": one.hint, "isSwitch": kind is bool, "default": one.default}
        for name, (kind, _, one) in described(BookRow).items()
    ]


@cache
def _page(name: str, *places_and_texts: str) -> str:
    """The page's `index.html`, with each text in its place."""
    page = (_PAGES / name / "index.html").read_text(encoding="utf-8")
    for place, text in zip(places_and_texts[::2], places_and_texts[1::2], strict=True):
        if place not in page:
            raise RuntimeError(f"the page {name} has no {place}")
        page = page.replace(place, text)
    return page

"""The pages: static files of our own, which ask the API like any client. The mock checkout is the first."""

from functools import cache
from html import escape
from pathlib import Path
from typing import Any

from litestar import Request, Response, Router, get
from litestar.file_system import BaseLocalFileSystem
from litestar.static_files import create_static_files_router
from litestar.types import FileInfo

from service.api.auth import OPEN
from service.api.context import Context
from service.common.config import Settings, is_loopback

DEMO_KEY = "demo_checkout"
_PAGES = Path(__file__).parents[1] / "pages"
_NO_KEY = '<meta name="scrip-key" content="">'
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
    """The API key that the page comes with: the demo's, which README names too, and only where nobody but this machine
    is served by `scrip run` with its own database. Otherwise none, and the page asks for one."""
    return DEMO_KEY if settings.embedded and is_loopback(settings.host) else ""


@get("/", include_in_schema=False)
async def checkout(request: Request[Any, Any, Any]) -> Response[str]:
    """The page. No credentials: it asks its user for a key."""
    context: Context = request.app.state.context
    return Response(_page(prefilled_key(context.settings)), media_type="text/html")


def with_page_headers(response: Any) -> Any:
    """For what a browser gets of a page."""
    response.headers.update(_HEADERS)
    return response


def html_page(name: str) -> Response[str]:
    """A page as it lies in its folder."""
    return Response((_PAGES / name / "index.html").read_text(encoding="utf-8"), media_type="text/html")


def asset_router(name: str) -> Router:
    """`/assets` of a page."""
    return file_router("/assets", _PAGES / name / "assets", name=name)


def file_router(path: str, folder: Path, **options: Any) -> Router:
    """A folder's files, for anybody."""
    return create_static_files_router(
        path, [folder], file_system=_Files(), include_in_schema=False, opt=OPEN, **options
    )


class _Files(BaseLocalFileSystem):
    """Files of this machine. A name that no file can have (with a NUL, or too long) is not found."""

    async def info(self, path: Any, **options: Any) -> FileInfo:
        """What is known of a file. Raises FileNotFoundError."""
        try:
            return await super().info(path, **options)
        except (OSError, ValueError):
            raise FileNotFoundError(path) from None


def checkout_pages() -> Router:
    """`/checkout` and its files."""
    return Router(
        "/checkout", route_handlers=[checkout, asset_router("checkout")], after_request=with_page_headers, opt=OPEN
    )


@cache
def _page(key: str) -> str:
    page = (_PAGES / "checkout" / "index.html").read_text(encoding="utf-8")
    before, found, after = page.partition(_NO_KEY)
    if not found:
        raise RuntimeError("the checkout page has no place for a key")
    return f'{before}<meta name="scrip-key" content="{escape(key)}">{after}'

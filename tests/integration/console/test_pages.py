"""The pages and their files, and the demo key in the checkout page."""

import re
from pathlib import Path
from urllib.parse import urljoin

import pytest

from service.common.config import load
from service.console import pages
from tests.harness.service_fixture import Service, ok, refused

_SCRIPT = "text/javascript; charset=utf-8"
_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".js": _SCRIPT,
    ".mjs": _SCRIPT,
    ".py": "text/x-python; charset=utf-8",
    ".svg": "image/svg+xml",
}
_FOLDER = Path(pages.__file__).parent / "static"
PAGES = {"checkout": "checkout", "console": "console", "schema": "documentation"}
"""And their names at `/`."""


@pytest.mark.parametrize("page", PAGES)
def test_the_page(service: Service, page: str) -> None:
    """A page needs no key; its headers let it load its own files, call its own host, and nothing more."""
    for path in (f"/{page}", f"/{page}/"):
        answer = service.anonymous.get(path)
        assert answer.status_code == 200
        assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
        policy = dict(part.split(" ", 1) for part in answer.headers["Content-Security-Policy"].split("; "))
        assert policy["default-src"] == "'self'"
        assert {policy[name] for name in ("base-uri", "object-src", "form-action", "frame-ancestors")} == {"'none'"}
        assert "unsafe" not in answer.headers["Content-Security-Policy"]
        assert answer.headers["Cross-Origin-Opener-Policy"] == "same-origin"
    assert ok(service.anonymous.get("/"))[PAGES[page]] == f"/{page}"


@pytest.mark.parametrize("page", PAGES)
def test_its_files(service: Service, page: str) -> None:
    """Every file that a page or a script names, of any page, is served with its type; nothing else is."""
    named = set(re.findall(r'(?:src|href)="(/\w+/assets/[^"]+)"', service.anonymous.get(f"/{page}").text))
    assert len(named) >= 3
    for file in (_FOLDER / page / "assets").iterdir():
        named.add(f"/{page}/assets/{file.name}")
        imported = re.findall(r'(?:from|import) "((?!node:)[^"]+)"', file.read_text())
        named |= {urljoin(f"/{page}/assets/", name) for name in imported}
    for path in named:
        answer = service.anonymous.get(path)
        assert answer.status_code == 200, path
        assert answer.headers["Content-Type"] == _TYPES[Path(path).suffix]
    for path in (f"/{page}/assets/", f"/{page}/assets/none.js", f"/{page}/assets/%2e%2e/index.html"):
        refused(service.anonymous.get(path), 404, "not_found")
    refused(service.anonymous.post(f"/{page}"), 405, "method_not_allowed")


@pytest.mark.parametrize("folder", ["/checkout/assets/", "/console/assets/", "/schema/assets/"])
@pytest.mark.parametrize("name", ["%00", "a%00b", "a" * 300, "a/" * 2500, "%ff", "%2e%2e%2f%00"])
def test_impossible_file_names(service: Service, folder: str, name: str) -> None:
    """A file name with a NUL, or one too long for the file system, is not found."""
    assert service.anonymous.get(folder + name).status_code in (400, 404)


def test_nothing_inline_and_nothing_from_elsewhere() -> None:
    """No file has an inline script, style or handler, which the policy would stop, or another host's address."""
    for file in _FOLDER.rglob("*.*"):
        text = file.read_text()
        assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)", text), file.name
        assert not re.search(r"<script(?![^>]* src=)|<style|\sstyle=|\son\w+=|innerHTML|outerHTML", text), file.name


@pytest.mark.parametrize(
    ("embedded", "host", "key"),
    [(True, "127.0.0.1", "demo_checkout"), (True, "0.0.0.0", ""), (False, "127.0.0.1", "")],
)
def test_prefilled_key(embedded: bool, host: str, key: str) -> None:
    """The page has the demo's key if the database is embedded and the address is loopback."""
    assert pages.prefilled_key(load(embedded=embedded, host=host)) == key


def test_where_the_key_is(service: Service) -> None:
    """`scrip run` with its own database prefills the demo's key; the file on disk has none."""
    assert '<meta name="scrip-key" content="demo_checkout">' in service.anonymous.get("/checkout").text
    assert "demo_checkout" not in (_FOLDER / "checkout" / "index.html").read_text()

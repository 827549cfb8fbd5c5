"""The OpenAPI document is made once for each process, and not by the event loop."""

import asyncio
import threading
from typing import Any

import pytest
from litestar.testing import AsyncTestClient

from service.common.config import Settings
from service.console import pages
from service.serving.app import create_app


async def test_first_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    """Readers that come at once wait for one thread's document, and get the same bytes; the page waits for it, too."""
    made: list[threading.Thread] = []
    make = pages._make_document

    def count(request: Any) -> bytes:
        made.append(threading.current_thread())
        return make(request)

    monkeypatch.setattr(pages, "_make_document", count)
    app = create_app(Settings())
    app._lifespan_managers = []  # no stores
    async with AsyncTestClient(app) as client:
        paths = ["/schema", *["/schema/openapi.json"] * 4]
        page, *answers = await asyncio.gather(*(client.get(path) for path in paths))
    assert (page.status_code, {answer.content for answer in answers}) == (200, {answers[0].content})
    assert answers[0].json()["info"]["title"] == "Scrip"
    assert len(made) == 1
    assert made[0] is not threading.main_thread()

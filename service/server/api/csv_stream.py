"""Sending a CSV file of any length in bounded memory: exports.py, audit.py and jobs.py return a CsvFile."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import structlog
from litestar import Request, Response
from litestar.response.base import ASGIResponse
from litestar.types import Receive, Scope, Send

from service.server.api.bulk import Bulk
from service.server.api.csv_rows import MEDIA_TYPE

STALLED_S = 60.0
"""A client that accepts no data for this time is disconnected, so that it does not block another export."""

log = structlog.get_logger()


class CsvFile(Response[str]):
    """A CSV file that is sent piece by piece.

    1. Take an export slot, and wait for the first piece. An error up to here is a problem document.
    2. Send each piece before the next one is read, so that a slow client slows the reading.
    3. Stop if the client disconnects, or accepts no data for a minute.
    4. On an error after the first piece, break the connection, so that the client detects the incomplete file.
    """

    def __init__(
        self, bulk: Bulk, workspace: int, pieces: AsyncIterator[bytes], filename: str, headers: dict[str, str]
    ) -> None:
        disposition = {"Content-Disposition": f'attachment; filename="{filename}"'}
        super().__init__("", headers=headers | disposition, media_type=MEDIA_TYPE)
        self._bulk, self._workspace, self._pieces = bulk, workspace, pieces

    def to_asgi_response(self, app: Any, request: Request[Any, Any, Any], **options: Any) -> ASGIResponse:  # type: ignore[override]
        """The ASGI response for Litestar."""
        return _Sending(self._bulk, self._workspace, self._pieces, headers=self.headers, media_type=MEDIA_TYPE)


class _Sending(ASGIResponse):
    _should_set_content_length = False

    def __init__(self, bulk: Bulk, workspace: int, pieces: AsyncIterator[bytes], **options: Any) -> None:
        super().__init__(**options)
        self._bulk, self._workspace, self._pieces = bulk, workspace, pieces

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._bulk.exports.one(self._workspace):
            sending = asyncio.create_task(self._send(send), name="export")
            disconnected = asyncio.create_task(_wait_disconnected(receive), name="export-client")
            try:
                await asyncio.wait((sending, disconnected), return_when=asyncio.FIRST_COMPLETED)
            finally:
                disconnected.cancel()
                if not sending.done():
                    sending.cancel()
                await asyncio.gather(sending, disconnected, return_exceptions=True)
        if not sending.cancelled():
            sending.result()

    async def _send(self, send: Send) -> None:
        async with contextlib.aclosing(self._pieces) as pieces:  # type: ignore[type-var]
            started = False
            async for piece in pieces:
                if not started:
                    await self.start_response(send)
                    started = True
                try:
                    async with asyncio.timeout(STALLED_S):
                        await send({"type": "http.response.body", "body": piece, "more_body": True})
                except TimeoutError:
                    log.info("export_stalled")
                    return
                await self._bulk.turns.take(self._workspace)
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _wait_disconnected(receive: Receive) -> None:
    """Return when the client has disconnected."""
    while (await receive())["type"] != "http.disconnect":
        pass

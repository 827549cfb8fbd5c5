"""Sending a CSV file of any length in bounded memory."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from typing import Any

import structlog
from litestar import Request, Response
from litestar.response.base import ASGIResponse
from litestar.types import Receive, Scope, Send

from service.api.csv_rows import MEDIA_TYPE
from service.domain.errors import Refusal

MAX_EXPORTS = 4
"""Exports at one time, shared out among the processes of an address: they share the event loop with requests."""
STALLED_S = 60.0
"""A client that accepts no data for this time is disconnected, so that it does not block another export."""

log = structlog.get_logger()


class ExportSlots:
    """Limits the concurrent exports of this process."""

    def __init__(self, most: int = MAX_EXPORTS) -> None:
        self.running, self._most = 0, most

    @contextlib.contextmanager
    def one(self) -> Iterator[None]:
        """Occupy a slot within the `with` block. Raises Refusal `unavailable` if no slot is free."""
        if self.running >= self._most:
            raise Refusal.temporary(
                "unavailable", "The limit of concurrent exports is reached; try again shortly.", 2000, 6000
            )
        self.running += 1
        try:
            yield
        finally:
            self.running -= 1


class CsvFile(Response[str]):
    """A CSV file that is sent piece by piece.

    1. Take an export slot, and wait for the first piece. An error up to here is a problem document.
    2. Send each piece before the next one is read, so that a slow client slows the reading.
    3. Stop if the client disconnects, or accepts no data for a minute.
    4. On an error after the first piece, break the connection, so that the client detects the incomplete file.
    """

    def __init__(
        self, slots: ExportSlots, pieces: AsyncIterator[bytes], filename: str, headers: dict[str, str]
    ) -> None:
        disposition = {"Content-Disposition": f'attachment; filename="{filename}"'}
        super().__init__("", headers=headers | disposition, media_type=MEDIA_TYPE)
        self._slots, self._pieces = slots, pieces

    def to_asgi_response(self, app: Any, request: Request[Any, Any, Any], **options: Any) -> ASGIResponse:  # type: ignore[override]
        """The ASGI response for Litestar."""
        return _Sending(self._slots, self._pieces, headers=self.headers, media_type=MEDIA_TYPE)


class _Sending(ASGIResponse):
    _should_set_content_length = False

    def __init__(self, slots: ExportSlots, pieces: AsyncIterator[bytes], **options: Any) -> None:
        super().__init__(**options)
        self._slots, self._pieces = slots, pieces

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._slots.one():
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
                await asyncio.sleep(0)
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _wait_disconnected(receive: Receive) -> None:
    """Return when the client has disconnected."""
    while (await receive())["type"] != "http.disconnect":
        pass

"""Sending a CSV file of any length in little memory."""

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
"""At once, shared out among the processes of an address: each works on a loop that decides requests."""
STALLED_S = 60.0
"""A client that takes nothing for so long is given up, so that it keeps no other from its export."""

log = structlog.get_logger()


class ExportSlots:
    """Counts what is being exported by this process."""

    def __init__(self, most: int = MAX_EXPORTS) -> None:
        self.running, self._most = 0, most

    @contextlib.contextmanager
    def one(self) -> Iterator[None]:
        """While an export runs. Raises Refusal `unavailable` where as many run as may."""
        if self.running >= self._most:
            raise Refusal.temporary("unavailable", "As many exports run as may; try again shortly.", 2000, 6000)
        self.running += 1
        try:
            yield
        finally:
            self.running -= 1


class CsvFile(Response[str]):
    """A file of CSV, sent as its pieces come.

    1. It takes a place among the exports, or is refused, and waits for the first piece: until then an error is a
       problem like any other.
    2. Each piece is sent before the next is asked for, so that a slow client slows the reading, and the loop gets its
       turn in between.
    3. A client that goes away, or takes nothing for a minute, ends it.
    4. An error after the first piece breaks the connection off: the file has no end that a client could take for one.
    """

    def __init__(
        self, slots: ExportSlots, pieces: AsyncIterator[bytes], filename: str, headers: dict[str, str]
    ) -> None:
        disposition = {"Content-Disposition": f'attachment; filename="{filename}"'}
        super().__init__("", headers=headers | disposition, media_type=MEDIA_TYPE)
        self._slots, self._pieces = slots, pieces

    def to_asgi_response(self, app: Any, request: Request[Any, Any, Any], **options: Any) -> ASGIResponse:  # type: ignore[override]
        """What Litestar sends."""
        return _Sending(self._slots, self._pieces, headers=self.headers, media_type=MEDIA_TYPE)


class _Sending(ASGIResponse):
    _should_set_content_length = False

    def __init__(self, slots: ExportSlots, pieces: AsyncIterator[bytes], **options: Any) -> None:
        super().__init__(**options)
        self._slots, self._pieces = slots, pieces

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._slots.one():
            sending = asyncio.create_task(self._send(send), name="export")
            gone = asyncio.create_task(_gone(receive), name="export-client")
            try:
                await asyncio.wait((sending, gone), return_when=asyncio.FIRST_COMPLETED)
            finally:
                gone.cancel()
                if not sending.done():
                    sending.cancel()
                await asyncio.gather(sending, gone, return_exceptions=True)
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


async def _gone(receive: Receive) -> None:
    """Wait until the client has gone away."""
    while (await receive())["type"] != "http.disconnect":
        pass

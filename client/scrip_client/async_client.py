"""The asynchronous client, for asyncio. client.py has the same without `await`; core.py and shell.py have the rest."""

import asyncio
from asyncio import sleep
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any, BinaryIO, Self, TypeVar, Unpack

import httpx2

from scrip_client import hold
from scrip_client.core import Answer, Call, Reply, broken_file, exchange, next_page
from scrip_client.errors import OutcomeUnknown, ScripError
from scrip_client.generated.models import DurableRedemption, Lock, Page
from scrip_client.shell import Shell

T = TypeVar("T")
_READ_BYTES = 64 << 10


class AsyncClient(Shell[httpx2.AsyncClient]):
    """A client of one workspace, with a method for each operation. Tasks of one event loop may share it."""

    _make_http = httpx2.AsyncClient

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def send(self, call: Call[T]) -> Answer[T]:
        """Send a call, of `operations` or of an error, and return the whole answer."""
        steps = exchange(call, self._settings)
        reply: Reply | None = None
        while True:
            try:
                step = steps.send(reply)
            except StopIteration as ended:
                return ended.value
            reply = None
            if isinstance(step, float):
                await sleep(step)
            else:
                reply = await self._attempt(step, call.is_stream)

    async def _attempt(self, request: dict[str, Any], is_stream: bool) -> Reply:
        if request["content"] and not isinstance(request["content"], bytes):
            request["content"] = _read_file(request["content"])
        try:
            response = await self._http.send(self._http.build_request(**request), stream=is_stream)
            if is_stream and not response.is_success:
                await response.aread()
        except httpx2.RequestError as error:
            return error
        return response

    async def fetch(self, call: Call[T]) -> T:
        """Send a call, and return the answer's body."""
        return (await self.send(call)).value

    async def iterate(self, call: Call[Page[T]]) -> AsyncIterator[T]:
        """Yield the items of a list, of this page and all after it."""
        following: Call[Page[T]] | None = call
        while following:
            page = await self.fetch(following)
            for item in page.items:
                yield item
            following = next_page(following, page)

    @asynccontextmanager
    async def stream(self, call: Call[bytes]) -> AsyncIterator[AsyncIterator[bytes]]:
        """Send a call whose answer is a file. In the block its parts arrive; Unreachable if it breaks off."""
        response: Any = (await self.send(call)).value

        async def read() -> AsyncIterator[bytes]:
            try:
                async for part in response.aiter_bytes():
                    yield part
            except httpx2.RequestError as error:
                raise broken_file(call, error) from error

        try:
            yield read()
        finally:
            await response.aclose()

    @asynccontextmanager
    async def hold_coupon(
        self,
        code: str,
        *,
        user_id: str,
        order_id: str | None = None,
        lock_seconds: int = hold.SECONDS,
        **price: Unpack[hold.PriceFields],
    ) -> AsyncIterator["AsyncHeld"]:
        """Lock a coupon for the block, and extend the lock while the block runs. At its end the lock is released,
        unless it was redeemed, or that is unknown."""
        lock = await self.lock_coupon(code, user_id=user_id, order_id=order_id, lock_seconds=lock_seconds, **price)
        held = AsyncHeld(self, lock, lock_seconds)
        extending = asyncio.create_task(held.extend())
        try:
            yield held
        except OutcomeUnknown:
            held.is_over = True
            raise
        finally:
            extending.cancel()
            await asyncio.wait([extending])
            if not held.is_over:
                with suppress(ScripError):
                    await self.within(hold.DEADLINE_S).fetch(held.unlock_call())


class AsyncHeld(hold.Hold):
    """A coupon that is locked for a block of code."""

    def __init__(self, client: AsyncClient, lock: Lock, lock_seconds: int) -> None:
        super().__init__(lock, lock_seconds)
        self._client = client

    async def redeem(self, **fields: Unpack[hold.RedeemFields]) -> DurableRedemption:
        """Redeem the coupon under its lock."""
        redemption = await self._client.fetch(self.redeem_call(fields))
        self.is_over = True
        return redemption

    async def extend(self) -> None:
        """Extend the lock again and again. A task runs this."""
        client = self._client.within(hold.DEADLINE_S)
        while True:
            await asyncio.sleep(self.pause_s)
            try:
                self.lock = await client.fetch(self.extend_call())
            except ScripError as failure:
                if not self.can_extend_after(failure):
                    return


async def _read_file(file: BinaryIO) -> AsyncIterator[bytes]:
    while part := await asyncio.to_thread(file.read, _READ_BYTES):
        yield part

"""The synchronous client. async_client.py has the same, awaited; core.py and shell.py have what both share."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from time import sleep
from typing import Any, Self, TypeVar, Unpack

import httpx2

from scrip_client import hold
from scrip_client.core import Answer, Call, Reply, broken_file, exchange, next_page
from scrip_client.errors import OutcomeUnknown, ScripError
from scrip_client.generated.models import DurableRedemption, Lock, Page
from scrip_client.shell import Shell

T = TypeVar("T")


class Client(Shell[httpx2.Client]):
    """A client of one workspace, with a method for each operation. Threads may share it."""

    _make_http = httpx2.Client

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def send(self, call: Call[T]) -> Answer[T]:
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
                sleep(step)
            else:
                reply = self._attempt(step, call.is_stream)

    def _attempt(self, request: dict[str, Any], is_stream: bool) -> Reply:
        try:
            response = self._http.send(self._http.build_request(**request), stream=is_stream)
            if is_stream and not response.is_success:
                response.read()
        except httpx2.RequestError as error:
            return error
        return response

    def fetch(self, call: Call[T]) -> T:
        """Send a call, and return the answer's body."""
        return self.send(call).value

    def iterate(self, call: Call[Page[T]]) -> Iterator[T]:
        """Yield the items of a list, of this page and all after it."""
        following: Call[Page[T]] | None = call
        while following:
            page = self.fetch(following)
            yield from page.items
            following = next_page(following, page)

    @contextmanager
    def stream(self, call: Call[bytes]) -> Iterator[Iterator[bytes]]:
        """Send a call whose answer is a file. In the block its parts arrive; Unreachable if it breaks off."""
        response: Any = self.send(call).value

        def read() -> Iterator[bytes]:
            try:
                yield from response.iter_bytes()
            except httpx2.RequestError as error:
                raise broken_file(call, error) from error

        try:
            yield read()
        finally:
            response.close()

    @contextmanager
    def hold_coupon(
        self,
        code: str,
        *,
        user_id: str,
        order_id: str | None = None,
        lock_seconds: int = hold.SECONDS,
        **price: Unpack[hold.PriceFields],
    ) -> Iterator["Held"]:
        """Lock a coupon for the block, and extend the lock while the block runs. At its end the lock is released,
        unless it was redeemed, or that is unknown."""
        lock = self.lock_coupon(code, user_id=user_id, order_id=order_id, lock_seconds=lock_seconds, **price)
        held, ended = Held(self, lock, lock_seconds), threading.Event()
        extending = threading.Thread(target=held.extend_until, args=(ended,), daemon=True)
        extending.start()
        try:
            yield held
        except OutcomeUnknown:
            held.is_over = True
            raise
        finally:
            ended.set()
            extending.join()
            if not held.is_over:
                with suppress(ScripError):
                    self.within(hold.DEADLINE_S).fetch(held.unlock_call())


class Held(hold.Hold):
    """A coupon that is locked for a block of code."""

    def __init__(self, client: Client, lock: Lock, lock_seconds: int) -> None:
        super().__init__(lock, lock_seconds)
        self._client = client

    def redeem(self, **fields: Unpack[hold.RedeemFields]) -> DurableRedemption:
        """Redeem the coupon under its lock."""
        redemption = self._client.fetch(self.redeem_call(fields))
        self.is_over = True
        return redemption

    def extend_until(self, ended: threading.Event) -> None:
        """Extend the lock again and again. A thread runs this."""
        client = self._client.within(hold.DEADLINE_S)
        while not ended.wait(self.pause_s):
            try:
                self.lock = client.fetch(self.extend_call())
            except ScripError as failure:
                if not self.can_extend_after(failure):
                    return

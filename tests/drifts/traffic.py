"""Buyers and a merchant who do a bit of everything while things are compared."""

import random
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Self

import httpx

from tests.service_fixture import Service, new_code, new_id

BUYERS = 3


class Traffic:
    """Assigned, taken back, locked, redeemed, rolled back, configured, until it is stopped, or its time is over; the
    merchant changes something about so often."""

    def __init__(self, service: Service, seconds: float, change_every_s: float = 0.0, seed: int = 1) -> None:
        self._service, self._change_every_s, self._seed = service, change_every_s, seed
        self._codes = [new_code() for _ in range(40)]
        self._public = [new_code() for _ in range(2)]
        self._users = [new_id() for _ in range(5)]
        service.book(*self._codes)
        self.book_id = service.book(*self._public, maxRedemptionsPerCode=1_000_000)
        self._ending, self._over = time.monotonic() + seconds, threading.Event()
        self._threads = ThreadPoolExecutor(BUYERS + 1)
        self._buyers: list[Future[int]] = []

    def __enter__(self) -> Self:
        self._buyers = [self._threads.submit(self._buy, place) for place in range(BUYERS)]
        self._merchant = self._threads.submit(self._configure)
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._threads.shutdown()

    @property
    def going(self) -> bool:
        """Whether its time isn't over."""
        return not self._over.is_set() and time.monotonic() < self._ending

    def went_well(self) -> int:
        """Stop it; how many of the buyers' requests did."""
        self._over.set()
        self._merchant.result()
        return sum(buyer.result() for buyer in self._buyers)

    def _client(self, client: httpx.Client) -> httpx.Client:
        return httpx.Client(base_url=client.base_url, headers=client.headers, timeout=30)

    def _buy(self, place: int) -> int:
        """What a buyer does, and what is undone of it."""
        checkout, manage = self._client(self._service.checkout), self._client(self._service.manage)
        chance, went_well = random.Random(f"{self._seed}-{place}"), 0
        codes = self._codes[place::BUYERS] + self._public
        while self.going:
            code, user, order = chance.choice(codes), chance.choice(self._users), new_id("order")
            said = {"userId": user, "orderId": order}
            path = chance.choice(("assign", "lock", "redeem", "redeem", "unassign"))
            client = manage if path == "unassign" else checkout
            body: dict[str, Any] = {} if path == "unassign" else {"userId": user} if path == "assign" else said
            headers = {"Idempotency-Key": new_id("key")} if path == "redeem" else {}
            answer = client.post(f"/v1/coupons/{path}/{code}", json=body, headers=headers)
            went_well += answer.is_success
            if path == "redeem" and answer.is_success and chance.random() < 0.7:
                manage.post(f"/v1/orders/{order}/rollback", json={"restore": chance.random() < 0.8})
        return went_well

    def _configure(self) -> None:
        manage, chance = self._client(self._service.manage), random.Random(self._seed)
        while self.going:
            code = chance.choice(self._codes)
            for said in ({"status": "inactive"}, {"status": "active"}, {"expiresAt": "2036-01-01T00:00:00Z"}):
                manage.patch(f"/v1/coupons/{code}", json=said)
                self._over.wait(self._change_every_s)
            book = manage.post("/v1/books", json={"name": "Another"}).json()["bookId"]
            manage.post(f"/v1/books/{book}/codes", json={"codes": [new_code() for _ in range(5)]})

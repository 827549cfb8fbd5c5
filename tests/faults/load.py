"""Buyers that go on while parts of the service die, and what must be true of what they were answered."""

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from uuid import UUID

import httpx

from tests.service_fixture import Service, new_code, ok

PATIENCE_S = 120.0
BUYERS = 4
_PAUSE_S = 0.02


class Load:
    """Redeems each of a book's new codes once, again under the same Idempotency-Key until it is answered 201."""

    def __init__(self, service: Service, codes: int) -> None:
        self.service = service
        self.codes = [new_code() for _ in range(codes)]
        self.book = service.book(*self.codes, discount={"type": "fixed", "value": 1})
        self.answers: dict[str, bytes] = {}
        """The answer's body by code."""
        self.refused: Counter[str] = Counter()
        self.wrong: list[str] = []
        self._waiting = iter(self.codes)
        self._next = threading.Lock()
        self._stopped = False

    @contextmanager
    def running(self) -> Iterator["Load"]:
        """Buy while the block runs, and until everything is bought."""
        threads = [threading.Thread(target=self._buy, daemon=True) for _ in range(BUYERS)]
        for thread in threads:
            thread.start()
        try:
            yield self
            deadline = time.monotonic() + PATIENCE_S
            for thread in threads:
                thread.join(max(0.0, deadline - time.monotonic()))
        finally:
            self._stopped = True
        assert self.wrong == []
        assert len(self.answers) == len(self.codes), (self.refused, self.service.run.output.read_text()[-4000:])

    def until(self, answers: int) -> None:
        """Wait until so many were answered."""
        wait(lambda: len(self.answers) >= answers or self.wrong)

    def ask(self, code: str, client: httpx.Client | None = None) -> httpx.Response:
        """The one request for a code."""
        body = {"userId": f"user-{code}", "orderId": f"order-{code}", "orderValue": 5}
        path, headers = f"/v1/coupons/redeem/{code}", {"Idempotency-Key": code}
        return (client or self.service.checkout).post(path, json=body, headers=headers)

    def _buy(self) -> None:
        headers = {"Authorization": "Bearer demo_checkout"}
        with httpx.Client(base_url=self.service.run.url, headers=headers, timeout=10) as client:
            while not self._stopped:
                with self._next:
                    code = next(self._waiting, None)
                if code is None:
                    return
                while not self._stopped and not self._bought(code, client):
                    time.sleep(_PAUSE_S)

    def _bought(self, code: str, client: httpx.Client) -> bool:
        try:
            answer = self.ask(code, client)
        except httpx.TransportError as error:
            self.refused[type(error).__name__] += 1
            return False
        if answer.status_code == 201:
            self.answers[code] = answer.content
            return True
        problem = answer.json()
        self.refused[problem.get("code")] += 1
        if answer.status_code != 503 or not 1 <= int(answer.headers.get("Retry-After", 0)) <= 5:
            self.wrong.append(f"{answer.status_code} {answer.headers} {answer.text}")
        return answer.status_code != 503

    async def check(self) -> None:
        """Every answer is recorded once, as it was answered, and is answered again; counts say the same."""
        await recorded(self.service)
        rows = await self.service.fetch(
            "SELECT code, redemption_id FROM redemptions WHERE code = ANY($1) ORDER BY code", self.codes
        )
        told = {code: UUID(ok_body(body)["redemptionId"]) for code, body in self.answers.items()}
        assert [(row["code"], row["redemption_id"]) for row in rows] == sorted(told.items())
        assert await self.service.fetch("SELECT * FROM quarantine") == []
        stats = self.service.stats(self.book)
        wanted = {"codes": len(told), "redeemed": len(told), "redemptions": len(told), "users": len(told)}
        assert {name: stats[name] for name in wanted} == wanted
        assert stats["discountTotal"] == f"{len(told)}.00"
        for code, body in list(self.answers.items())[::7]:
            again = self.ask(code)
            assert (again.status_code, again.content) == (201, body)
            assert again.headers["Idempotency-Replayed"] == "true"


def ok_body(body: bytes) -> Any:
    """An answer's JSON."""
    return httpx.Response(200, content=body).json()


def wait(reached: Callable[[], Any], patience_s: float = PATIENCE_S) -> Any:
    """What `reached` says once that is true; while the service can't be reached it isn't."""
    deadline = time.monotonic() + patience_s
    while True:
        try:
            if found := reached():
                return found
        except httpx.TransportError:
            pass
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.02)


async def recorded(service: Service) -> None:
    """Wait until everything that was answered is recorded."""
    wait(service.run.ready)
    wait(lambda: settled(ok(service.operate.get("/v1/ops/consistency"))))


def settled(consistency: dict[str, Any]) -> bool:
    """Whether nothing is left to record."""
    return (consistency["state"], consistency["lagEvents"]) == ("open", 0)


def views(service: Service, codes: list[str]) -> dict[str, Any]:
    """Coupons as they are seen, but for locks, which live in Redis alone."""
    found: dict[str, Any] = {}
    for code in codes:
        seen = ok(service.admin.get(f"/v1/coupons/{code}"))
        if seen.pop("lock"):
            seen["status"] = "assigned" if seen["userId"] else "available"
        found[code] = seen
    return found

"""Buyers and a merchant who fill a ledger."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from tests.faults.ledger import BOOK_USES, PAUSE_S, Answer, Ledger
from tests.faults.nodes import PATIENCE_S
from tests.service_fixture import new_id

BUYERS = 8


@asynccontextmanager
async def buying(ledger: Ledger, buyers: int = BUYERS) -> AsyncIterator[None]:
    """Buy while the block runs; then until everything that was asked is answered, and give all locks back."""
    doing = [asyncio.create_task(_Buyers(ledger).run()) for _ in range(buyers)]
    doing.append(asyncio.create_task(_Merchant(ledger).run()))
    try:
        async with ledger.watched():
            yield
            ledger.ended = True
            async with asyncio.timeout(PATIENCE_S):
                await asyncio.gather(*doing)
        for token, code in ledger.tokens.items():
            await ledger.ask("unlock", f"/v1/coupons/unlock/{code}", {"lockToken": token}, {204})
    finally:
        ledger.ended = True
        for task in doing:
            task.cancel()
        await asyncio.gather(*doing, return_exceptions=True)


class _SoldOut(Exception):
    """All codes are used."""


class _Buyers:
    """Buyers of codes of their own, who also meet at shared limits."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger, self._random, self._books = ledger, ledger.random, ledger.books
        self._ask, self._redeem = ledger.ask, ledger.redeem

    async def run(self) -> None:
        """Buy until the ledger is ended, or all is sold."""
        doings: list[Callable[[], Awaitable[None]]] = [
            *(self._assign_any, self._assign_then_redeem, self._lock_then_redeem, self._lock_then_unlock),
            *(self._redeem_alone, self._redeem_alone, self._checkout, self._roll_back, self._roll_back_order),
            *(self._rush_a_code, self._rush_a_code_without_key, self._rush_a_user, self._rush_a_book),
            *(self._rush_a_book_by_lock, self._leave_a_lock, self._rush_assigning, self._rush_an_order),
        ]
        while not self._ledger.ended:
            if not self._ledger.paused:
                try:
                    await self._random.choice(doings)()
                except _SoldOut:
                    return
            await asyncio.sleep(PAUSE_S)

    def _next(self) -> str:
        code = next(self._ledger.unused, None)
        if code is None:
            raise _SoldOut
        self._ledger.asked_codes.add(code)
        return code

    async def _redeem_alone(self) -> None:
        await self._redeem(self._next())

    async def _assign_any(self) -> None:
        body = {"bookId": self._books.gifts, "userId": new_id()}
        recorded = self._ledger.wants_record()
        await self._ask("assign", "/v1/coupons/assign", body, {201}, "out_of_stock", recorded=recorded)

    async def _assign_then_redeem(self) -> None:
        code, user = self._next(), new_id()
        body = {"userId": user}
        await self._ask("assign", f"/v1/coupons/assign/{code}", body, {201}, recorded=self._ledger.wants_record())
        await self._redeem(code, userId=user)

    async def _lock(self, code: str, user: str, order: str, *refusals: str) -> Answer:
        body = {"userId": user, "orderId": order}
        locked = await self._ask("lock", f"/v1/coupons/lock/{code}", body, {201, 200}, *refusals)
        if locked.succeeded:
            self._ledger.tokens[locked.said["lockToken"]] = code
        return locked

    async def _lock_then_redeem(self) -> None:
        code, user, order = self._next(), new_id(), new_id("order")
        locked = await self._lock(code, user, order)
        about: dict[str, Any] = {"userId": user, "orderId": order}
        told = await self._redeem(code, "lock_lost", **about, lockToken=locked.said.get("lockToken", ""))
        if told.code == "lock_lost":
            await self._redeem(code, **about)

    async def _lock_then_unlock(self) -> None:
        code = self._next()
        locked = await self._lock(code, new_id(), new_id("order"))
        await self._unlock(code, locked)

    async def _unlock(self, code: str, locked: Answer) -> None:
        body = {"lockToken": locked.said.get("lockToken", "")}
        await self._ask("unlock", f"/v1/coupons/unlock/{code}", body, {204})

    async def _checkout(self) -> None:
        body = {"userId": new_id(), "orderId": new_id("order"), "orderValue": "30.00"}
        if self._random.random() < 0.8:
            body["code"] = self._next()
        else:
            body["giftBookId"] = self._books.gifts
        await self._ask("checkout", "/v1/checkout", body, {201}, recorded=self._ledger.wants_record())

    async def _roll_back(self) -> None:
        """Twice at once, so that one is too late."""
        told = await self._redeem(self._next())
        if not (redemption := told.said.get("redemptionId")):
            return
        body = {"reason": "drill", "restore": self._random.random() < 0.7}
        path = f"/v1/redemptions/{redemption}/rollback"
        # Not found where the redemption was lost meanwhile: the judge knows.
        refusals, recorded = ("redemption_not_found", "already_rolled_back"), self._ledger.wants_record()
        asked = (self._ask("rollback", path, body, {200}, *refusals, recorded=recorded) for _ in range(2))
        await asyncio.gather(*asked)

    async def _roll_back_order(self) -> None:
        code, order = self._next(), new_id("order")
        body = {"userId": new_id(), "orderId": order, "orderValue": "30.00", "code": code}
        await self._ask("checkout", "/v1/checkout", body, {201})
        path, recorded = f"/v1/orders/{order}/rollback", self._ledger.wants_record()
        await self._ask("order", path, {"reason": "drill"}, {200}, "order_not_found", recorded=recorded)

    async def _rush_a_code(self) -> None:
        await self._redeem(self._random.choice(self._books.shared), "coupon_exhausted")

    async def _rush_a_code_without_key(self) -> None:
        """Nothing tells a repeat of this from another one: what repeats it by itself spends two uses."""
        code = self._random.choice(self._books.shared)
        body = {"userId": new_id(), "orderValue": "20.00"}
        await self._ledger.ask_once("redeem", f"/v1/coupons/redeem/{code}", body, {201}, "coupon_exhausted")

    async def _rush_a_user(self) -> None:
        user = f"greedy-{self._books.user[-8:]}-{self._random.randrange(6)}"
        if left := self._ledger.unasked(self._books.user):
            await self._redeem(left[0], "user_redemption_limit", userId=user)

    def _of_a_total(self, book: str) -> str | None:
        """A code of a book whose total all want; the last ones are for the end."""
        left = self._ledger.unasked(book)
        if len(left) <= BOOK_USES + 2:
            return None
        self._ledger.asked_codes.add(left[0])
        return left[0]

    async def _rush_a_book(self) -> None:
        if code := self._of_a_total(self._books.total):
            await self._redeem(code, "out_of_stock")

    async def _rush_a_book_by_lock(self) -> None:
        """Who has a lock has a use of the total, too."""
        if not (code := self._of_a_total(self._books.held)):
            return
        user, order = new_id(), new_id("order")
        locked = await self._lock(code, user, order, "out_of_stock")
        if not locked.succeeded:
            return
        await asyncio.sleep(self._random.uniform(0, 0.3))
        if self._random.random() < 0.3:
            token = locked.said["lockToken"]
            await self._redeem(code, "lock_lost", userId=user, orderId=order, lockToken=token)
        else:
            await self._unlock(code, locked)

    async def _leave_a_lock(self) -> None:
        if self._ledger.leaves_locks and (code := self._of_a_total(self._books.left)):
            body = {"userId": new_id(), "orderId": new_id("order")}
            await self._ask("leave", f"/v1/coupons/lock/{code}", body, {201, 200}, "out_of_stock")

    async def _rush_assigning(self) -> None:
        user = f"taker-{self._books.user[-8:]}-{self._random.randrange(30)}"
        body = {"bookId": self._books.assigned, "userId": user}
        refusals, recorded = ("user_code_limit", "out_of_stock"), self._ledger.wants_record()
        await self._ask("assign", "/v1/coupons/assign", body, {201}, *refusals, recorded=recorded)

    async def _rush_an_order(self) -> None:
        order = f"order-{self._books.user[-8:]}-{self._random.randrange(12)}"
        await self._redeem(self._next(), "order_already_used", orderId=order)


class _Merchant:
    """Makes books, adds codes, switches a code off, patches a limit, and sees at once that it governs."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    async def run(self) -> None:
        """Until the ledger is ended."""
        while not self._ledger.ended:
            if not self._ledger.paused:
                await self._manage()
            await asyncio.sleep(PAUSE_S)

    async def _manage(self) -> None:
        ledger = self._ledger
        codes = ledger.new_codes(4)
        book = await ledger.book(*codes)
        used, off, *_, last = codes
        await ledger.ask("switch", f"/v1/coupons/{off}", {"status": "inactive"}, {200}, method="PATCH")
        ledger.switched_off.append(off)
        await ledger.redeem(off, "coupon_inactive", wanted=set())
        while not ledger.ended:
            told = await ledger.redeem(used, recorded=True)
            if told.durability == "recorded":
                break  # else it may be lost, and the limit not reached
            used = ledger.new_codes(1)[0]
            await ledger.ask("upload", f"/v1/books/{book}/codes", {"codes": [used]}, {200})
            ledger.book_codes[book].append(used)
        else:
            return
        await ledger.ask("limit", f"/v1/books/{book}", {"maxRedemptions": 1}, {200}, method="PATCH")
        ledger.limits[book] = last
        await ledger.redeem(last, "out_of_stock", wanted=set())

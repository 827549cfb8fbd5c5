"""A shop for tests: one workspace on one Redis, opened as the worker opens it, and its operations without HTTP."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Sequence
from decimal import Decimal
from typing import Any

import msgspec

from service.engine.domain.configuration import BookRow
from service.engine.domain.errors import Refusal
from service.engine.domain.outcomes import BY_CODE
from service.engine.formats import key_names
from service.engine.formats.discount_sum import join_sum
from service.engine.hot.scripts import ERASING, MENDING, Scripts
from service.engine.operations import assign, cards, checkout, coupon_view, gift, lock, redeem, rollback, unassign
from service.engine.operations.base import Call, Operation
from service.engine.operations.run import with_limits
from service.server.in_redis.workspace_state import LiveLocks, Workspace
from tests.harness.script_runner import EPOCH, STILL_CLOCK
from tests.harness.stocked import Stocked


class Shop(Stocked):
    """Operations on workspace 1, each answering (status, body); a refusal answers (status, its code)."""

    async def do(
        self, operation: Operation, code: str | None, /, key: str = "", fingerprint: str = "", **body: Any
    ) -> Any:
        """Run an operation; `key` is an Idempotency-Key and `fingerprint` its request's fingerprint."""
        call = Call(self.caller, key, (fingerprint or "f") if key else "-", self.address, "tests")
        try:
            request = msgspec.convert(body, operation.request)
            command = operation.prepare(call, code, request)
            return await self.run(with_limits(call, command) if call.caller.limits else command)
        except Refusal as refusal:
            self.refusal, self.rates = refusal, refusal.rates
            return refusal.outcome.status, refusal.code

    async def raw(
        self, operation: Operation, code: str | None, /, key: str = "", fingerprint: str = "f", **body: Any
    ) -> Any:
        """As do, but the answer as it goes out: (status, bytes or None, replayed)."""
        call = Call(self.caller, key, fingerprint if key else "-", "192.0.2.1", "tests")
        command = operation.prepare(call, code, msgspec.convert(body, operation.request))
        return msgspec.structs.astuple(command.render(await self.decide(command), "accepted"))[:3]

    async def work(self, script: str, names: Sequence[str], *args: Any) -> Any:
        """The reply of a script that only the worker runs; by the still clock where there is one."""
        state = "closed" if script in {*MENDING} - {*ERASING} else "open"
        text = Scripts(0, EPOCH, self.nonce, [script], state).texts[script]
        if self.still_ms is not None:
            text = text.replace("redis.call('TIME')", f"redis.call('HMGET', '{STILL_CLOCK}', 's', 'us')")
        digest = await self.link.call("SCRIPT", "LOAD", text)
        return await self.link.call("EVALSHA", digest, len(names), *names, *args, EPOCH)

    async def count_before(self, row: BookRow, state: str = "", end: str = "", *things: Any) -> str:
        """A step of the worker's counting what was redeemed before the book had budgets. The state afterwards."""
        names = (self.caller.gate, f"{self.caller.prefix}w", key_names.outbox(0))
        _, now = await self.work("count_before", names, row.book, row.counted_from, state, end, *things)
        return str(now)

    async def refuses(self, code: str, asked: Awaitable[Any]) -> None:
        """What is asked is refused so, by its answer or as an error, and nothing is changed by it."""
        before = await self.everything()
        try:
            answer = await asked
        except Refusal as refusal:
            answer = refusal.outcome.status, refusal.code
        assert answer == (BY_CODE[code].status, code)
        assert await self.everything() == before

    async def retry_after_ms(self, ask: Any, *args: Any, **body: Any) -> tuple[str, int | None]:
        """The code of a refusal, and after what time it says to come again."""
        await ask(*args, **body)
        assert self.refusal
        return self.refusal.code, self.refusal.retry_after_ms

    async def assign(self, code: str, user: str, **more: Any) -> Any:
        return await self.do(assign.ASSIGN_CODE, code, userId=user, **more)

    async def assign_any(self, book: BookRow, user: str, **more: Any) -> Any:
        """Assign a random free coupon."""
        return await self.do(assign.ASSIGN_ANY, None, bookId=str(book.book_id), userId=user, **more)

    async def assign_book(self, book_id: str, user: str) -> Any:
        """Assign a random free coupon of the book with this id."""
        return await self.do(assign.ASSIGN_ANY, None, bookId=book_id, userId=user)

    async def unassign(self, code: str, **more: Any) -> Any:
        return await self.do(unassign.UNASSIGN, code, **more)

    async def lock(self, code: str, user: str, **more: Any) -> Any:
        _convert_amounts(more)
        return await self.do(lock.LOCK, code, userId=user, **more)

    async def extend(self, code: str, token: str, **more: Any) -> Any:
        return await self.do(lock.EXTEND, code, lockToken=token, **more)

    async def unlock(self, code: str, token: str, **more: Any) -> Any:
        return await self.do(lock.UNLOCK, code, lockToken=token, **more)

    async def redeem(self, code: str, user: str, **more: Any) -> Any:
        _convert_amounts(more)
        return await self.do(redeem.REDEEM, code, userId=user, **more)

    async def validate(self, code: str, **more: Any) -> Any:
        _convert_amounts(more)
        return await self.do(redeem.VALIDATE, None, code=code, **more)

    async def rollback(self, redemption_id: str, **more: Any) -> Any:
        return await self.do(rollback.ROLLBACK, redemption_id, **more)

    async def gift(self, book: BookRow, user: str, order: str, **more: Any) -> Any:
        return await self.do(gift.GIFT, user, bookId=str(book.book_id), orderId=order, **more)

    async def checkout(self, user: str, order: str, value: str = "10", **more: Any) -> Any:
        return await self.do(checkout.CHECKOUT, None, userId=user, orderId=order, orderValue=Decimal(value), **more)

    async def rollback_order(self, order: str, **more: Any) -> Any:
        return await self.do(rollback.ROLLBACK_ORDER, order, **more)

    async def credit(self, code: str, amount: str, **more: Any) -> Any:
        return await self.do(cards.CREDIT, code, amount=Decimal(amount), **more)

    async def close(self, code: str, **more: Any) -> Any:
        return await self.do(cards.CLOSE, code, **more)

    async def coupon(self, code: str) -> Any:
        return await self.do(coupon_view.READ, code)

    async def stats(self, book: BookRow) -> dict[str, int]:
        """A book's counts, as the script says them."""
        w = self.caller.prefix
        names = (self.caller.gate, f"{w}w", f"{w}x")
        reply = await self.decider.run(0, "book_stats", names, (str(book.book_id),))
        words = (
            "codes assigned locked_unassigned locked_assigned redeemed exhausted inactive redemptions rolled_back "
            "discount discount_high users touched taken"
        )
        counts = {name: int(value) for name, value in zip(words.split(), reply[1:15], strict=True)}
        return counts | {"discount_e4": join_sum(counts["discount"], counts["discount_high"])}

    async def live_locks(self, code: str) -> LiveLocks:
        return await Workspace(self.decider).coupon_locks(self.caller, code)

    async def held(self, user: str) -> int:
        """How many coupons the user holds."""
        return await Workspace(self.decider).user_coupons(self.caller, user)


def _convert_amounts(body: dict[str, Any]) -> None:
    body.update({name: Decimal(body[name]) for name in ("orderValue", "amount") if name in body})


async def together(*calls: Any) -> list[Any]:
    """Run all at once; their answers in order."""
    return list(await asyncio.gather(*calls))


def tally(answers: Sequence[Any]) -> dict[Any, int]:
    """How often each status with its refusal's code was answered."""
    return dict(Counter((status, body) if isinstance(body, str) else status for status, body in answers))

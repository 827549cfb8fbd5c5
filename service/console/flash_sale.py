"""A flash sale in the demo workspace, simulated by the service: many buyers for few coupons. Streams the progress; at
the end, compares the numbers of sales in responses, Redis and Postgres. session.py registers the route, and the
console's page reads each line by these names."""

import asyncio
import random
import secrets
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Annotated, Any

import msgspec
from litestar import Controller, Request, post
from litestar.response import Stream

from service.engine.deciding.recall import decide
from service.engine.domain import field_types
from service.engine.domain.configuration import BookRow
from service.engine.domain.decoding import convert
from service.engine.domain.errors import Refusal
from service.engine.domain.field_types import Answer
from service.engine.operations import lock, redeem
from service.engine.operations.base import Call
from service.engine.operations.caller import Caller
from service.engine.operations.run import begin_decoded, finish
from service.engine.operations.table import LOCK, REDEEM, UNLOCK, Row
from service.server.answers.accounting import answers, now_s
from service.server.api.auth import FOR_MANAGERS
from service.server.api.configuration_writes import Change
from service.server.api.context import Context
from service.server.api.durability import wait_until_recorded
from service.server.api.reading import read_json_body, unpack_request
from service.server.in_postgres.book_rows import create_book
from service.server.in_postgres.code_rows import add_codes
from service.server.in_postgres.timeline_queries import sold_of_book
from service.server.in_postgres.workspace_rows import read_workspace
from service.server.requests.book_requests import CreateBook
from service.server.requests.code_requests import CodeLine

MAX_BUYERS, MAX_COUPONS = 2_000, 1_000
ARRIVING_S, PATIENCE_S, ALL_OVER_S = 3.0, 10.0, 20.0
"""The time in which buyers arrive, the time one buyer retries a locked coupon, and the longest time of a sale."""
REPORT_S = 0.1
RECORD_S = 5
"""How long the proof waits for Postgres."""
WALKS_AWAY, CLICKS_TWICE = 0.1, 0.1
"""The shares of the buyers with a lock who unlock, and of the others who redeem twice."""
_MAX_BYTES = 4 << 10

_random = random.Random()  # noqa: S311, not for security


class FlashSale(field_types.Request):
    """The size of a sale."""

    buyers: Annotated[int, msgspec.Meta(ge=1, le=MAX_BUYERS)]
    coupons: Annotated[int, msgspec.Meta(ge=1, le=MAX_COUPONS)]


class Progress(Answer):
    """The progress `ms` after the start. `held`: coupons locked by buyers who are paying."""

    ms: int
    code: str
    coupons: int
    buyers: int
    sold: int
    held: int
    gone: int
    """Buyers who have finished: bought, refused, or walked away."""
    walked_away: int
    clicked_twice: int
    requests: int
    refused: dict[str, int]
    proof: "Proof | None" = None


class Proof(Answer):
    """The number of sales by the buyers' responses, by Redis and by Postgres; None if unavailable."""

    coupons: int
    answered: int
    redis: int | None
    postgres: int | None
    users: int | None
    orders: int | None
    never_more: bool
    """Whether the three numbers are equal and at most the number of coupons."""


_COUNTED = ("sold", "held", "gone", "walked_away", "clicked_twice", "requests")
_line = msgspec.json.Encoder()


class Sales(Controller):
    path = "/sale"

    @post("/", status_code=200, opt=FOR_MANAGERS)
    async def run(self, request: Request[Any, Any, Any]) -> Stream:
        """Run a sale, and stream a line of JSON ten times a second; the last line has the proof. A process runs one
        sale at a time, in the demo's workspace only. A disconnect ends the sale. Scopes `manage` and `checkout`."""
        caller, context, _ = unpack_request(request)
        _, payload = await read_json_body(request, FlashSale, _MAX_BYTES)
        if "checkout" not in caller.scopes:
            raise Refusal("forbidden", "This request also needs a key with the scope checkout.")
        if not is_demo(context, (await read_workspace(context.pool, caller.workspace)).name):
            raise Refusal("forbidden", "A flash sale runs in the demo's workspace only.")
        if time.monotonic() < context.selling_until_s:
            raise Refusal("request_in_progress", "A flash sale is already running; wait until it ends.")
        context.selling_until_s = time.monotonic() + ALL_OVER_S + RECORD_S
        try:
            sale = await _Sale.open(context, caller, payload)
        except BaseException:
            context.selling_until_s = 0.0
            raise
        return Stream(_stream_progress(context, sale), media_type="application/x-ndjson")


def is_demo(context: Context, workspace: str) -> bool:
    """Whether this is the demo workspace of the embedded database."""
    return context.settings.embedded and workspace == "demo"


async def _stream_progress(context: Context, sale: "_Sale") -> AsyncIterator[bytes]:
    try:
        async for progress in sale.run():
            yield _line.encode(progress) + b"\n"
    finally:
        context.selling_until_s = 0.0


class _Sale:
    """A sale of one code with a limited number of uses.

    1. Buyers arrive over a few seconds. Each locks, waits, and redeems; some unlock instead, some redeem twice.
    2. A buyer who gets `coupon_locked` tries again, until the coupons are sold or PATIENCE_S is over.
    3. At the end, read the number of sales from Redis, and from Postgres once all events are recorded.
    """

    def __init__(self, context: Context, caller: Caller, payload: FlashSale, book: BookRow, code: str) -> None:
        self._context, self._caller, self._size, self._book = context, caller, payload, book
        self._code = code
        self._began_s = time.monotonic()
        self._counts = Counter[str]()
        self._refused = Counter[str]()

    @classmethod
    async def open(cls, context: Context, caller: Caller, payload: FlashSale) -> "_Sale":
        """Create the sale's book and code."""
        code = f"FLASH-{secrets.token_hex(3).upper()}"
        wanted = {
            "name": f"Flash sale {code}",
            "description": f"{payload.buyers} buyers for {payload.coupons} coupons, run from the console",
            "discount": {"type": "percentage", "value": 20},
            "maxRedemptionsPerCode": payload.coupons,
            "maxRedemptionsPerUser": 1,
            "tags": ["flash-sale"],
        }
        where = (caller.workspace, caller.partition)
        change = Change(context, caller.partition)
        book, _ = await create_book(context.pool, *where, convert(wanted, CreateBook))
        await change.project(book.version, context.projector.book(book))
        version, rows = await add_codes(context.pool, *where, book.book, [CodeLine(code)])
        await change.project(version, context.projector.codes(*where, version, rows))
        return cls(context, caller, payload, book, code)

    async def run(self) -> AsyncIterator[Progress]:
        """The progress, and at the end the proof."""
        buyers = [asyncio.create_task(self._buy(number)) for number in range(self._size.buyers)]
        try:
            all_buyers = asyncio.gather(*buyers, return_exceptions=True)
            while not all_buyers.done() and time.monotonic() - self._began_s < ALL_OVER_S:
                await asyncio.wait({all_buyers}, timeout=REPORT_S)
                yield self._progress()
            for buyer in buyers:
                buyer.cancel()
            await all_buyers
            yield self._progress(await self._proof())
        finally:
            for buyer in buyers:
                buyer.cancel()

    def _progress(self, proof: Proof | None = None) -> Progress:
        return Progress(
            ms=round((time.monotonic() - self._began_s) * 1000),
            code=self._code,
            coupons=self._size.coupons,
            buyers=self._size.buyers,
            **{name: self._counts[name] for name in _COUNTED},
            refused=dict(self._refused),
            proof=proof,
        )

    async def _buy(self, number: int) -> None:
        await asyncio.sleep(_random.uniform(0, min(ARRIVING_S, self._size.buyers / 200)))
        user, order = f"buyer-{number + 1}", f"{self._code}-{number + 1}"
        gives_up_s = time.monotonic() + PATIENCE_S
        while (token := await self._lock(user, order)) == "":
            if time.monotonic() > gives_up_s:
                break
            await asyncio.sleep(_random.uniform(0.1, 0.4))
        if token:
            self._counts["held"] += 1
            try:
                await asyncio.sleep(_random.uniform(0.05, 0.6))
                await self._decide(user, order, token)
            finally:
                self._counts["held"] -= 1
        self._counts["gone"] += 1

    async def _lock(self, user: str, order: str) -> str | None:
        """The lock's token; '' if a later attempt may succeed, None if not."""
        wanted = lock.LockRequest(user_id=user, order_id=order, lock_seconds=30)
        try:
            return msgspec.json.decode(await self._ask(LOCK, wanted))["lockToken"]
        except Refusal as refusal:
            return "" if refusal.code == "coupon_locked" else None

    async def _decide(self, user: str, order: str, token: str) -> None:
        with suppress(Refusal):
            if _random.random() < WALKS_AWAY:
                await self._ask(UNLOCK, lock.UnlockRequest(lock_token=token))
                self._counts["walked_away"] += 1
                return
            value = f"{_random.uniform(20, 200):.2f}"
            wanted = convert({"userId": user, "orderId": order, "orderValue": value}, redeem.RedeemRequest)
            clicks = 2 if _random.random() < CLICKS_TWICE else 1
            self._counts["clicked_twice"] += clicks - 1
            bodies = await asyncio.gather(*(self._ask(REDEEM, wanted) for _ in range(clicks)))
            self._counts["sold"] += len({msgspec.json.decode(body)["redemptionId"] for body in bodies})

    async def _ask(self, row: Row, wanted: Any) -> bytes:
        """Run and count the operation like a request. Raises Refusal."""
        began_s, context = now_s(), self._context
        self._counts["requests"] += 1
        command = begin_decoded(row, Call(self._caller), self._code, wanted, counted=True)
        try:
            reply = await decide(context.decider, context.pool, self._caller, command)
            rendered = finish(command, reply, context.decider.durability(self._caller.partition))
        except Refusal as refusal:
            self._refused[refusal.code] += 1
            answers.note(self._caller.account, row.route, refusal.outcome.status, refusal.code, "flash-sale", began_s)
            raise
        answers.note(self._caller.account, row.route, rendered.status, "", "flash-sale", began_s)
        return rendered.body or b""

    async def _proof(self) -> Proof:
        context, caller, sold, coupons = self._context, self._caller, self._counts["sold"], self._size.coupons
        in_redis = in_postgres = None
        with suppress(Refusal):
            in_redis = (await context.hot.book_counts(caller, str(self._book.book_id))).redemptions
        if await wait_until_recorded(context, caller, context.decider.moment(caller.partition), RECORD_S):
            in_postgres = await sold_of_book(context.pool, caller.workspace, self._book.book)
        standing = in_postgres.standing if in_postgres else None
        counts = {sold, in_redis, standing}
        return Proof(
            coupons=coupons,
            answered=sold,
            redis=in_redis,
            postgres=standing,
            users=in_postgres.users if in_postgres else None,
            orders=in_postgres.orders if in_postgres else None,
            never_more=len(counts) == 1 and sold <= coupons,
        )

"""A flash sale in the demo's workspace, run by the service itself: many buyers for few coupons, told as it happens, and
at the end what answers, Redis and Postgres say was sold."""

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

from service.access.caller import Caller
from service.api.auth import caller
from service.api.configuration_writes import Change
from service.api.console.overview import FOR_MANAGERS
from service.api.context import Context
from service.api.durability import is_recorded
from service.api.reading import json_body, query
from service.api.recall import decide
from service.domain import field_types
from service.domain.book_requests import CreateBook
from service.domain.code_requests import CodeLine
from service.domain.decoding import convert
from service.domain.errors import Refusal
from service.domain.field_types import Answer
from service.operations import lock, redeem
from service.operations.accounting import answers, now_s
from service.operations.base import Call
from service.operations.run import begin_decoded, finish
from service.operations.table import LOCK, REDEEM, UNLOCK, Row
from service.record.config.book_rows import create_book
from service.record.config.code_rows import add_codes
from service.record.config.workspace_rows import read_workspace
from service.record.facts.timeline_queries import sold_of_book

MAX_BUYERS, MAX_COUPONS = 2_000, 1_000
ARRIVING_S, PATIENCE_S, ALL_OVER_S = 3.0, 10.0, 20.0
"""Buyers come within the first, wait for a held coupon as long as the second, and the sale ends after the third."""
TELL_S = 0.1
RECORD_S = 5
WALKS_AWAY, CLICKS_TWICE = 0.1, 0.1
_MAX_BYTES = 4 << 10

_random = random.Random()  # noqa: S311, it guards nothing


class FlashSale(field_types.Request):
    """How many want how many."""

    buyers: Annotated[int, msgspec.Meta(ge=1, le=MAX_BUYERS)]
    coupons: Annotated[int, msgspec.Meta(ge=1, le=MAX_COUPONS)]


class Progress(Answer):
    """How far it is, `ms` after its beginning; `held` coupons are locked by somebody who pays."""

    ms: int
    code: str
    coupons: int
    buyers: int
    sold: int
    held: int
    gone: int
    """Buyers who are through: sold, refused, or walked away."""
    walked_away: int
    clicked_twice: int
    requests: int
    refused: dict[str, int]
    proof: "Proof | None" = None


class Proof(Answer):
    """What was sold by the answers that buyers got, in Redis, and in Postgres; None where it can't say."""

    coupons: int
    answered: int
    redis: int | None
    postgres: int | None
    users: int | None
    orders: int | None
    never_more: bool
    """Whether all three agree, and none of them says more than there were."""


_read = msgspec.json.Decoder(FlashSale)
_line = msgspec.json.Encoder()


class Sales(Controller):
    """Running one."""

    path = "/sale"

    @post("/", include_in_schema=False, status_code=200, opt=FOR_MANAGERS)
    async def run(self, request: Request[Any, Any, Any]) -> Stream:
        """Run a sale; the answer is a line of JSON ten times a second, the last with the proof. A process runs one at a
        time, and only in the demo's workspace. Scopes `manage` and `checkout`. It ends when nobody listens."""
        who = caller(request)
        query(request)
        said = await json_body(request, _read, _MAX_BYTES)
        context: Context = request.app.state.context
        if "checkout" not in who.scopes:
            raise Refusal("forbidden", "This request also needs a key with the scope checkout.")
        if not is_demo(context, (await read_workspace(context.pool, who.workspace)).name):
            raise Refusal("forbidden", "A flash sale is run in the demo's workspace alone.")
        if time.monotonic() < context.selling_until_s:
            raise Refusal("request_in_progress", "A flash sale is running; wait until it is over.")
        context.selling_until_s = time.monotonic() + ALL_OVER_S + RECORD_S
        try:
            sale = await _Sale.open(context, who, said)
        except BaseException:
            context.selling_until_s = 0.0
            raise
        return Stream(_told(context, sale), media_type="application/x-ndjson")


def is_demo(context: Context, workspace: str) -> bool:
    """Whether this is the embedded database's own workspace for demonstrations."""
    return context.settings.embedded and workspace == "demo"


async def _told(context: Context, sale: "_Sale") -> AsyncIterator[bytes]:
    try:
        async for progress in sale.run():
            yield _line.encode(progress) + b"\n"
    finally:
        context.selling_until_s = 0.0


class _Sale:
    """One sale of a code with as many uses as there are coupons.

    1. Buyers come over a few seconds. Each locks, thinks, and redeems; some walk away, some click twice.
    2. Whoever finds all that is left held by others asks again, until it is sold or patience ends.
    3. When all are through, ask Redis and, once it is recorded, Postgres what was sold.
    """

    def __init__(self, context: Context, who: Caller, said: FlashSale, book: Any, code: str) -> None:
        self._context, self._who, self._said, self._book = context, who, said, book
        self._code = code
        self._began_s = time.monotonic()
        self._seen = Counter[str]()
        self._refused = Counter[str]()

    @classmethod
    async def open(cls, context: Context, who: Caller, said: FlashSale) -> "_Sale":
        """A book and its code for this sale."""
        code = f"FLASH-{secrets.token_hex(3).upper()}"
        wanted = {
            "name": f"Flash sale {code}",
            "description": f"{said.buyers} buyers for {said.coupons} coupons, run from the console",
            "discount": {"type": "percentage", "value": 20},
            "maxRedemptionsPerCode": said.coupons,
            "maxRedemptionsPerUser": 1,
            "tags": ["flash-sale"],
        }
        where = (who.workspace, who.partition)
        change = Change(context, who.partition)
        book, _ = await create_book(context.pool, *where, convert(wanted, CreateBook))
        await change.projected(book.version, context.projector.book(book))
        version, rows = await add_codes(context.pool, *where, book.book, [CodeLine(code)])
        await change.projected(version, context.projector.codes(*where, version, rows))
        return cls(context, who, said, book, code)

    async def run(self) -> AsyncIterator[Progress]:
        """How it goes, and at the end the proof."""
        buyers = [asyncio.create_task(self._buy(number)) for number in range(self._said.buyers)]
        try:
            everybody = asyncio.gather(*buyers, return_exceptions=True)
            while not everybody.done() and time.monotonic() - self._began_s < ALL_OVER_S:
                await asyncio.wait({everybody}, timeout=TELL_S)
                yield self._progress()
            for buyer in buyers:
                buyer.cancel()
            await everybody
            yield self._progress(await self._proof())
        finally:
            for buyer in buyers:
                buyer.cancel()

    def _progress(self, proof: Proof | None = None) -> Progress:
        seen = self._seen
        return Progress(
            ms=round((time.monotonic() - self._began_s) * 1000),
            code=self._code,
            coupons=self._said.coupons,
            buyers=self._said.buyers,
            sold=seen["sold"],
            held=seen["held"],
            gone=seen["gone"],
            walked_away=seen["walked_away"],
            clicked_twice=seen["clicked_twice"],
            requests=seen["requests"],
            refused=dict(self._refused),
            proof=proof,
        )

    async def _buy(self, number: int) -> None:
        await asyncio.sleep(_random.uniform(0, min(ARRIVING_S, self._said.buyers / 200)))
        user, order = f"buyer-{number + 1}", f"{self._code}-{number + 1}"
        gives_up_s = time.monotonic() + PATIENCE_S
        while (token := await self._lock(user, order)) == "":
            if time.monotonic() > gives_up_s:
                break
            await asyncio.sleep(_random.uniform(0.1, 0.4))
        if token:
            self._seen["held"] += 1
            try:
                await asyncio.sleep(_random.uniform(0.05, 0.6))
                await self._decide(user, order, token)
            finally:
                self._seen["held"] -= 1
        self._seen["gone"] += 1

    async def _lock(self, user: str, order: str) -> str | None:
        """The lock's token; '' where it is worth asking again, None where it isn't."""
        wanted = lock.LockRequest(user_id=user, order_id=order, lock_seconds=30)
        try:
            return msgspec.json.decode(await self._ask(LOCK, wanted))["lockToken"]
        except Refusal as refusal:
            return "" if refusal.code == "coupon_locked" else None

    async def _decide(self, user: str, order: str, token: str) -> None:
        with suppress(Refusal):
            if _random.random() < WALKS_AWAY:
                await self._ask(UNLOCK, lock.UnlockRequest(lock_token=token))
                self._seen["walked_away"] += 1
                return
            value = f"{_random.uniform(20, 200):.2f}"
            wanted = convert({"userId": user, "orderId": order, "orderValue": value}, redeem.RedeemRequest)
            clicks = 2 if _random.random() < CLICKS_TWICE else 1
            self._seen["clicked_twice"] += clicks - 1
            told = await asyncio.gather(*(self._ask(REDEEM, wanted) for _ in range(clicks)))
            self._seen["sold"] += len({msgspec.json.decode(body)["redemptionId"] for body in told})

    async def _ask(self, row: Row, wanted: Any) -> bytes:
        """Run the operation as a request does, counted as one. Raises its Refusal."""
        began_s, context = now_s(), self._context
        self._seen["requests"] += 1
        command = begin_decoded(row, Call(self._who), self._code, wanted, counted=True)
        try:
            reply = await decide(context.decider, context.pool, self._who, command)
            rendered = finish(command, reply, context.decider.durability)
        except Refusal as refusal:
            self._refused[refusal.code] += 1
            answers.note(row.route, refusal.outcome.status, refusal.code, "flash-sale", began_s)
            raise
        answers.note(row.route, rendered.status, "", "flash-sale", began_s)
        return rendered.body or b""

    async def _proof(self) -> Proof:
        context, who, sold, there = self._context, self._who, self._seen["sold"], self._said.coupons
        in_redis = in_postgres = None
        with suppress(Refusal):
            in_redis = (await context.hot.book_counts(who, str(self._book.book_id))).redemptions
        if await is_recorded(context, who, context.decider.moment(who.partition), RECORD_S):
            in_postgres = await sold_of_book(context.pool, who.workspace, self._book.book)
        counts = {sold, in_redis, in_postgres and in_postgres.standing}
        return Proof(
            coupons=there,
            answered=sold,
            redis=in_redis,
            postgres=in_postgres and in_postgres.standing,
            users=in_postgres and in_postgres.users,
            orders=in_postgres and in_postgres.orders,
            never_more=len(counts) == 1 and sold <= there,
        )

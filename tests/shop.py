"""A shop for tests: one workspace on one Redis, opened as the worker opens it, and its operations without HTTP."""

import asyncio
from collections.abc import Awaitable, Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Any
from uuid import uuid4

import hiredis
import msgspec
import redis.exceptions

from service.api.recall import MOST_RUNS
from service.domain import keys
from service.domain.errors import Refusal
from service.domain.events import Redeemed, decided, parse
from service.domain.identity import SCOPES, Caller
from service.domain.limits import BookLimits, KeyLimits, WorkspaceLimits, words_of
from service.domain.outcomes import BY_CODE, RECALL
from service.domain.projection import BookRow, CodeRow, DiscountRow, UserRow, WorkspaceRow
from service.hot.deciding import Decider
from service.hot.projection import RedisProjector
from service.hot.scripts import PROJECTION, SERVING, Scripts
from service.operations import assign, checkout, coupon, gift, lock, redeem, rollback, unassign
from service.operations.base import Call, Command, Operation
from service.operations.limiting import under_limits
from tests import dump

EPOCH = 7
NOW_MS = 1_800_000_000_000
"""When a still clock starts."""
STILL_CLOCK = "test:now"


class FakeLink:
    """fakeredis behind the calls of the product's own connection."""

    fsynced = False
    history = ""
    generation = 0

    def __init__(self, client: Any) -> None:
        self.client = client

    async def call(self, *command: Any) -> Any:
        """A reply, or hiredis's error for one of redis-py's."""
        try:
            return await self.client.execute_command(*command)
        except redis.exceptions.NoScriptError as error:
            return hiredis.ReplyError(f"NOSCRIPT {error}")
        except redis.exceptions.ResponseError as error:
            return hiredis.ReplyError(str(error))


class Shop:
    """Operations on workspace 1, each answering (status, body); a refusal answers (status, its code)."""

    def __init__(self, link: Any, workspace: int = 1) -> None:
        self.link = link
        self.decider = Decider(link)
        self.workspace = workspace
        self.caller = Caller(uuid4(), workspace, uuid4(), 0, "live", frozenset(SCOPES))
        self.projector = RedisProjector(self.decider.run)
        self.books: list[BookRow] = []
        self.version = 0
        self.still_ms: int | None = None
        """What a still clock says; None where the server's own runs."""
        self.offset_ms = 0
        self.refusal: Refusal | None = None
        """The last one."""
        self.address = "192.0.2.1"
        """Where requests come from."""
        self.rates = ""
        """What the last answer said is left."""
        self.limits_changed = False
        """Whether a book's limits may be below what was given already."""
        self.recorded: dict[str, str] = {}
        """Redemptions' records, by event and by id: what Postgres has."""
        self.outbox: list[tuple[str, dict[str, str]]] = []
        """Entries that were recorded and trimmed."""
        self.pseudonyms: dict[str, str] = {}
        """By a redemption's event, where its user was erased."""
        self.recalled = 0
        """How often scripts asked for facts."""
        self.erased = False
        """Whether the outbox names users who were erased since."""

    async def open(self, epoch: int = EPOCH, **settings: Any) -> "Shop":
        """Load the scripts, open the gate, project the workspace."""
        scripts = Scripts(0, epoch, "nonce", [*SERVING, *PROJECTION])
        for text in scripts.texts.values():
            await self.link.call("SCRIPT", "LOAD", text)
        await self.link.call("XADD", keys.outbox(0), f"{epoch}-0", "d", "O", "r", "")
        await self.link.call("SET", keys.gate(0), f"{epoch} open")
        self.decider.learn(0, epoch, "nonce")
        await self.put_workspace(**settings)
        return self

    def limit(self, of_books: bool = False, scopes: Sequence[str] = SCOPES, **limits: int) -> "Shop":
        """From now on requests are another key's, with these limits; `of_books` where a book may limit misses."""
        key_id = uuid4()
        words = words_of(KeyLimits(**limits), None, of_books=of_books)
        self.caller = replace(self.caller, key_id=key_id, scopes=frozenset(scopes), limits=words)
        return self

    async def freeze(self, at_ms: int = NOW_MS, epoch: int = EPOCH) -> "Shop":
        """From now on scripts take the time from a key, which only `at` and `wait` move."""
        digests = {}
        for name, text in Scripts(0, epoch, "nonce", [*SERVING, *PROJECTION]).texts.items():
            still = text.replace("redis.call('TIME')", f"redis.call('HMGET', '{STILL_CLOCK}', 's', 'us')")
            digests[name] = await self.link.call("SCRIPT", "LOAD", still)
        self.decider._digests[0] = digests
        await self.at(at_ms)
        return self

    async def at(self, ms: int) -> None:
        """Set the still clock."""
        self.still_ms = ms
        await self.link.call("HSET", STILL_CLOCK, "s", ms // 1000, "us", ms % 1000 * 1000 + 999)

    async def wait(self, ms: int) -> None:
        """Move the still clock on."""
        await self.at((self.still_ms or 0) + ms)

    async def now(self) -> int:
        """What scripts take for the time, in ms."""
        if self.still_ms is not None:
            return self.still_ms + self.offset_ms
        seconds, micros = await self.link.call("TIME")
        return int(seconds) * 1000 + int(micros) // 1000 + self.offset_ms

    async def set_offset(self, ms: int) -> None:
        """Move the workspace's clock away from the server's, as a test workspace may."""
        self.offset_ms = ms
        key = f"{self.caller.prefix}w"
        settings = (await self.link.call("GET", key)).rpartition(" ")[0]
        await self.link.call("SET", key, f"{settings} {ms}")

    async def gate(self, state: str | None, epoch: int = EPOCH) -> None:
        """Set the gate; None takes it away."""
        if state is None:
            await self.link.call("DEL", keys.gate(0))
        else:
            await self.link.call("SET", keys.gate(0), f"{epoch} {state}")

    def next_version(self) -> int:
        """As Postgres counts them."""
        self.version += 1
        return self.version

    async def put_workspace(self, **settings: Any) -> None:
        """Project the workspace's settings."""
        if (limits := settings.get("limits")) is not None:
            settings["limits"] = msgspec.convert(limits, WorkspaceLimits)
        row = WorkspaceRow(
            workspace=self.workspace,
            workspace_id=self.caller.workspace_id,
            partition=0,
            version=self.next_version(),
            name="shop",
            mode="live",
            **{
                "currency": "USD",
                "digits": 2,
                "coupons_per_order": 1,
                "max_coupons": None,
                "gift_book_id": None,
                "idempotency_hours": 24,
                **settings,
            },
        )
        await self.projector.workspace(row)
        if self.offset_ms:
            await self.set_offset(self.offset_ms)

    async def book(self, *codes: str, **rules: Any) -> BookRow:
        """A new book with these codes."""
        discount = rules.pop("discount", None)
        if (limits := rules.get("limits")) is not None:
            rules["limits"] = msgspec.convert(limits, BookLimits)
        if discount:
            discount = DiscountRow(
                **{"max_amount_e4": None, "min_order_value_e4": None, "currency": None, "digits": None, **discount}
            )
        row = BookRow(
            workspace=self.workspace,
            partition=0,
            book=len(self.books) + 1,
            book_id=uuid4(),
            version=self.next_version(),
            discount=discount,
            **{**_RULES, **rules},
        )
        self.books.append(row)
        await self.projector.book(row)
        await self.add(row, *codes)
        return row

    async def change(self, row: BookRow, **rules: Any) -> BookRow:
        """PATCH a book."""
        self.limits_changed |= any(name.startswith("max_redemptions") for name in rules)
        row = msgspec.structs.replace(row, version=self.next_version(), **rules)
        await self.projector.book(row)
        return row

    async def add(self, book: BookRow, *codes: str, **says: Any) -> None:
        """New codes of a book, or their switch and expiry."""
        if not codes:
            return
        version = self.next_version()
        rows = [self.code_row(book, code, version, **says) for code in codes]
        await self.projector.codes(self.workspace, 0, version, rows)

    def code_row(self, book: BookRow, code: str, version: int, **says: Any) -> CodeRow:
        """A code as Postgres has it."""
        return CodeRow(
            workspace=self.workspace,
            partition=0,
            book=book.book,
            version=version,
            code=code,
            created_ms=1_700_000_000_000,
            **{"owner_id": None, "max_redemptions": None, "expires_ms": None, "active": True, **says},
        )

    async def user(self, user_id: str, max_coupons: int | None) -> None:
        """A user's cap."""
        row = UserRow(
            workspace=self.workspace,
            partition=0,
            version=self.next_version(),
            user_id=user_id,
            max_coupons=max_coupons,
            metadata={},
            created_ms=0,
        )
        await self.projector.user(row)

    async def do(
        self, operation: Operation, code: str | None, /, key: str = "", fingerprint: str = "", **body: Any
    ) -> Any:
        """Run an operation; `key` is an Idempotency-Key and `fingerprint` its request's fingerprint."""
        call = Call(self.caller, key, (fingerprint or "f") if key else "-", self.address, "tests")
        try:
            request = msgspec.convert(body, operation.request)
            return await self.run(under_limits(call, operation.prepare(call, code, request)))
        except Refusal as refusal:
            self.refusal, self.rates = refusal, refusal.rates
            return refusal.outcome.status, refusal.code

    async def run(self, command: Command) -> Any:
        """Run a command and read its answer."""
        answer = command.render(await self.decide(command), "accepted")
        self.rates = answer.rates
        body = msgspec.json.decode(answer.body) if answer.body else None
        if answer.replayed:
            body = {**(body or {}), "replayed": True}
        return answer.status, body

    async def raw(
        self, operation: Operation, code: str | None, /, key: str = "", fingerprint: str = "f", **body: Any
    ) -> Any:
        """As do, but the answer as it goes out: (status, bytes or None, replayed)."""
        call = Call(self.caller, key, fingerprint if key else "-", "192.0.2.1", "tests")
        command = operation.prepare(call, code, msgspec.convert(body, operation.request))
        return msgspec.structs.astuple(command.render(await self.decide(command), "accepted"))[:3]

    async def decide(self, command: Command) -> Any:
        """A command's reply, with the facts that it asks for, as the API has it."""
        facts: list[str] = []
        for _ in range(MOST_RUNS):
            reply = await self.decider.run(0, command.script, command.keys, (*command.args, *facts))
            if reply[0] != RECALL:
                return reply
            self.recalled += 1
            names = reply[1].split(" ")
            facts += [text for name in names for text in (name, self.recorded.get(name, ""))]
        raise AssertionError(f"{command.script} asks for facts again and again")

    async def record(self) -> None:
        """As the worker: what the outbox says of redemptions is recorded, and trimmed."""
        entries = await dump.value(self.link, keys.outbox(0), "stream")
        self.outbox += entries
        for event_id, fields in entries:
            epoch, seq = map(int, event_id.split("-"))
            event = parse(epoch, seq, fields["d"].encode(), fields["r"].encode() or b"{}")
            if isinstance(event, Redeemed):
                alone = msgspec.structs.replace(event, gift=None)
                text = f"{event_id} {decided(alone)} {fields['r']}"
                self.recorded |= {event_id: text, event.redemption_id: text}
        if entries:
            epoch, seq = entries[-1][0].split("-")
            await self.link.call("XTRIM", keys.outbox(0), "MINID", f"{epoch}-{int(seq) + 1}")

    async def everything_told(self) -> list[tuple[str, dict[str, str]]]:
        """All entries of the outbox, also those that were trimmed."""
        return self.outbox + await dump.value(self.link, keys.outbox(0), "stream")

    async def refuses(self, code: str, asked: Awaitable[Any]) -> None:
        """What is asked is refused so, and nothing is changed by it."""
        before = await self.everything()
        assert await asked == (BY_CODE[code].status, code)
        assert await self.everything() == before

    async def retry_after_ms(self, ask: Any, *args: Any, **body: Any) -> tuple[str, int | None]:
        """The code of a refusal, and after what time it says to come again."""
        await ask(*args, **body)
        assert self.refusal
        return self.refusal.code, self.refusal.retry_after_ms

    async def assign(self, code: str, user: str, **more: Any) -> Any:
        """Assign a named coupon."""
        return await self.do(assign.ASSIGN_CODE, code, userId=user, **more)

    async def assign_any(self, book: BookRow, user: str, **more: Any) -> Any:
        """Assign a random free coupon."""
        return await self.do(assign.ASSIGN_ANY, None, bookId=str(book.book_id), userId=user, **more)

    async def assign_book(self, book_id: str, user: str) -> Any:
        """Assign a random free coupon of the book with this id."""
        return await self.do(assign.ASSIGN_ANY, None, bookId=book_id, userId=user)

    async def unassign(self, code: str, **more: Any) -> Any:
        """Take an assignment back."""
        return await self.do(unassign.UNASSIGN, code, **more)

    async def lock(self, code: str, user: str, **more: Any) -> Any:
        """Lock."""
        return await self.do(lock.LOCK, code, userId=user, **more)

    async def extend(self, code: str, token: str, **more: Any) -> Any:
        """Extend a lock."""
        return await self.do(lock.EXTEND, code, lockToken=token, **more)

    async def unlock(self, code: str, token: str, **more: Any) -> Any:
        """Release a lock."""
        return await self.do(lock.UNLOCK, code, lockToken=token, **more)

    async def redeem(self, code: str, user: str, **more: Any) -> Any:
        """Redeem."""
        if "orderValue" in more:
            more["orderValue"] = Decimal(more["orderValue"])
        return await self.do(redeem.REDEEM, code, userId=user, **more)

    async def validate(self, code: str, **more: Any) -> Any:
        """Validate."""
        if "orderValue" in more:
            more["orderValue"] = Decimal(more["orderValue"])
        return await self.do(redeem.VALIDATE, None, code=code, **more)

    async def rollback(self, redemption_id: str, **more: Any) -> Any:
        """Roll one redemption back."""
        return await self.do(rollback.ROLLBACK, redemption_id, **more)

    async def gift(self, book: BookRow, user: str, order: str, **more: Any) -> Any:
        """Give an order's gift."""
        return await self.do(gift.GIFT, user, bookId=str(book.book_id), orderId=order, **more)

    async def checkout(self, user: str, order: str, value: str = "10", **more: Any) -> Any:
        """Complete a purchase."""
        return await self.do(checkout.CHECKOUT, None, userId=user, orderId=order, orderValue=Decimal(value), **more)

    async def rollback_order(self, order: str, **more: Any) -> Any:
        """Roll an order back."""
        return await self.do(rollback.ROLLBACK_ORDER, order, **more)

    async def coupon(self, code: str) -> Any:
        """Read a coupon."""
        return await self.do(coupon.READ, code)

    async def stats(self, book: BookRow) -> dict[str, int]:
        """A book's counts, as the script says them."""
        w = self.caller.prefix
        names = (self.caller.gate, f"{w}w", f"{w}x")
        reply = await self.decider.run(0, "book_stats", names, (str(book.book_id),))
        words = (
            "codes assigned locked_unassigned locked_assigned redeemed exhausted inactive redemptions rolled_back "
            "discount_e4 users touched"
        )
        return {name: int(value) for name, value in zip(words.split(), reply[1:13], strict=True)}

    async def held(self, user: str) -> int:
        """How many coupons the user holds."""
        names = (self.caller.gate, f"{self.caller.prefix}w")
        return (await self.decider.run(0, "user_coupons", names, (user,)))[1]

    async def events(self) -> list[tuple[str, list[str]]]:
        """The outbox without notices: (id, words of `d`)."""
        return [(event_id, words) for event_id, words in await self._outbox() if words[0] != "S"]

    async def notices(self, book: BookRow) -> list[str]:
        """What was said of the book's stock, in order: `low codes 2`."""
        return [
            " ".join(words[3:6]) for _, words in await self._outbox() if words[0] == "S" and words[2] == str(book.book)
        ]

    async def _outbox(self) -> list[tuple[str, list[str]]]:
        entries = await self.everything_told()
        return [(event_id, fields["d"].split(" ")) for event_id, fields in entries]

    async def last_event(self) -> dict[str, str]:
        """The fields of the outbox's last entry but notices."""
        entries = await self.everything_told()
        return [fields for _, fields in entries if not fields["d"].startswith("S ")][-1]

    async def everything(self) -> dict[str, Any]:
        """All that this Redis holds, but for the still clock."""
        return await dump.everything(self.link, STILL_CLOCK)


_RULES: dict[str, Any] = {
    "name": "book",
    "description": "",
    "status": "active",
    "valid_from_ms": None,
    "valid_until_ms": None,
    "max_redemptions_per_code": 1,
    "max_redemptions_per_user": None,
    "max_redemptions": None,
    "max_codes_per_user": None,
    "require_assignment": False,
    "require_lock": False,
    "lock_seconds": 300,
    "max_lock_seconds": 3600,
    "code_pattern": "####-####-####",
    "charset": "23456789ABCDEFGHJKLMNPQRSTUVWXYZ",
    "total_codes": None,
    "low_stock_threshold": None,
    "gift_book_id": None,
    "keep_free": None,
    "tags": [],
    "metadata": {},
    "created_by": None,
    "created_ms": 0,
    "updated_ms": 0,
    "workspace_currency": "USD",
}


async def together(*calls: Any) -> list[Any]:
    """Run all at once; their answers in order."""
    return list(await asyncio.gather(*calls))


def tally(answers: Sequence[Any]) -> dict[Any, int]:
    """How often each status with its refusal's code was answered."""
    counts: dict[Any, int] = {}
    for status, body in answers:
        found = (status, body) if isinstance(body, str) else status
        counts[found] = counts.get(found, 0) + 1
    return counts

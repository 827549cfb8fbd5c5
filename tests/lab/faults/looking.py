"""The load during a fault: the ledger of buyers and a merchant, and readers that see how long the service is closed."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from itertools import cycle
from uuid import UUID

from loadtests.buyers import HASTY_PAUSE_S, Crowd
from loadtests.histories import Look
from loadtests.ledger import Entry, Ledger, now_ms
from loadtests.plan import Book, make_few_books, new_mark
from loadtests.target import Target
from loadtests.visits import Merchant
from loadtests.wire import ERRORS, Ask, Barrage, Wire
from service.engine.record.pool import ERRORS as POSTGRES_ERRORS
from tests.harness.waiting import PATIENCE_S, cancel
from tests.lab.faults.deployment import KEY, Deployment

CODES = 700
LOOK_S = 0.01
CLOSED = {"recovering", "unavailable", "outcome_unknown", "behind"}
SETTLED_MS = 500
"""So long after an epoch was drawn a process may use the one before: on a Redis that is not fenced yet."""
_IS_THERE = "SELECT EXISTS (SELECT FROM redemptions WHERE redemption_id = $1)"


class RestingCrowd(Crowd):
    """Buyers, and a merchant who rests while another has `merchant`."""

    def __init__(self, ledger: Ledger, books: Sequence[Book], mark: str) -> None:
        super().__init__(ledger, books, mark, may_lose=True)
        self.merchant = asyncio.Lock()

    async def manage(self, pause_s: float = HASTY_PAUSE_S) -> None:
        while not self.ended:
            async with self.merchant:
                if not self.paused:
                    await Merchant(self, "Merchant").change()
            await asyncio.sleep(self.random.uniform(0, 2 * pause_s))


class Drill:
    """The load on a deployment's service, and the faults that are injected into it.

    1. A redemption with durability `recorded` is looked up at once: it must be in Postgres then.
    2. Two readers: one reads a coupon in Redis, one lists of books and of redemptions in Postgres.
    """

    def __init__(self, deployment: Deployment, ledger: Ledger, crowd: RestingCrowd, before: Target) -> None:
        self.deployment, self.ledger, self.crowd, self.on = deployment, ledger, crowd, before
        self.books = [book for books in crowd.books.values() for book in books]
        self.wrong: list[str] = []
        self.looks: list[Look] = []
        self.reads: list[Look] = []
        self.outboxes: list[dict[str, str]] = []
        """Outboxes of servers that clients left, before they came back to them."""
        self.injections: list[int] = []
        """How many requests were in flight at each fault."""
        self.lost_writes = 0
        """Writes that a loss of power undid."""
        self.may_lose: set[str] = set()
        """What responses may be lost, beside the scenario's, by their durability."""
        self.closed: list[tuple[float, float, bool]] = []
        """Rows of the table `closed`: times at which no operation may have succeeded."""
        self.poisoned = 0
        """Events put into the outbox that can't be recorded."""
        self.closed_beside_s: list[float] = []
        """How long partitions beside the load's were closed, those that a fault concerned."""
        self._log_sizes = deployment.log_sizes()
        self._ended = False
        ledger.on_recorded = self._look_up

    async def begin_fault(self, answers: int = 0) -> None:
        """Wait for so many more successful responses, and count a fault that is injected now."""
        if answers:
            await self.until_more(answers)
        self.injections.append(self.ledger.in_flight)

    def alarms(self) -> list[str]:
        """The alarms that processes have logged since it began."""
        return self.deployment.alarms(self._log_sizes)

    async def until_more(self, answers: int) -> None:
        """Wait for so many more successful responses."""
        await self.crowd.until_more(answers)

    @asynccontextmanager
    async def going_on(self, buyers: int) -> AsyncIterator[None]:
        """Run the buyers and readers while the block runs; then wait until the readers succeed again."""
        tasks = [asyncio.create_task(task()) for task in (self._look, self._read, self._watch)]
        try:
            async with self.crowd.buying(buyers):
                yield
            self._ended = True
            async with asyncio.timeout(PATIENCE_S):
                await asyncio.gather(*tasks)
        finally:
            self._ended = True
            await cancel(*tasks)

    def move(self, api: int, url: str) -> None:
        """Send to this address what went to an API."""
        self.deployment.urls[api] = url
        self.ledger.move(api, url)
        self.on.barrage.move(self.deployment.urls[0])

    async def _look_up(self, entry: Entry) -> None:
        """Check a recorded redemption at once. If Postgres does not respond, the judge checks it later."""
        if not (redemption := entry.redemption) or entry.op != "redeem":
            return
        with contextlib.suppress(*POSTGRES_ERRORS):
            async with asyncio.timeout(1):
                there = await self.deployment.pool.fetchval(_IS_THERE, UUID(redemption["redemptionId"]))
            if not there:
                self.wrong.append(f"answered as recorded, and not in Postgres: {entry.path}")

    async def _watch(self) -> None:
        """Note the times at which the partition is closed in Postgres; its gate opens after that."""
        begun, last, epoch = 0.0, 0.0, 0
        while not self._ended:
            before = now_ms()
            with contextlib.suppress(*POSTGRES_ERRORS):
                async with asyncio.timeout(1):
                    row = await self.deployment.row()
                if row.state == "closed" and row.epoch == epoch:
                    last = before
                else:
                    self._was_closed(begun, last)
                    begun = last = now_ms()
                    epoch = row.epoch if row.state == "closed" else 0
            await asyncio.sleep(LOOK_S * 3)
        self._was_closed(begun, last)

    def _was_closed(self, begun_ms: float, last_ms: float) -> None:
        if last_ms > begun_ms + SETTLED_MS:
            self.closed.append((begun_ms + SETTLED_MS, last_ms, self.deployment.decides_alone))

    async def _look(self) -> None:
        sale = self.crowd.books["sale"][0]
        await self._looking([f"/v1/coupons/{sale.code(0)}"], 0, self.looks, LOOK_S)

    async def _read(self) -> None:
        sale = self.crowd.books["sale"][0]
        paths = ["/v1/books?limit=1", f"/v1/books/{sale.book_id}/redemptions?limit=5"]
        await self._looking(paths, -1, self.reads, LOOK_S * 5)

    async def _looking(self, paths: list[str], api: int, looks: list[Look], pause_s: float) -> None:
        url = self.deployment.urls[api]
        turns, wire = cycle(paths), Wire(url, KEY)
        while not self._ended or (looks and looks[-1].code):
            at_ms, response = now_ms(), {}
            if url != self.deployment.urls[api]:
                url = self.deployment.urls[api]
                wire.close()
                wire = Wire(url, KEY)
            try:
                async with asyncio.timeout(10):
                    answer = await wire.ask(Ask("GET", next(turns)))
                response = answer.body
                code = "" if answer.status < 400 else response.get("code", "")
                if answer.status not in (200, 503):
                    self.wrong.append(f"look: {answer.status} {answer.content[:300]!r}")
            except ERRORS as error:
                code = type(error).__name__
                wire.close()
                wire = Wire(url, KEY)
            looks.append(Look(at_ms, now_ms() - at_ms, code, response if looks is self.looks else {}))
            await asyncio.sleep(pause_s)
        wire.close()


@asynccontextmanager
async def drill(deployment: Deployment, seed: int, codes: int, recorded: float) -> AsyncIterator[Drill]:
    """A load with books of its own, and dice by a seed."""
    mark, urls = new_mark(), deployment.urls
    with Ledger(urls, KEY, hasty=True, keep=False) as making:
        books = await make_few_books(making, mark, codes)
    with Barrage(urls[0], KEY) as barrage, Ledger(urls, KEY, seed=seed, recorded=recorded, hasty=True) as ledger:
        yield Drill(deployment, ledger, RestingCrowd(ledger, books, mark), Target(barrage, 1))

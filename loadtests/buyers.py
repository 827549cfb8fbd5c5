"""Buyers and a merchant who fill a ledger. What they do is in visits.py."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from itertools import count

from loadtests.ledger import Ledger, now_ms
from loadtests.plan import SPARE_CODES, TOTALS, Book, Kind
from loadtests.visits import VISITS, Merchant, Visit, usual_mix, weigh

BUYERS = 8
PATIENCE_S = 120.0
HASTY_PAUSE_S = 0.0075


class Crowd:
    """What all buyers of a process share.

    1. Each visit is one of VISITS: at first every one that has a weight, in a random order, and then at random by
       weight. Codes are taken in turn, each by one buyer, until there is none left.
    2. A refusal is expected only if another buyer may have been first; with `may_lose`, also if an earlier response may
       have been lost.
    3. Locks in `tokens` are unlocked at the end.
    """

    def __init__(
        self,
        ledger: Ledger,
        books: Sequence[Book],
        mark: str,
        pay_s: float = HASTY_PAUSE_S,
        *,
        seconds: float = 3600.0,
        may_lose: bool = False,
        part: tuple[int, int] = (0, 1),
        mix: Mapping[str, float] | None = None,
    ) -> None:
        """`pay_s` is the average time to pay. `part` is this process's number, and the number of processes. The books
        with a limit are used one after another, within these seconds. `mix` has the share of each kind of buyer."""
        self.ledger, self.random, self.mark, self.pay_s, self.may_lose = ledger, ledger.random, mark, pay_s, may_lose
        self.books: dict[Kind, list[Book]] = {}
        for book in books:
            self.books.setdefault(book.kind, []).append(book)
        self.paused = self.ended = False
        self.leaves_locks = True
        """Whether buyers leave locks to expire; False while clocks are stepped."""
        self.tokens: dict[str, str] = {}
        """The code of each lock that isn't left, by token."""
        self._numbers = {book.book_id: count(*part) for book in books}
        self._began_ms, self._seconds = now_ms(), seconds
        self._weights = weigh(mix or usual_mix())
        self._first = [visit for visit, weight in zip(VISITS, self._weights, strict=True) if weight]
        self.random.shuffle(self._first)

    async def visit(self) -> None:
        buyer, _, do = self._first.pop() if self._first else self.random.choices(VISITS, self._weights)[0]
        await do(Visit(self, buyer))

    def next_code(self, book: Book) -> str:
        """An unused code; '' if there is none left. The last codes of a book with a total are for the judge."""
        number = next(self._numbers[book.book_id])
        return book.code(number) if number < book.codes - (SPARE_CODES if book.kind in TOTALS else 0) else ""

    def turn(self, kind: Kind) -> Book:
        """The book of a kind that is used now, the same in all processes."""
        books = self.books[kind]
        passed = (now_ms() - self._began_ms) / (self._seconds * 1000)
        return books[min(len(books) - 1, int(passed * len(books)))]

    async def pay(self) -> None:
        """Wait as long as a buyer takes to pay."""
        await asyncio.sleep(self.random.uniform(0, 2 * self.pay_s))

    async def shop(self, visits: int = 10**9) -> None:
        """Visit again and again until the load ends."""
        for _ in range(visits):
            if self.ended:
                return
            if not self.paused:
                await self.visit()
            await self.pay()

    async def manage(self, pause_s: float = HASTY_PAUSE_S) -> None:
        """Change books and codes again and again until the load ends."""
        while not self.ended:
            if not self.paused:
                await Merchant(self, "Merchant").change()
            await asyncio.sleep(self.random.uniform(0, 2 * pause_s))

    async def give_back(self) -> None:
        """Unlock all in `tokens`, redeemed or not."""
        for token, code in self.tokens.items():
            await self.ledger.ask("unlock", f"/v1/coupons/unlock/{code}", {"lockToken": token}, wanted={204}, code=code)

    @asynccontextmanager
    async def buying(self, buyers: int = BUYERS, manage_s: float = HASTY_PAUSE_S) -> AsyncIterator[None]:
        """Run buyers and a merchant while the block runs; then wait until all visits end, and unlock `tokens`."""
        tasks = [asyncio.create_task(self.shop()) for _ in range(buyers)]
        tasks.append(asyncio.create_task(self.manage(manage_s)))
        try:
            yield
            self.ended = True
            async with asyncio.timeout(PATIENCE_S):
                await asyncio.gather(*tasks)
            await self.give_back()
        finally:
            self.ended = True
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def until_more(self, answers: int) -> None:
        """Wait for so many more successful responses, or an unexpected one."""
        wanted = self.ledger.succeeded + answers
        async with asyncio.timeout(PATIENCE_S):
            while self.ledger.succeeded < wanted and not self.ledger.unwanted:  # noqa: ASYNC110
                await asyncio.sleep(0.01)

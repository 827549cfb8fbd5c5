"""Buyers and a merchant, who fill a ledger: who they are and how long they go on. What they do is in visits.py."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from itertools import count

from loadtests.ledger import Ledger, now_ms
from loadtests.plan import SPARE_CODES, TOTALS, Book, Kind
from loadtests.visits import Merchant, visit

BUYERS = 8
PATIENCE_S = 90.0
HASTY_PAUSE_S = 0.0075


class Crowd:
    """What all buyers of a process share.

    1. Each visit is one of VISITS. Codes are taken in turn, each by one buyer, until there is none left.
    2. A refusal is expected only where others may have got there first; while the service is `hurt`, also where what
       was answered may be lost.
    3. What was locked to be redeemed and was not is given back in the end.
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
    ) -> None:
        """A buyer pays for so long, on average. `part` is this process's number, and of how many; the books that are
        fought for are fought for one after another, within so many seconds."""
        self.ledger, self.random, self.mark, self.pay_s, self.may_lose = ledger, ledger.random, mark, pay_s, may_lose
        self.books: dict[Kind, list[Book]] = {}
        for book in books:
            self.books.setdefault(book.kind, []).append(book)
        self.paused = self.ended = False
        self.leaves_locks = True
        """Whether locks are left to end by themselves: by a clock that is stepped they may not."""
        self.tokens: dict[str, str] = {}
        """Codes by the token of a lock that is to be redeemed or given back."""
        self._numbers = {book.book_id: count(*part) for book in books}
        self._began_ms, self._seconds = now_ms(), seconds

    def next_code(self, book: Book) -> str:
        """A code that nobody has asked for; '' where there is none. The last ones of a total are the judge's."""
        number = next(self._numbers[book.book_id])
        return book.code(number) if number < book.codes - (SPARE_CODES if book.kind in TOTALS else 0) else ""

    def turn(self, kind: Kind) -> Book:
        """The book of its kind that all fight for now, the same in all processes."""
        books = self.books[kind]
        passed = (now_ms() - self._began_ms) / (self._seconds * 1000)
        return books[min(len(books) - 1, int(passed * len(books)))]

    async def pay(self) -> None:
        """Take as long as buyers take."""
        await asyncio.sleep(self.random.uniform(0, 2 * self.pay_s))

    async def shop(self, visits: int = 10**9) -> None:
        """Visit again and again, until all is ended."""
        for _ in range(visits):
            if self.ended:
                return
            if not self.paused:
                await visit(self)
            await self.pay()

    async def manage(self, pause_s: float = HASTY_PAUSE_S) -> None:
        """Change what is sold, again and again."""
        while not self.ended:
            if not self.paused:
                await Merchant(self, "Merchant").change()
            await asyncio.sleep(self.random.uniform(0, 2 * pause_s))

    async def give_back(self) -> None:
        """Unlock what was locked to be redeemed and was not."""
        for token, code in self.tokens.items():
            await self.ledger.ask("unlock", f"/v1/coupons/unlock/{code}", {"lockToken": token}, wanted={204}, code=code)

    @asynccontextmanager
    async def buying(self, buyers: int = BUYERS, manage_s: float = HASTY_PAUSE_S) -> AsyncIterator[None]:
        """Buy while the block runs; then until everything that was asked is answered, and give all locks back."""
        doing = [asyncio.create_task(self.shop()) for _ in range(buyers)]
        doing.append(asyncio.create_task(self.manage(manage_s)))
        try:
            yield
            self.ended = True
            async with asyncio.timeout(PATIENCE_S):
                await asyncio.gather(*doing)
            await self.give_back()
        finally:
            self.ended = True
            for task in doing:
                task.cancel()
            await asyncio.gather(*doing, return_exceptions=True)

    async def until_more(self, answers: int) -> None:
        """Wait until so many more were answered well, or one as it may not be."""
        wanted = self.ledger.succeeded + answers
        async with asyncio.timeout(PATIENCE_S):
            while self.ledger.succeeded < wanted and not self.ledger.unwanted:  # noqa: ASYNC110
                await asyncio.sleep(0.01)

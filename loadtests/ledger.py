"""The ledger of a load: each request and its response, in memory or in files that only grow."""

import asyncio
import os
import random
import re
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Iterator, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import IO, Any, NamedTuple, Self
from uuid import uuid4

import msgspec

from loadtests.wire import ERRORS, Answer, Ask, Barrage

ANSWER_S, PATIENCE_S, HASTY_PATIENCE_S = 30.0, 90.0, 600.0
"""Timeouts in seconds: of one response; of a request with its retries; and of such a request in a `hasty` ledger, which
may last through several recoveries."""
PAUSE_S, MAX_PAUSE_S = 0.05, 5.0
CREATED = frozenset({201})
CUT_OFF = "cut off"
"""Not an error: the end of the load cancelled the request."""
CLOCKS = "clocks.json"
"""In a load's folder: the clock of each worker's ledger."""
_RECORDED = "Prefer: durability=recorded, wait=2\r\n"
_CLAIMED = {"book", "upload", "make", "fill"}
"""Off the hot path a key whose outcome is unknown is claimed for a minute, so these are asked under another."""
_DURABILITY = re.compile(rb'"durability": ?"\w+",?')
_START_MS = (time.time() - time.monotonic()) * 1000


class Clock(NamedTuple):
    """How far a worker's clock is behind the master's, and how far that may be wrong."""

    behind_ms: float
    unsure_ms: float


class Entry(msgspec.Struct, omit_defaults=True):
    """A request and its response; '' where there is no value."""

    buyer: str
    """The kind of buyer that sent it."""
    op: str
    path: str
    body: dict[str, Any]
    key: str = ""
    book_id: str = ""
    """The book of the code, or the book from which a code is assigned."""
    code: str = ""
    """The code in the request."""
    status: int = 0
    """0 without a response."""
    refusal: str = ""
    """A refusal's code, or why there is no response."""
    retry_after: str = ""
    replayed: bool = False
    digest: str = ""
    """Of status and body without the durability, which a repeat may not wait for."""
    response: dict[str, Any] = {}
    wanted: bool = True
    """Whether this response is expected."""
    final: bool = True
    """Whether it was not sent again."""
    api: int = 0
    """The API that it was sent to: the number of its address in the ledger's `urls`."""
    asked_ms: float = 0.0
    """When it was first sent; all times are of this machine's clock."""
    sent_ms: float = 0.0
    answered_ms: float = 0.0

    def enter_response(self, answer: Answer) -> None:
        """Enter the response: `unreadable` if it is not a JSON object, `nameless` if it is a refusal without a code."""
        self.status, self.retry_after = answer.status, answer.headers.get("retry-after", "")
        self.replayed = "idempotency-replayed" in answer.headers
        words = _DURABILITY.sub(b"", answer.content)
        self.digest = blake2b(b"%d " % answer.status + words, digest_size=8).hexdigest()
        try:
            self.response = msgspec.json.decode(answer.content or b"{}", type=dict[str, Any])
        except (msgspec.DecodeError, UnicodeDecodeError):
            self.refusal = "unreadable"
            return
        if not answer.content and answer.status != 204:
            self.refusal = "unreadable"
        elif answer.status >= 400:
            self.refusal = str(self.response.get("code") or "nameless")

    @property
    def succeeded(self) -> bool:
        """Whether the response is a success."""
        return 200 <= self.status < 400

    @property
    def is_unknown(self) -> bool:
        return self.final and self.status in (0, 503)

    @property
    def cause(self) -> str:
        """Why this is an error; '' if the response is one that may come."""
        if not self.status:
            return f"no answer: {self.refusal}" if self.refusal else CUT_OFF
        return f"{self.status} {self.refusal}".rstrip() if self.status == 503 or not self.wanted else ""

    @property
    def user(self) -> str:
        return self.body.get("userId", "")

    @property
    def order(self) -> str:
        return self.body.get("orderId", "")

    @property
    def durability(self) -> str:
        return self.response.get("durability", "")

    @property
    def redemption(self) -> dict[str, Any] | None:
        """The redemption in the response: the whole of it, or a checkout's."""
        if not self.succeeded:
            return None
        redemption = self.response.get("redemption", self.response)
        return redemption if redemption and "redemptionId" in redemption and not redemption["rolledBackAt"] else None

    @property
    def assignment(self) -> dict[str, Any] | None:
        """The assignment in the response: the whole of it, or a checkout's gift."""
        if not self.succeeded:
            return None
        return self.response if "/coupons/assign" in self.path else self.response.get("gift")

    @property
    def rollbacks(self) -> list[dict[str, Any]]:
        """The rolled-back redemptions in the response."""
        if not self.succeeded or not self.path.endswith("/rollback"):
            return []
        return self.response.get("items", [self.response])


class Ledger:
    """Sends requests, and writes an entry for each.

    1. A request with a key is repeated under it until it gets a response other than 429, 503 or `request_in_progress`.
       One without a key is repeated only if the response says that nothing was done.
    2. Each attempt is an entry; the last is final.
    3. A response has durability `recorded`: `on_recorded` is called at once.
    """

    def __init__(
        self,
        urls: Sequence[str],
        api_key: str,
        folder: Path | None = None,
        *,
        file: IO[bytes] | None = None,
        seed: int | None = None,
        recorded: float = 0.0,
        hasty: bool = False,
        keep: bool = True,
    ) -> None:
        """`recorded` is the share of requests that wait until they are recorded. If `hasty`, requests are repeated at
        once, and TimeoutError is raised if one gets no response. Entries go into a file, which may be given or else is
        in the folder, if there is one, and into `entries`, if `keep`."""
        self.random = random.Random(seed)
        self.entries: list[Entry] = []
        self.succeeded, self.unwanted, self.in_flight = 0, 0, 0
        self.unanswered: Counter[str] = Counter()
        """By why."""
        self.on_recorded: Callable[[Entry], Awaitable[None]] | None = None
        self._recorded, self._hasty, self._keep = recorded, hasty, keep
        self._barrages = [Barrage(url, api_key, 10.0 if hasty else ANSWER_S) for url in urls]
        self._file = (folder / f"ledger-{os.getpid()}.jsonl").open("ab") if folder else file

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for barrage in self._barrages:
            barrage.close()
        if self._file:
            self._file.close()

    def move(self, api: int, url: str) -> None:
        """Send to this address what went to one of `urls`."""
        self._barrages[api].move(url)

    def write(self, entry: Entry) -> None:
        self.succeeded += entry.succeeded
        self.unwanted += not entry.wanted
        if self._file:
            self._file.write(msgspec.json.encode(entry) + b"\n")
        if self._keep:
            self.entries.append(entry)

    def wants_record(self) -> bool:
        """Whether to ask for `recorded`, by chance."""
        return self.random.random() < self._recorded

    async def ask(
        self,
        op: str,
        path: str,
        body: dict[str, Any],
        *refusals: str,
        wanted: Collection[int] = CREATED,
        method: str = "POST",
        key: str | None = None,
        recorded: bool = False,
        buyer: str = "",
        book: str = "",
        code: str = "",
    ) -> Entry:
        """Send a request until it is final; its last entry. Expected are these statuses and these refusals. It has a
        new key if none is given, and none if that is ''."""
        key = uuid4().hex if key is None else key
        asked_ms, patience_s = now_ms(), HASTY_PATIENCE_S if self._hasty else PATIENCE_S
        while True:
            entry = Entry(buyer, op, path, body, key, book, code, asked_ms=asked_ms, sent_ms=now_ms())
            headers = _RECORDED if recorded else ""
            try:
                await self._send(
                    entry,
                    Ask(method, path, body if method != "GET" else None, key if method == "POST" else "", headers),
                )
            except BaseException:
                self.write(entry)  # the load's end cuts it off
                raise
            again = self._is_repeated(entry)
            entry.final = not again or now_ms() > asked_ms + patience_s * 1000
            entry.wanted = again or entry.is_unknown or entry.status in wanted or entry.refusal in refusals
            self.write(entry)
            if entry.final:
                break
            await self._pause(entry)
            if op in _CLAIMED:
                key = uuid4().hex
        if self._hasty and key and entry.is_unknown:
            raise TimeoutError(f"no response: {op} {path} {dict(self.unanswered)}")
        if entry.durability == "recorded" and self.on_recorded:
            await self.on_recorded(entry)
        return entry

    async def _send(self, entry: Entry, ask: Ask) -> None:
        self.in_flight += 1
        entry.api = self.random.randrange(len(self._barrages))
        try:
            entry.enter_response(await self._barrages[entry.api].ask(ask))
        except ERRORS as error:
            entry.refusal = type(error).__name__
        finally:
            self.in_flight -= 1
            entry.answered_ms = now_ms()

    def _is_repeated(self, entry: Entry) -> bool:
        """Whether the request is to be sent again; counts it as unanswered then."""
        if entry.status not in (0, 429, 503) and entry.refusal != "request_in_progress":
            return False
        self.unanswered[entry.refusal if entry.status else "cut"] += 1
        return bool(entry.key) or (entry.status != 0 and entry.refusal != "outcome_unknown")

    async def _pause(self, entry: Entry) -> None:
        pause_s = float(entry.retry_after) if entry.retry_after.isdecimal() else 1.0
        try:
            await asyncio.sleep(PAUSE_S if self._hasty else min(pause_s, MAX_PAUSE_S))
        except asyncio.CancelledError:
            self.write(msgspec.structs.replace(entry, final=True))
            raise


def now_ms() -> float:
    """This machine's clock, in ms; it never goes back."""
    return _START_MS + time.monotonic() * 1000


def read_entries(folder: Path) -> Iterator[Entry]:
    """Read a load's entries, workers' times by the master's clock. msgspec.DecodeError if a line is broken."""
    clocks = folder / CLOCKS
    known = msgspec.json.decode(clocks.read_bytes(), type=dict[str, Clock]) if clocks.exists() else {}
    for path in sorted(folder.glob("ledger-*.jsonl")):
        clock = known.get(path.name, Clock(0.0, 0.0))
        with path.open("rb") as lines:
            for line in lines:
                entry = msgspec.json.decode(line, type=Entry)
                entry.asked_ms += clock.behind_ms - clock.unsure_ms
                entry.sent_ms += clock.behind_ms - clock.unsure_ms
                entry.answered_ms += clock.behind_ms + clock.unsure_ms
                yield entry

"""A ledger split into histories, one for each coupon and limit; each must be linearizable.

What is not recorded may be lost at any time after its request; so may any lock with `locks_end`: Redis was lost, or
its clock was stepped. Other locks may be gone after they expired."""

import math
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from loadtests.ledger import Entry
from loadtests.linear import Operation, Step, TooLong, is_linearizable
from loadtests.plan import LOCK_S, Book
from loadtests.things import Coupon, Limit, step_coupon, step_limit


@dataclass
class Look:
    """One request of a reader: when, how long it took (ms), and its refusal ('' for a success)."""

    at_ms: float
    took_ms: float
    code: str
    response: dict[str, Any]


class Histories:
    """The history of each thing. `lost` are the numbers, from 1, of entries that are not recorded; `places` is how many
    coupons an order may have; `looks` are the reads of one coupon."""

    def __init__(
        self,
        entries: Sequence[Entry],
        books: Mapping[str, Book],
        lost: Collection[int],
        places: int,
        *,
        locks_end: bool,
        looks: Sequence[Look] = (),
    ) -> None:
        self._books, self._places, self._locks_end = books, places, locks_end
        self._code_of: dict[str, str] = {}
        """By redemption."""
        self._order_of: dict[str, str] = {}
        """By redemption; '' without an order."""
        self._gift_of: dict[str, dict[str, Any]] = {}
        """By order."""
        self._user_of: dict[str, str] = {}
        """By code, except gifts."""
        self._per_code: dict[str, int] = {}
        """By code, if several uses."""
        self.coupons: dict[str, list[Operation]] = defaultdict(list)
        self.limits: dict[tuple[str, int], list[Operation]] = defaultdict(list)
        asked = list(_asked(entries, lost))
        asked = [(entry, is_lost) for entry, is_lost in asked if not self._is_of_card(entry)]
        for entry, _ in asked:
            if redemption := entry.redemption:
                self._code_of[redemption["redemptionId"]] = redemption["code"]
                self._order_of[redemption["redemptionId"]] = redemption["orderId"] or ""
            if (assigned := entry.assignment) and entry.op == "checkout":
                self._gift_of[entry.order] = assigned
            elif assigned:
                self._user_of[assigned["code"]] = assigned["userId"]
        for entry, is_lost in asked:
            self._enter(entry, is_lost)
        if seen := [look for look in looks if not look.code]:
            self.coupons[seen[0].response["code"]] += _turns(seen)

    def unexplained(self) -> Iterator[str]:
        """Things whose history isn't linearizable."""
        for code, history in self.coupons.items():
            if not _explained(history, Coupon(self._per_code.get(code, 1)), step_coupon):
                yield f"coupon {code}: {_brief(history)}"
        for (name, limit), history in self.limits.items():
            if not _explained(history, Limit(limit), step_limit):
                yield f"{name}: {_brief(history)}"

    def _is_of_card(self, entry: Entry) -> bool:
        """Cards have amounts, not uses: the rules judge them."""
        book = self._books.get(entry.book_id)
        return book is not None and book.kind == "cards"

    def _enter(self, entry: Entry, is_lost: bool) -> None:
        outcome = "ok" if entry.succeeded or entry.is_unknown else entry.refusal
        match entry.op:
            case "redeem" | "anew":
                self._redeem(entry, entry.code, outcome, is_lost)
            case "lock":
                self._lock(entry, outcome)
            case "unlock":
                self._add(entry, entry.path.split("/")[-1], "unlock", (entry.body["lockToken"],))
            case "switch":
                self._add(entry, entry.code, "off")
            case "unassign" if entry.succeeded:
                self._add(entry, entry.code, "take back", (self._user_of.get(entry.code, ""),))
            case "rollback":
                self._roll_back(entry, entry.path.split("/")[-2], entry.body.get("restore", True), outcome, is_lost)
            case "checkout" | "assign" | "order" if entry.succeeded:
                self._enter_more(entry, is_lost)

    def _enter_more(self, entry: Entry, is_lost: bool) -> None:
        """Enter a response that may name several coupons."""
        if redeemed := entry.redemption:
            self._redeem(entry, redeemed["code"], "ok", is_lost)
        if given := entry.assignment:
            self._add(entry, given["code"], "assign", (given["userId"],), forget=given["userId"] if is_lost else "")
        for item in entry.rollbacks:
            self._roll_back(entry, item["redemptionId"], True, "ok", is_lost)
        if entry.op == "order" and (gift := self._gift_of.get(entry.path.split("/")[-2])):
            back = _operation(entry, "take back", (gift["userId"],), "ok")
            self.coupons[gift["code"]].append(back._replace(certain=not is_lost))

    def _redeem(self, entry: Entry, code: str, outcome: str, is_lost: bool) -> None:
        redemption = (entry.redemption or {}).get("redemptionId") or f"unknown {entry.user}"
        about = (redemption, entry.user, entry.order or "-", entry.body.get("lockToken", ""))
        self._add(entry, code, "redeem", about, outcome, forget=redemption if is_lost else "")
        if (book := self._books.get(entry.book_id)) is None:
            return
        if book.per_code != 1:
            self._per_code[code] = book.per_code or 10**9
        if book.kind == "total" and book.total and outcome in ("ok", "out_of_stock"):
            self._take(entry, f"book {book.book_id}", book.total, redemption, outcome, is_lost)
        if book.per_user and outcome in ("ok", "user_redemption_limit"):
            self._take(entry, f"user {entry.user} in {book.book_id}", book.per_user, redemption, outcome, is_lost)
        if entry.order and outcome in ("ok", "order_already_used"):
            self._take(entry, f"order {entry.order}", self._places, redemption, outcome, is_lost)

    def _lock(self, entry: Entry, outcome: str) -> None:
        token = entry.response.get("lockToken", f"unknown {entry.user}")
        self._add(entry, entry.code, "lock", (token, entry.user, entry.order or "-"), outcome)
        if outcome == "ok":
            until_ms = entry.asked_ms
            if entry.succeeded and not self._locks_end:
                # Not `expiresAt`, which is a time of the service's clock.
                until_ms += 1000 * (book.lock_s if (book := self._books.get(entry.book_id)) else LOCK_S)
            self.coupons[entry.code].append(Operation(until_ms, math.inf, "forget", (token,), certain=False))

    def _roll_back(self, entry: Entry, redemption: str, restore: bool, outcome: str, is_lost: bool) -> None:
        if code := self._code_of.get(redemption):
            forget = f"rollback {redemption}" if is_lost else ""
            self._add(entry, code, "rollback", (redemption, restore), outcome, forget=forget)
            if outcome == "ok" and restore and (order := self._order_of[redemption]):
                given = _operation(entry, "give", (redemption,), outcome)
                self.limits[f"order {order}", self._places].append(
                    given._replace(certain=given.certain and not is_lost)
                )

    def _add(
        self, entry: Entry, code: str, what: str, about: tuple[Any, ...] = (), outcome: str = "ok", forget: str = ""
    ) -> None:
        history = self.coupons[code]
        history.append(_operation(entry, what, about, outcome))
        if outcome == "ok" and forget:
            history.append(Operation(entry.asked_ms, math.inf, "forget", (forget,), certain=False))

    def _take(self, entry: Entry, name: str, limit: int, redemption: str, outcome: str, is_lost: bool) -> None:
        history = self.limits[name, limit]
        history.append(_operation(entry, "take", (redemption,), outcome))
        if is_lost:
            history.append(Operation(entry.asked_ms, math.inf, "give", (redemption,), certain=False))


def _asked(entries: Sequence[Entry], lost: Collection[int]) -> Iterator[tuple[Entry, bool]]:
    """Each request once, and whether it was lost: responses under one key are one operation, before the first."""
    first: dict[tuple[str, str], int] = {}
    requests: list[tuple[Entry, bool]] = []
    for number, entry in enumerate(entries, 1):
        if not entry.final or entry.op == "again":
            continue
        name = entry.key, entry.digest
        if entry.succeeded and entry.key and name in first:
            other, is_lost = requests[first[name]]
            asked_ms, answered_ms = min(other.asked_ms, entry.asked_ms), min(other.answered_ms, entry.answered_ms)
            merged = msgspec.structs.replace(other, asked_ms=asked_ms, answered_ms=answered_ms)
            requests[first[name]] = merged, is_lost
        else:
            first[name] = len(requests)
            requests.append((entry, number in lost))
    return iter(requests)


def _operation(entry: Entry, what: str, about: tuple[Any, ...], outcome: str) -> Operation:
    known = not entry.is_unknown
    return Operation(entry.asked_ms, entry.answered_ms if known else math.inf, what, about, outcome, certain=known)


def _turns(seen: Sequence[Look]) -> list[Operation]:
    """Of successive reads with one status, the first and the last."""
    status = [str(look.response.get("status")) for look in seen]
    kept = [
        place
        for place in range(len(seen))
        if not 0 < place < len(seen) - 1 or status[place - 1 : place + 2] != [status[place]] * 3
    ]
    return [Operation(seen[at].at_ms, seen[at].at_ms + seen[at].took_ms, "look", outcome=status[at]) for at in kept]


def _explained(history: list[Operation], start: Any, step: Step) -> bool:
    try:
        return is_linearizable(history, start, step)
    except TooLong:
        return True


def _brief(history: list[Operation]) -> str:
    first = min(one.asked for one in history)
    lines = [
        f"{one.asked - first:.0f}-{one.answered - first:.0f} {one.what} {' '.join(map(str, one.about))}: {one.outcome}"
        for one in sorted(history)
    ]
    return "; ".join(lines)[:1500]

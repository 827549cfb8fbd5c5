"""A ledger as histories of single things, a coupon or a limit each, to be explained one by one.

What the record doesn't have was lost: after it was answered it may have been forgotten at any time, and so may any lock
once Redis was lost or its clock was moved."""

import math
from collections import defaultdict
from collections.abc import Collection, Iterator
from typing import Any

from tests.faults.ledger import BOOK_USES, CODE_USES, UNKNOWN, USER_USES, Answer, Ledger, Look
from tests.faults.linear import Operation, Step, TooLong, is_linearizable
from tests.faults.things import Coupon, Limit, step_coupon, step_limit


class Histories:
    """What a ledger says of each thing. `lost` are the answers that the record doesn't have; `locks_end` says whether
    locks may have ended before their time."""

    def __init__(self, ledger: Ledger, lost: Collection[Answer], *, locks_end: bool) -> None:
        self._ledger, self._lost, self._locks_end = ledger, set(map(id, lost)), locks_end
        self._book_of = {code: book for book, codes in ledger.book_codes.items() for code in codes}
        self._code_of: dict[str, str] = {}
        """A redemption's."""
        self.coupons: dict[str, list[Operation]] = defaultdict(list)
        self.limits: dict[tuple[str, int], list[Operation]] = defaultdict(list)
        self._gift_of: dict[str, dict[str, Any]] = {}
        """An order's."""
        for answer in ledger.answers:
            if redemption := _redemption(answer):
                self._code_of[redemption["redemptionId"]] = redemption["code"]
            if answer.kind == "checkout" and answer.succeeded and answer.said["gift"]:
                self._gift_of[answer.body["orderId"]] = answer.said["gift"]
        for answer in ledger.answers:
            self._enter(answer)
        self.coupons[ledger.codes[0]] += _turns(ledger.looks)

    def unexplained(self) -> Iterator[str]:
        """The things whose history no order explains."""
        shared = set(self._ledger.books.shared)
        for code, history in self.coupons.items():
            start = Coupon(CODE_USES if code in shared else 1)
            if not _explained(history, start, step_coupon):
                yield f"no order explains what was told of coupon {code}: {_brief(history)}"
        for (name, limit), history in self.limits.items():
            if not _explained(history, Limit(limit), step_limit):
                yield f"no order explains what was told of {name}: {_brief(history)}"

    def _enter(self, answer: Answer) -> None:
        told = "ok" if answer.succeeded or answer.status == UNKNOWN else answer.code
        path, body = answer.path.split("/"), answer.body
        match answer.kind:
            case "redeem" | "anew":
                self._redeem(answer, path[-1], told)
            case "lock":
                token = answer.said.get("lockToken", "")
                about = (token, body["userId"], body.get("orderId", "-"))
                self._add(answer, path[-1], "lock", about, told, forget=token if self._locks_end else "")
            case "unlock":
                self._add(answer, path[-1], "unlock", (body["lockToken"],))
            case "switch":
                self._add(answer, path[-1], "off")
            case "rollback":
                self._roll_back(answer, path[-2], body["restore"], told)
            case "checkout" | "assign" | "order" if answer.succeeded:
                self._enter_more(answer)

    def _enter_more(self, answer: Answer) -> None:
        """What the answer says was done, to one coupon or more."""
        said = answer.said
        redeemed, given = said.get("redemption"), said if answer.kind == "assign" else said.get("gift")
        if redeemed:
            self._redeem(answer, redeemed["code"], "ok")
        if given:
            self._add(answer, given["code"], "assign", (given["userId"],), forget=given["userId"])
        for item in said.get("items", []):
            self._roll_back(answer, item["redemptionId"], True, "ok")
        if answer.kind == "order" and (gift := self._gift_of.get(answer.path.split("/")[-2])):
            back = _operation(answer, "take back", (gift["userId"],), "ok")
            self.coupons[gift["code"]].append(back._replace(certain=id(answer) not in self._lost))

    def _redeem(self, answer: Answer, code: str, told: str) -> None:
        said, body, books = _redemption(answer) or {}, answer.body, self._ledger.books
        redemption = said.get("redemptionId") or f"unknown {body['userId']}"
        about = (redemption, body["userId"], body.get("orderId", "-"), body.get("lockToken", ""))
        self._add(answer, code, "redeem", about, told, forget=redemption)
        book = self._book_of[code]
        if book == books.total and told in ("ok", "out_of_stock"):
            self._take(answer, f"book {book}", BOOK_USES, redemption, told)
        if book == books.user and told in ("ok", "user_redemption_limit"):
            self._take(answer, f"user {body['userId']}", USER_USES, redemption, told)
        if "orderId" in body and told in ("ok", "order_already_used"):
            self._take(answer, f"order {body['orderId']}", 1, redemption, told)

    def _roll_back(self, answer: Answer, redemption: str, restore: bool, told: str) -> None:
        if code := self._code_of.get(redemption):
            self._add(answer, code, "rollback", (redemption, restore), told, forget=f"rollback {redemption}")

    def _add(
        self, answer: Answer, code: str, what: str, about: tuple[Any, ...] = (), told: str = "ok", forget: str = ""
    ) -> None:
        history = self.coupons[code]
        history.append(_operation(answer, what, about, told))
        if told == "ok" and forget and (id(answer) in self._lost or what == "lock"):
            history.append(Operation(answer.asked, math.inf, "forget", (forget,), certain=False))

    def _take(self, answer: Answer, name: str, limit: int, redemption: str, told: str) -> None:
        history = self.limits[name, limit]
        history.append(_operation(answer, "take", (redemption,), told))
        if id(answer) in self._lost:
            history.append(Operation(answer.asked, math.inf, "give", (redemption,), certain=False))


def _operation(answer: Answer, what: str, about: tuple[Any, ...], told: str) -> Operation:
    known = answer.status != UNKNOWN
    return Operation(answer.asked, answer.answered if known else math.inf, what, about, told, certain=known)


def _redemption(answer: Answer) -> dict[str, Any] | None:
    if answer.succeeded and answer.kind in {"redeem", "anew"}:
        return answer.said
    return answer.said["redemption"] if answer.succeeded and answer.kind == "checkout" else None


def _turns(looks: list[Look]) -> list[Operation]:
    """The first and the last of those in a row that saw the same."""
    seen = [look for look in looks if not look.code]
    status = [str(look.said.get("status")) for look in seen]
    kept = [
        place
        for place in range(len(seen))
        if not 0 < place < len(seen) - 1 or status[place - 1 : place + 2] != [status[place]] * 3
    ]
    return [Operation(seen[at].at, seen[at].at + seen[at].took, "look", told=status[at]) for at in kept]


def _explained(history: list[Operation], start: Any, step: Step) -> bool:
    try:
        return is_linearizable(history, start, step)
    except TooLong:
        return True


def _brief(history: list[Operation]) -> str:
    first = min(one.asked for one in history)
    told = [
        f"{one.asked - first:.3f}-{one.answered - first:.3f} {one.what} {' '.join(map(str, one.about))}: {one.told}"
        for one in sorted(history)
    ]
    return "; ".join(told)[:1500]

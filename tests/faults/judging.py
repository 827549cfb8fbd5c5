"""What must be true of a ledger once a fault is over: in Postgres, in Redis, and of what the service answers now."""

import asyncio
import time
from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from tests.faults.histories import Histories
from tests.faults.ledger import BOOK_USES, CODE_USES, LEFT_S, UNKNOWN, USER_CODES, USER_USES, Answer, Ledger
from tests.faults.rebuilding import unlike_rebuilt
from tests.faults.stage import Stage

ASKED_AGAIN = 25
"""Answers of each kind of end that are asked for once more."""
_HELD = {"lock", "unlock", "leave"}
"""What leaves no event: its keys live in Redis alone."""


_DECIDED = {"redeem", "assign", "lock", "leave", "unlock", "checkout", "rollback", "order"}
"""What Redis decides."""


@dataclass
class Verdict:
    """What was found."""

    wrong: list[str] = field(default_factory=list)
    double: int = 0
    """How many of these say that something was done twice, or that a limit was passed."""
    lost: Counter[str] = field(default_factory=Counter)
    """Answers that are not in the record, by the durability they had told."""
    kept: int = 0
    aside: int = 0


class Judge:
    """Judges one ledger.

    1. Every success is in Postgres as it was answered, or was lost: then nothing of it is there, and it had said no
       more than what the fault may lose. Nothing is in Postgres that nobody was answered.
    2. No limit was passed by what stands.
    3. What was kept is answered again in the same words; what was lost is decided anew, as never asked.
    4. What the merchant was told holds; no code is missing. Nothing was decided while the partition was closed.
    5. For each coupon, user, order and total there is an order in which all that was told of it follows.
    6. Redis holds what a Redis that is built from Postgres alone holds, and no process has raised an alarm.
    """

    def __init__(self, ledger: Ledger, may_lose: frozenset[str], alarms: tuple[str, ...] = ()) -> None:
        self.ledger, self.stage, self._may_lose, self._alarms = ledger, ledger.stage, may_lose, alarms
        self.verdict = Verdict()
        self._lost: list[Answer] = []
        self._kept: list[Answer] = []
        self._redemptions: dict[UUID, Any] = {}
        self._assignments: dict[tuple[str, str, int], Any] = {}

    async def judge(self, *, locks_end: bool) -> Verdict:
        """All of it; `locks_end` as Histories. Changes what it asks: judge a ledger once."""
        verdict, ledger = self.verdict, self.ledger
        verdict.wrong += ledger.wrong
        verdict.wrong += _answered_while_closed(ledger)
        await self.stage.until_ready()
        await self._compare_answers()
        self._passed(await passed_limits(self.stage, ledger))
        await self._set_aside()
        await self._ask_again()
        await self._configuration()
        before = len(ledger.wrong)
        await self._until_left_locks_end()
        await ledger.top_up()
        verdict.wrong += ledger.wrong[before:]
        await self.stage.until_ready()
        self._passed(await passed_limits(self.stage, ledger, exactly=True))
        verdict.wrong += Histories(ledger, self._lost, locks_end=locks_end).unexplained()
        before = len(ledger.wrong)
        await ledger.tidy()
        verdict.wrong += ledger.wrong[before:]
        await self.stage.until_ready()
        self.stage.held_keys |= {answer.key for answer in ledger.answers if answer.kind in _HELD}
        verdict.wrong += await unlike_rebuilt(self.stage)
        verdict.wrong += [said for said in self.stage.alarms() if not any(alarm in said for alarm in self._alarms)]
        verdict.kept = len(self._kept)
        return verdict

    def _passed(self, limits: list[str]) -> None:
        self.verdict.wrong += limits
        self.verdict.double += len(limits)

    async def _until_left_locks_end(self) -> None:
        left = max((answer.answered for answer in self.ledger.answers if answer.kind == "leave"), default=0.0)
        await asyncio.sleep(max(0.0, left + LEFT_S + 0.1 - time.monotonic()))

    async def _compare_answers(self) -> None:
        fetch, books = self.stage.pool.fetch, list(self.ledger.book_codes)
        sql = """SELECT r.*, rolled_back_at FROM redemptions r JOIN books USING (workspace, book)
                 LEFT JOIN rollbacks USING (redemption_id) WHERE book_id = ANY($1)"""
        self._redemptions = {row["redemption_id"]: row for row in await fetch(sql, books)}
        sql = """SELECT a.*, (extract(epoch FROM assigned_at) * 1000)::bigint AS at_ms FROM assignments a
                 JOIN books USING (workspace, book) WHERE book_id = ANY($1)"""
        self._assignments = {(row["code"], row["user_id"], row["at_ms"]): row for row in await fetch(sql, books)}
        told: set[Any] = set()
        for answer in self.ledger.answers:
            if answer.succeeded and answer.kind in {"redeem", "assign", "checkout", "rollback", "order"}:
                told |= self._compare(answer)
        for answer in self.ledger.answers:
            if answer.code in {"redemption_not_found", "order_not_found"} and not self._lost:
                self.verdict.wrong.append(f"{answer.path}: {answer.code}, and nothing was lost")
        unknown = (self._redemptions.keys() | self._assignments.keys()) - told - self._perhaps()
        if unknown:
            self.verdict.wrong.append(f"{len(unknown)} recorded that nobody was answered: {list(unknown)[:3]}")
            self.verdict.double += len(unknown)

    def _perhaps(self) -> set[UUID]:
        """A redemption for each request whose outcome stayed unknown, where there is one."""
        users = {answer.body["userId"] for answer in self.ledger.answers if answer.status == UNKNOWN}
        found = {row["user_id"]: redemption for redemption, row in self._redemptions.items() if row["user_id"] in users}
        return set(found.values())

    def _compare(self, answer: Answer) -> set[Any]:
        """Enter an answer as kept or lost; the facts that it tells of."""
        said = answer.said
        facts: list[tuple[Any, str]] = []
        match answer.kind:
            case "redeem":
                facts = [(UUID(said["redemptionId"]), self._unlike_redemption(said))]
            case "assign":
                facts = [(_assigned(said), self._unlike_assignment(said))]
            case "checkout":
                if redemption := said["redemption"]:
                    facts.append((UUID(redemption["redemptionId"]), self._unlike_redemption(redemption)))
                if gift := said["gift"]:
                    facts.append((_assigned(gift), self._unlike_assignment(gift)))
            case "rollback" | "order":
                rolled = said.get("items", [said])
                may_be_lost = answer.durability in self._may_lose
                facts = [(UUID(one["redemptionId"]), self._unlike_rollback(one, may_be_lost)) for one in rolled]
        missing = sum(unlike == "missing" for _, unlike in facts)
        unlike = [what for _, what in facts if what not in ("", "missing")]
        if unlike or missing not in (0, len(facts)):
            self.verdict.wrong.append(
                f"{answer.kind} {answer.durability} {answer.path}: {[f[1] for f in facts]} {said}"
            )
        if not missing:
            self._kept.append(answer)
            return {fact for fact, _ in facts}
        self._lost.append(answer)
        self.verdict.lost[answer.durability] += 1
        if answer.durability not in self._may_lose:
            self.verdict.wrong.append(f"lost, {answer.durability}: {answer.kind} {answer.path} {said}")
        return set()

    def _unlike_redemption(self, said: dict[str, Any]) -> str:
        row = self._redemptions.get(UUID(said["redemptionId"]))
        if row is None:
            return "missing"
        told = {
            "code": row["code"], "userId": row["user_id"], "orderId": row["order_id"], "currency": row["currency"],
            "orderValue": f"{row['order_value']:.2f}", "discountAmount": f"{row['discount_amount']:.2f}",
            "finalAmount": f"{row['final_amount']:.2f}", "redeemedAt": _text(row["redeemed_at"]),
        }  # fmt: skip
        return ", ".join(f"{name} is recorded as {value}" for name, value in told.items() if said[name] != value)

    def _unlike_assignment(self, said: dict[str, Any]) -> str:
        return "" if _assigned(said) in self._assignments else "missing"

    def _unlike_rollback(self, said: dict[str, Any], may_be_lost: bool) -> str:
        """One that was lost may have been asked for twice at once, and the other was carried out after the loss."""
        row = self._redemptions.get(UUID(said["redemptionId"]))
        if row is None or row["rolled_back_at"] is None:
            return "missing"
        if _text(row["rolled_back_at"]) == said["rolledBackAt"]:
            return ""
        return "missing" if may_be_lost else "rolled back at another time"

    async def _ask_again(self) -> None:
        random, ask, wrong = self.ledger.random, self.ledger.ask, self.verdict.wrong
        kept = [answer for answer in self._kept if answer.key]
        for answer in random.sample(kept, min(ASKED_AGAIN, len(kept))):
            told = await ask("again", answer.path, answer.body, {answer.status}, key=answer.key)
            if _settled(told) != _settled(answer):
                wrong.append(f"again {answer.path}: {told.said}, and was {answer.said}")
        lost = [answer for answer in self._lost if answer.kind == "redeem" and answer.key]
        for answer in random.sample(lost, min(ASKED_AGAIN, len(lost))):
            others = ("coupon_redeemed", "coupon_exhausted", "user_redemption_limit", "out_of_stock")
            others += ("order_already_used", "lock_lost", "coupon_assigned_to_other")
            told = await ask("anew", answer.path, answer.body, {201}, *others, key=answer.key)
            if told.said.get("redemptionId") == answer.said["redemptionId"]:
                wrong.append(f"lost, and yet there: {answer.path}")
            if told.code and not self._used_by_another(answer):
                wrong.append(f"lost, and yet {told.code}: {answer.path} {answer.body}")

    def _used_by_another(self, lost: Answer) -> bool:
        """Whether something that stands in the lost one's way may be recorded."""
        code, body = lost.said["code"], lost.body
        near = {code, body["userId"], body["orderId"]}
        shared = code not in self.ledger.codes or "lockToken" in body
        return shared or any(
            near & {row["code"], row["user_id"], row["order_id"]} for row in self._redemptions.values()
        )

    async def _set_aside(self) -> None:
        """What a server had decided that was left and come back to is recorded, or kept in quarantine."""
        for outbox in self.ledger.outboxes:
            told = {tuple(map(int, at.split("-"))): d for at, d in outbox.items() if d[:2] in ("A ", "U ", "R ", "B ")}
            rows = await self.stage.pool.fetch("SELECT epoch, seq FROM facts UNION SELECT epoch, seq FROM quarantine")
            if nowhere := told.keys() - {tuple(row) for row in rows}:
                self.verdict.wrong.append(f"{len(nowhere)} events are nowhere: {sorted(nowhere)[:5]}")

    async def _configuration(self) -> None:
        ledger = self.ledger
        before = len(ledger.wrong)
        for code in ledger.switched_off:
            await ledger.redeem(code, "coupon_inactive", wanted=set())
        for code in ledger.limits.values():
            await ledger.redeem(code, "out_of_stock", wanted=set())
        for codes in ledger.book_codes.values():
            for code in codes[:: max(1, len(codes) // 40)]:
                await ledger.ask("coupon", f"/v1/coupons/{code}", {}, {200}, method="GET")
        self.verdict.wrong += ledger.wrong[before:]


async def passed_limits(stage: Stage, ledger: Ledger, exactly: bool = False) -> list[str]:
    """Limits that more stands against than they allow; with `exactly` also those that could have been reached."""
    standing = """SELECT r.* FROM redemptions r LEFT JOIN rollbacks b USING (redemption_id)
        WHERE b.restore IS NOT TRUE"""
    fetch, books = stage.pool.fetch, ledger.books
    found = []
    sql = f"SELECT code, count(*) FROM ({standing}) r GROUP BY code HAVING count(*) > max(max_redemptions)"
    found += [f"code {row[0]} used {row[1]} times" for row in await fetch(sql)]
    of_order = f"SELECT order_id, count(*) FROM ({standing}) r WHERE order_id IS NOT NULL"
    sql = f"{of_order} GROUP BY order_id HAVING count(*) > 1"
    found += [f"order {row[0]} has {row[1]} coupons" for row in await fetch(sql)]
    of_book = f"SELECT user_id, count(*) FROM ({standing}) r JOIN books USING (workspace, book) WHERE book_id = $1"
    rows = await fetch(f"{of_book} GROUP BY user_id HAVING count(*) > $2", books.user, USER_USES)
    found += [f"user {row[0]} redeemed {row[1]} codes" for row in rows]
    for name in ("total", "held", "left"):
        total = sum(row[1] for row in await fetch(f"{of_book} GROUP BY user_id", getattr(books, name)))
        if total > BOOK_USES or (exactly and total != BOOK_USES):
            found.append(f"a book of {BOOK_USES} ({name}) was used {total} times")
    sql = """SELECT user_id, count(*) FROM assignments a JOIN books USING (workspace, book)
        WHERE book_id = $1 AND unassigned_at IS NULL GROUP BY user_id HAVING count(*) > $2"""
    found += [f"user {row[0]} has {row[1]} codes" for row in await fetch(sql, books.assigned, USER_CODES)]
    sql = f"SELECT code, count(*) FROM ({standing}) r WHERE code = ANY($1) GROUP BY code"
    used = dict(await fetch(sql, books.shared))
    found += [
        f"code {code} used {used.get(code, 0)} times"
        for code in books.shared
        if exactly and used.get(code) != CODE_USES
    ]
    return found


def _answered_while_closed(ledger: Ledger) -> list[str]:
    """Decisions of a Redis that nobody had verified. Changes of configuration are Postgres's."""
    return [
        f"{answer.kind} {answer.path} was decided while the partition was closed: {answer.status} {answer.code}"
        for begun, end in ledger.closed
        for answer in ledger.answers
        if begun < answer.sent and answer.answered < end and answer.kind in _DECIDED
    ]


def _settled(answer: Answer) -> dict[str, Any]:
    """Without the durability: the one who asks again may not wait for more."""
    return answer.said | {"durability": None}


def _assigned(said: dict[str, Any]) -> tuple[str, str, int]:
    at = datetime.fromisoformat(said["assignedAt"])
    return said["code"], said["userId"], round(at.timestamp() * 1000)


def _text(at: datetime) -> str:
    return at.strftime("%Y-%m-%dT%H:%M:%S.") + f"{at.microsecond // 1000:03}Z"

"""Attacks on a sale, with honest buyers beside them.

It starts a service of its own, and prints a table of what was tried and what came of it; it fails where anything isn't
as it should be:
1. Guesses: 200 addresses guess codes with a public key, together so many a second, while buyers lock and redeem.
2. Lockers: 500 users lock whatever they can of 1,000 codes, again and again, while buyers lock and redeem.
3. Races: rounds of 100 redeems of one code, released together by their last byte.
Buyers are a process of their own, so that their times are not the attackers'."""

import argparse
import asyncio
import os
import random
import statistics
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from typing import Any, NamedTuple
from uuid import uuid4

from loadtests.figures import markdown
from loadtests.own import own_service
from loadtests.target import Target, count
from loadtests.wire import Answer, Ask, Barrage, Wire

GUESSES, ADDRESSES, GUESSES_A_SECOND = 100_000, 200, 2_500
LOCKERS, CODES, LOCKS = 500, 1_000, 20_000
ROUNDS, AT_ONCE = 2_000, 100
BUYERS, PAIRS_A_SECOND = 16, 100
SLOWER = 1.5
"""How much longer a buyer's p99 may be beside guessers."""
CHARSET = "23456789ABCDEFGHJKLMNPQRSTUVWXYZ"


class Line(NamedTuple):
    attack: str
    asked: str
    seen: str
    right: bool


class Bought(NamedTuple):
    """What came of the buyers."""

    pairs: int
    failed: Counter[str]
    times_ms: list[float]

    @property
    def p99_ms(self) -> float:
        return statistics.quantiles(self.times_ms, n=100)[98]


def buy(url: str, codes: list[str], seconds: float, share: bool) -> Bought:
    """Lock and redeem so many pairs a second: each its own code, or with `share` any that is not locked."""
    return asyncio.run(_buy(url, codes, seconds, share))


async def _buy(url: str, codes: list[str], seconds: float, share: bool) -> Bought:
    bought = Bought(0, Counter(), [])
    pairs, run, ends = 0, uuid4().hex[:8], time.monotonic() + seconds
    left = iter(codes)

    async def buyer(number: int) -> None:
        nonlocal pairs
        wire = Wire(url, "demo_checkout")

        async def timed(path: str, body: dict[str, Any]) -> Answer:
            began = time.perf_counter()
            answer = await wire.ask(Ask("POST", path, body))
            bought.times_ms.append((time.perf_counter() - began) * 1000)
            return answer

        await asyncio.sleep(random.random() * BUYERS / PAIRS_A_SECOND)
        turn = 0
        while time.monotonic() < ends:
            began, turn = time.monotonic(), turn + 1
            user = f"buyer-{run}-{number}-{turn}"
            for code in random.sample(codes, 50) if share else [next(left)]:
                answer = await timed(f"/v1/coupons/lock/{code}", {"userId": user, "orderId": user})
                if answer.status == 201:
                    token = {"userId": user, "orderId": user, "lockToken": answer.body["lockToken"]}
                    answer = await timed(f"/v1/coupons/redeem/{code}", token)
                if answer.status == 201:
                    pairs += 1
                    break
                if not share or answer.body["code"] not in ("coupon_locked", "coupon_redeemed"):
                    bought.failed[answer.body["code"]] += 1
                    break
            else:
                bought.failed["no free code"] += 1
            await asyncio.sleep(max(0.0, BUYERS / PAIRS_A_SECOND - (time.monotonic() - began)))
        wire.close()

    await asyncio.gather(*(buyer(number) for number in range(BUYERS)))
    return bought._replace(pairs=pairs)


async def _aside(buyers: ProcessPoolExecutor, *asked: Any) -> Bought:
    return await asyncio.get_running_loop().run_in_executor(buyers, buy, *asked)


async def guess(url: str, on: Target, buyers: ProcessPoolExecutor, guesses: int, rate: int) -> Line:
    """Guesses at codes that look like those of a book with 1,000."""
    targets = await stock(on, "GUESS", 1_000)
    seconds = guesses / rate
    codes = await stock(on, "HONEST", int(PAIRS_A_SECOND * seconds * 3) + 1_000)
    half = len(codes) // 2
    usual = await _aside(buyers, url, codes[:half], seconds / 2, False)
    outcomes: Counter[str] = Counter()
    hits = 0

    async def guesser(number: int) -> None:
        nonlocal hits
        wire = Wire(url, "demo_public", f"10.9.{number // 256}.{number % 256}")
        pause_s, began = ADDRESSES / rate, time.monotonic()
        for turn in range(guesses // ADDRESSES):
            await asyncio.sleep(max(0.0, began + (turn + number / ADDRESSES) * pause_s - time.monotonic()))
            answer = await wire.ask(Ask("POST", "/v1/coupons/validate", {"code": f"GUESS-{_random_code()}"}))
            is_hit = answer.status < 400 and answer.body["valid"]
            outcomes[answer.body["code"] if answer.status >= 400 else "valid" if is_hit else "not available"] += 1
            hits += is_hit
        wire.close()

    beside = asyncio.create_task(_aside(buyers, url, codes[half:], seconds, False))
    began = time.monotonic()
    await asyncio.gather(*(guesser(number) for number in range(ADDRESSES)))
    took_s = time.monotonic() - began
    honest = await beside
    minutes = int(took_s // 60) + 2
    looked_up = outcomes["not available"]
    right = not hits and not honest.failed and looked_up <= 100 * ADDRESSES * minutes
    right = right and outcomes.total() == guesses // ADDRESSES * ADDRESSES and honest.p99_ms <= SLOWER * usual.p99_ms
    seen = (
        f"{hits} hits on {len(targets)} codes; {looked_up:,} looked up, "
        f"{outcomes['too_many_misses']:,} refused unread; buyers: {honest.pairs:,} pairs, "
        f"{honest.failed.total()} refused, p99 {honest.p99_ms:.1f} ms (before: {usual.p99_ms:.1f} ms)"
    )
    return Line("guesses", f"{outcomes.total():,} by {ADDRESSES} addresses in {took_s:.0f} s", seen, right)


async def hoard(url: str, on: Target, buyers: ProcessPoolExecutor, locks: int) -> Line:
    """Locks by many users who never buy."""
    codes = await stock(on, "SALE", CODES, limits={"locksPerUser": 1, "lockedPercent": 80}, lockSeconds=600)
    outcomes: Counter[str] = Counter()

    async def locker(number: int) -> None:
        wire = Wire(url, "demo_checkout")
        for turn in range(locks // LOCKERS):
            user = {"userId": f"locker-{number}", "orderId": f"L-{number}-{turn}"}
            answer = await wire.ask(Ask("POST", f"/v1/coupons/lock/{random.choice(codes)}", user))
            outcomes[answer.label] += 1
        wire.close()

    attack = asyncio.gather(*(locker(number) for number in range(LOCKERS)))
    honest = await _aside(buyers, url, codes, CODES / 5 / PAIRS_A_SECOND, True)
    await attack
    held = outcomes["201"]
    right = held <= LOCKERS and honest.pairs > 0 and not honest.failed
    seen = (
        f"{held} locks held, {outcomes['429 lock_quota']:,} refused; buyers: {honest.pairs} of "
        f"{honest.pairs + honest.failed.total()} got through"
    )
    return Line("lockers", f"{outcomes.total():,} locks by {LOCKERS} users on {CODES:,} codes", seen, right)


async def race(on: Target, rounds: int) -> Line:
    """Redeems of one code whose last bytes go out together."""
    seen: Counter[str] = Counter()
    for code in await stock(on, "RACE", rounds):

        def ask(number: int, code: str = code) -> Ask:
            body = {"userId": f"racer-{number}", "orderId": f"{code}-{number}"}
            return Ask("POST", f"/v1/coupons/redeem/{code}", body)

        counts = count(await on.fire(ask))
        seen[", ".join(f"{name} × {many}" for name, many in sorted(counts.items()))] += 1
    summary = "; ".join(f"{many:,} rounds: {what}" for what, many in seen.most_common())
    expected = f"201 × 1, 409 coupon_redeemed × {AT_ONCE - 1}"
    return Line("races", f"{rounds:,} rounds of {AT_ONCE} redeems", summary, set(seen) == {expected})


async def stock(on: Target, prefix: str, many: int, **rules: Any) -> list[str]:
    """The codes of a new book."""
    codes = [f"{prefix}-{_random_code()}" for _ in range(many)]
    await on.book(codes, name=prefix, **rules)
    return codes


async def run(url: str, chosen: argparse.Namespace) -> bool:
    """The attacks in turn, and their table; whether all was as it should be."""
    with ProcessPoolExecutor(1) as buyers, Barrage(url, "demo_admin") as barrage:
        on = Target(barrage, AT_ONCE)
        lines = [
            await guess(url, on, buyers, chosen.guesses, chosen.rate),
            await hoard(url, on, buyers, chosen.locks),
            await race(on, chosen.rounds),
        ]
    rows = [(line.attack, line.asked, line.seen, "yes" if line.right else "**no**") for line in lines]
    print(markdown(("attack", "asked", "seen", "as it should be"), rows))
    return all(line.right for line in lines)


def _random_code() -> str:
    return "".join(random.choices(CHARSET, k=12))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--guesses", type=int, default=GUESSES)
    parser.add_argument("--rate", type=int, default=GUESSES_A_SECOND, help="guesses a second, of all together")
    parser.add_argument("--locks", type=int, default=LOCKS)
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="of redeems released together")
    chosen = parser.parse_args()
    os.environ["SCRIP_TRUSTED_PROXIES"] = "127.0.0.1"  # so that each guesser has an address of its own
    with own_service() as service:
        return not asyncio.run(run(service.url, chosen))

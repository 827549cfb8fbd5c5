"""Attacks on a sale, with honest buyers beside them: `python -m loadtests.attack`.

It starts a service of its own, and prints a table of what was tried and what came of it; it fails where anything isn't
as it should be:
1. Guesses: 200 addresses guess codes with a public key, together so many a second, while buyers lock and redeem.
2. Lockers: 500 users lock whatever they can of 1,000 codes, again and again, while buyers lock and redeem.
3. Races: rounds of 100 redeems of one code, released together by their last byte.
Buyers are a process of their own, so that their times are not the attackers'."""

import argparse
import asyncio
import json
import os
import random
import statistics
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import Any, NamedTuple
from uuid import uuid4

import httpx

from loadtests.own import own_service

GUESSES, ADDRESSES, GUESSES_A_SECOND = 100_000, 200, 2_500
LOCKERS, CODES, LOCKS = 500, 1_000, 20_000
ROUNDS, AT_ONCE = 2_000, 100
BUYERS, PAIRS_A_SECOND = 16, 100
SLOWER = 1.5
"""How much longer a buyer's p99 may be beside guessers."""
CHARSET = "23456789ABCDEFGHJKLMNPQRSTUVWXYZ"


class Line(NamedTuple):
    """A line of the table."""

    attack: str
    asked: str
    seen: str
    right: bool


class Wire:
    """One connection; what is asked on it is answered in turn."""

    def __init__(self, url: str, key: str, address: str = "") -> None:
        host, port = url.removeprefix("http://").split(":")
        self._at = (host, int(port))
        forwarded = f"X-Forwarded-For: {address}\r\n" if address else ""
        self._head = f"Host: scrip\r\nAuthorization: Bearer {key}\r\nContent-Type: application/json\r\n{forwarded}"
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    def packed(self, path: str, body: dict[str, Any]) -> bytes:
        """A request's bytes."""
        data = json.dumps(body)
        return f"POST {path} HTTP/1.1\r\n{self._head}Content-Length: {len(data)}\r\n\r\n{data}".encode()

    async def send(self, data: bytes) -> None:
        """Send a part of a request."""
        if self._streams is None:
            self._streams = await asyncio.open_connection(*self._at)
        self._streams[1].write(data)
        await self._streams[1].drain()

    async def answer(self) -> tuple[int, Any]:
        """Status and body."""
        assert self._streams
        head = await self._streams[0].readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].split(b"\r", 1)[0] or 0)
        body = await self._streams[0].readexactly(length)
        return int(head[9:12]), json.loads(body) if body else None

    async def ask(self, path: str, body: dict[str, Any]) -> tuple[int, Any]:
        """One request and its answer."""
        await self.send(self.packed(path, body))
        return await self.answer()

    def close(self) -> None:
        """End the connection."""
        if self._streams:
            self._streams[1].close()


class Shop:
    """What operators do."""

    def __init__(self, url: str) -> None:
        self._client = httpx.Client(base_url=url, headers={"Authorization": "Bearer demo_admin"}, timeout=60)

    def made(self, path: str, **body: Any) -> dict[str, Any]:
        """What was made."""
        return self._client.post(path, json=body).raise_for_status().json()

    def book(self, prefix: str, many: int, **said: Any) -> list[str]:
        """The codes of a new book."""
        codes = [f"{prefix}-{_random_code()}" for _ in range(many)]
        book = self.made("/v1/books", name=prefix, **said)["bookId"]
        for start in range(0, many, 10_000):
            self.made(f"/v1/books/{book}/codes", codes=codes[start : start + 10_000])
        return codes


class Bought(NamedTuple):
    """What came of the buyers."""

    pairs: int
    failed: Counter[str]
    times_ms: list[float]

    @property
    def p99_ms(self) -> float:
        """Of their requests."""
        return statistics.quantiles(self.times_ms, n=100)[98]


def buy(url: str, codes: list[str], seconds: float, share: bool) -> Bought:
    """Lock and redeem so many pairs a second: each its own code, or with `share` any that nobody has locked."""
    return asyncio.run(_buy(url, codes, seconds, share))


async def _buy(url: str, codes: list[str], seconds: float, share: bool) -> Bought:
    found = Bought(0, Counter(), [])
    pairs, run, ends = 0, uuid4().hex[:8], time.monotonic() + seconds
    left = iter(codes)

    async def buyer(number: int) -> None:
        nonlocal pairs
        wire = Wire(url, "demo_checkout")

        async def timed(path: str, body: dict[str, Any]) -> tuple[int, Any]:
            began = time.perf_counter()
            answer = await wire.ask(path, body)
            found.times_ms.append((time.perf_counter() - began) * 1000)
            return answer

        await asyncio.sleep(random.random() * BUYERS / PAIRS_A_SECOND)
        turn = 0
        while time.monotonic() < ends:
            began, turn = time.monotonic(), turn + 1
            user = f"buyer-{run}-{number}-{turn}"
            for code in random.sample(codes, 50) if share else [next(left)]:
                status, body = await timed(f"/v1/coupons/lock/{code}", {"userId": user, "orderId": user})
                if status == 201:
                    token = {"userId": user, "orderId": user, "lockToken": body["lockToken"]}
                    status, body = await timed(f"/v1/coupons/redeem/{code}", token)
                if status == 201:
                    pairs += 1
                    break
                if not share or body["code"] not in ("coupon_locked", "coupon_redeemed"):
                    found.failed[body["code"]] += 1
                    break
            else:
                found.failed["found none"] += 1
            await asyncio.sleep(max(0.0, BUYERS / PAIRS_A_SECOND - (time.monotonic() - began)))
        wire.close()

    await asyncio.gather(*(buyer(number) for number in range(BUYERS)))
    return found._replace(pairs=pairs)


async def _aside(buyers: ProcessPoolExecutor, *asked: Any) -> Bought:
    return await asyncio.get_running_loop().run_in_executor(buyers, buy, *asked)


async def guess(url: str, shop: Shop, buyers: ProcessPoolExecutor, guesses: int, rate: int) -> Line:
    """Guesses at codes that look like those of a book with 1,000."""
    targets = set(shop.book("GUESS", 1_000))
    seconds = guesses / rate
    codes = shop.book("HONEST", int(PAIRS_A_SECOND * seconds * 3) + 1_000)
    half = len(codes) // 2
    usual = await _aside(buyers, url, codes[:half], seconds / 2, False)
    heard: Counter[str] = Counter()
    hits, ends = 0, [0.0]

    async def guesser(number: int) -> None:
        nonlocal hits
        wire = Wire(url, "demo_public", f"10.9.{number // 256}.{number % 256}")
        pause_s, began = ADDRESSES / rate, time.monotonic()
        for turn in range(guesses // ADDRESSES):
            await asyncio.sleep(max(0.0, began + (turn + number / ADDRESSES) * pause_s - time.monotonic()))
            status, body = await wire.ask("/v1/coupons/validate", {"code": f"GUESS-{_random_code()}"})
            heard[body["code"] if status >= 400 else "valid" if body["valid"] else "not available"] += 1
            hits += status == 200 and body["valid"]
        wire.close()

    beside = asyncio.create_task(_aside(buyers, url, codes[half:], seconds, False))
    began = time.monotonic()
    await asyncio.gather(*(guesser(number) for number in range(ADDRESSES)))
    ends[0] = time.monotonic() - began
    honest = await beside
    minutes = int(ends[0] // 60) + 2
    looked_up = heard["not available"]
    right = not hits and not honest.failed and looked_up <= 100 * ADDRESSES * minutes
    right = right and heard.total() == guesses // ADDRESSES * ADDRESSES and honest.p99_ms <= SLOWER * usual.p99_ms
    seen = (
        f"{hits} hits on {len(targets)} codes; {looked_up:,} looked up, {heard['too_many_misses']:,} refused unread; "
        f"buyers: {honest.pairs:,} pairs, {honest.failed.total()} refused, p99 {honest.p99_ms:.1f} ms "
        f"(before: {usual.p99_ms:.1f} ms)"
    )
    return Line("guesses", f"{heard.total():,} by {ADDRESSES} addresses in {ends[0]:.0f} s", seen, right)


async def hoard(url: str, shop: Shop, buyers: ProcessPoolExecutor, locks: int) -> Line:
    """Locks by many users who never buy."""
    codes = shop.book("SALE", CODES, limits={"locksPerUser": 1, "lockedPercent": 80}, lockSeconds=600)
    heard: Counter[str] = Counter()

    async def locker(number: int) -> None:
        wire = Wire(url, "demo_checkout")
        for turn in range(locks // LOCKERS):
            user = {"userId": f"locker-{number}", "orderId": f"L-{number}-{turn}"}
            status, body = await wire.ask(f"/v1/coupons/lock/{random.choice(codes)}", user)
            heard[str(status) if status < 400 else body["code"]] += 1
        wire.close()

    attack = asyncio.gather(*(locker(number) for number in range(LOCKERS)))
    honest = await _aside(buyers, url, codes, CODES / 5 / PAIRS_A_SECOND, True)
    await attack
    held = heard["201"]
    right = held <= LOCKERS and honest.pairs > 0 and not honest.failed
    seen = (
        f"{held} locks held, {heard['lock_quota']:,} refused; buyers: {honest.pairs} of "
        f"{honest.pairs + honest.failed.total()} got through"
    )
    return Line("lockers", f"{heard.total():,} locks by {LOCKERS} users on {CODES:,} codes", seen, right)


async def race(url: str, shop: Shop, rounds: int) -> Line:
    """Redeems of one code whose last bytes go out together."""
    codes = shop.book("RACE", rounds)
    wires = [Wire(url, "demo_checkout") for _ in range(AT_ONCE)]
    seen: Counter[str] = Counter()
    for code in codes:
        asked = [
            wire.packed(f"/v1/coupons/redeem/{code}", {"userId": f"racer-{number}", "orderId": f"{code}-{number}"})
            for number, wire in enumerate(wires)
        ]
        await asyncio.gather(*(wire.send(request[:-1]) for wire, request in zip(wires, asked, strict=True)))
        await asyncio.sleep(0.002)  # so that all but the last byte is there
        await asyncio.gather(*(wire.send(request[-1:]) for wire, request in zip(wires, asked, strict=True)))
        answers = await asyncio.gather(*(wire.answer() for wire in wires))
        heard = Counter(str(status) if status < 400 else body["code"] for status, body in answers)
        seen[", ".join(f"{name} × {many}" for name, many in sorted(heard.items()))] += 1
    for wire in wires:
        wire.close()
    told = "; ".join(f"{many:,} rounds: {what}" for what, many in seen.most_common())
    expected = f"201 × 1, coupon_redeemed × {AT_ONCE - 1}"
    return Line("races", f"{rounds:,} rounds of {AT_ONCE} redeems", told, set(seen) == {expected})


async def run(url: str, chosen: argparse.Namespace, say: Callable[[str], None] = print) -> bool:
    """The attacks in turn, and their table; whether all was as it should be."""
    shop, lines = Shop(url), list[Line]()
    with ProcessPoolExecutor(1) as buyers:
        lines.append(await guess(url, shop, buyers, chosen.guesses, chosen.rate))
        lines.append(await hoard(url, shop, buyers, chosen.locks))
    lines.append(await race(url, shop, chosen.rounds))
    say("| attack | asked | seen | as it should be |\n|---|---|---|---|")
    for line in lines:
        say(f"| {line.attack} | {line.asked} | {line.seen} | {'yes' if line.right else '**no**'} |")
    return all(line.right for line in lines)


def _random_code() -> str:
    return "".join(random.choices(CHARSET, k=12))


def options(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """What was chosen."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--guesses", type=int, default=GUESSES)
    parser.add_argument("--rate", type=int, default=GUESSES_A_SECOND, help="guesses a second, of all together")
    parser.add_argument("--locks", type=int, default=LOCKS)
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="of redeems released together")
    return parser.parse_args(arguments)


def main() -> int:
    """The command."""
    chosen = options()
    os.environ["SCRIP_TRUSTED_PROXIES"] = "127.0.0.1"  # so that each guesser has an address of its own
    with own_service() as service:
        return not asyncio.run(run(service.url, chosen))


if __name__ == "__main__":
    sys.exit(main())

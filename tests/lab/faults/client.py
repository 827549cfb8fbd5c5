"""Redemptions by scrip_client and by the checkout in Node, through a proxy that loses replies and resets connections,
while API, worker and Redis are killed. Each must happen exactly once. test_client.py runs a few."""

import argparse
import asyncio
import contextlib
import json
import os
import random
import shutil
import time
from asyncio import StreamReader, StreamWriter
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from scrip_client import AsyncClient, ScripError, operations, refusals
from tests.harness.running import Run, data_folder
from tests.harness.servers import free_port
from tests.harness.service_fixture import new_code
from tests.lab.faults.proxy import Forwarder

LOST_REPLIES, RESETS = 1 / 10, 1 / 50
DEADLINE_S = 120.0
KILLED = ("api", "worker", "redis")
CHECKOUTS = Path(__file__).with_name("checkouts.mjs")


class Lossy(Forwarder):
    """A proxy that loses some replies, and resets some connections before the request has passed."""

    def __init__(self, port: int, dice: random.Random) -> None:
        super().__init__(port)
        self._dice, self.faults = dice, Counter[str]()

    async def _pass(self, reader: StreamReader, writer: StreamWriter, flowing: asyncio.Event) -> None:
        fault, chance = ("lost reply", LOST_REPLIES) if flowing is self._replies else ("reset", RESETS)
        while data := await reader.read(65536):
            if self._dice.random() < chance:
                self.faults[fault] += 1
                break
            writer.write(data)
            await writer.drain()
        raise ConnectionResetError


@dataclass
class Verdict:
    """What happened to the redemptions."""

    redeemed: list[str] = field(default_factory=list)
    """The id of each successful answer's order, or else of its redemption."""
    wrong: list[str] = field(default_factory=list)
    faults: Counter[str] = field(default_factory=Counter)
    replayed: int = 0
    retried: int = 0


@dataclass(frozen=True)
class Load:
    """Redemptions of one code, each by another user."""

    url: str
    key: str
    code: str
    redemptions: int
    in_flight: int


Progress = Callable[[int], Awaitable[None]]
"""Called with the number of redemptions so far."""
Buyers = Callable[[Load, Verdict, Progress], Awaitable[None]]


async def buy_in_python(load: Load, verdict: Verdict, on_progress: Progress) -> None:
    """Redeem with scrip_client, without orders, so that the key alone says what is a repeat."""
    numbers = iter(range(load.redemptions))

    async def shop(client: AsyncClient) -> None:
        for number in numbers:
            try:
                answer = await client.send(operations.redeem_coupon(load.code, user_id=f"u{number}"))
            except ScripError as error:
                verdict.wrong.append(f"redemption {number}: {error}")
                continue
            verdict.redeemed.append(answer.value.redemption_id)
            verdict.replayed += answer.replayed
            verdict.retried += answer.attempts > 1
            await on_progress(len(verdict.redeemed))

    async with AsyncClient(load.url, load.key, deadline_s=DEADLINE_S) as client:
        await asyncio.gather(*(shop(client) for _ in range(load.in_flight)))


async def buy_in_node(load: Load, verdict: Verdict, on_progress: Progress) -> None:
    """Lock, validate and redeem for orders with examples/checkout.mjs."""
    wanted = {
        "SCRIP_URL": load.url, "SCRIP_KEY": load.key, "CODE": load.code, "CHECKOUTS": str(load.redemptions),
        "IN_FLIGHT": str(load.in_flight),
    }  # fmt: skip
    node = await asyncio.create_subprocess_exec(
        "node", CHECKOUTS, env={**os.environ, **wanted}, stdout=asyncio.subprocess.PIPE
    )
    assert node.stdout
    try:
        async for line in node.stdout:
            checkout = json.loads(line)
            if checkout["status"] == "paid":
                verdict.redeemed.append(checkout["orderId"])
            else:
                verdict.wrong.append(f"checkout {line.decode()}")
            verdict.retried += checkout["begun"] > 1
            await on_progress(len(verdict.redeemed))
        if await node.wait():
            verdict.wrong.append(f"node ended with {node.returncode}")
    finally:
        with contextlib.suppress(ProcessLookupError):
            node.kill()


BUYERS: dict[str, Buyers] = {"python": buy_in_python, "node": buy_in_node}


async def redeem_all(
    url: str,
    key: str,
    *,
    redemptions: int,
    in_flight: int,
    seed: int,
    buy: Buyers = buy_in_python,
    on_progress: Progress | None = None,
) -> Verdict:
    """Redeem a code as often as it has uses, and judge the result."""
    verdict, code = Verdict(), new_code()
    proxy = await Lossy(urlsplit(url).port or 80, random.Random(seed)).start()
    load = Load(f"http://127.0.0.1:{proxy.port}", key, code, redemptions, in_flight)

    async def ignore(_: int) -> None: ...

    try:
        async with AsyncClient(url, key, deadline_s=DEADLINE_S) as direct:
            book = await direct.create_book(name="Drill", max_redemptions_per_code=redemptions)
            await direct.upload_codes(book.book_id, codes=[code])
            await buy(load, verdict, on_progress or ignore)
            stats = await direct.get_book_stats(book.book_id)
            listed = [one async for one in direct.list_book_redemptions(book.book_id, limit=1000)]
            try:
                await direct.redeem_coupon(code, user_id="late")
                verdict.wrong.append("the code had a use left")
            except refusals.CouponExhausted:
                pass
    finally:
        proxy.stop()
    ids = set(verdict.redeemed)
    counts = {"answered": len(ids), "in Redis": stats.redemptions, "in Postgres": len(listed)}
    verdict.wrong += [f"{count} {where}, not {redemptions}" for where, count in counts.items() if count != redemptions]
    if ids != {one.order_id or one.redemption_id for one in listed}:
        verdict.wrong.append("the redemptions that were answered are not those that Postgres has")
    verdict.faults = proxy.faults
    return verdict


async def drill(buyers: str, redemptions: int, seed: int) -> bool:
    """Kill each process once while redemptions go on. Print what happened; whether each happened once."""
    with data_folder() as folder:
        run = Run(folder / "data", free_port())
        try:
            await asyncio.to_thread(run.until_ready)
            due = {redemptions * (number + 1) // 4: name for number, name in enumerate(KILLED)}
            kills: list[asyncio.Task[None]] = []

            async def kill_when_due(done: int) -> None:
                for at in [at for at in due if at <= done]:
                    name = due.pop(at)
                    if kills:
                        await kills[-1]
                    kills.append(asyncio.create_task(asyncio.to_thread(run.kill, name)))

            began = time.monotonic()
            verdict = await redeem_all(
                run.url, "demo_admin", redemptions=redemptions, in_flight=30, seed=seed, buy=BUYERS[buyers],
                on_progress=kill_when_due,
            )  # fmt: skip
            await asyncio.gather(*kills)
        finally:
            run.end()
    faults = ", ".join(f"{name} {count}" for name, count in sorted(verdict.faults.items()))
    took = f"{redemptions} redemptions in {time.monotonic() - began:.0f} s (seed {seed})"
    repeats = f"sent again {verdict.retried}, replayed {verdict.replayed}"
    print(f"{buyers}: {took}: {faults}, killed {', '.join(KILLED)}; {repeats}; wrong {len(verdict.wrong)}")
    for wrong in verdict.wrong[:20]:
        print(f"  {wrong}")
    return not verdict.wrong and not due


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--redemptions", type=int, default=1000, help="(default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="of the proxy's faults (default: %(default)s)")
    parser.add_argument("--only", choices=BUYERS, help="one of the clients")
    asked = parser.parse_args()
    is_good = True
    for buyers in [asked.only] if asked.only else BUYERS:
        if buyers == "node" and not shutil.which("node"):
            print("node: skipped, node is not installed")
        else:
            is_good &= asyncio.run(drill(buyers, asked.redemptions, asked.seed))
    return not is_good

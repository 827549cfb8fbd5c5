"""`python -m tests.faults.client`: redemptions by scrip_client through a proxy that loses replies and resets
connections, while API, worker and Redis are killed. Each must happen exactly once. tests/client/ runs a few."""

import argparse
import asyncio
import random
import sys
import time
from asyncio import StreamReader, StreamWriter
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from scrip_client import Answer, AsyncClient, ScripError, models, operations, refusals
from tests.faults.proxy import Forwarder
from tests.harness.running import Run, data_folder
from tests.harness.servers import free_port
from tests.service_fixture import new_code

LOST_REPLIES, RESETS = 1 / 10, 1 / 50
DEADLINE_S = 120.0
KILLED = ("api", "worker", "redis")


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

    wrong: list[str] = field(default_factory=list)
    faults: Counter[str] = field(default_factory=Counter)
    replayed: int = 0
    retried: int = 0


async def redeem_all(
    url: str,
    key: str,
    *,
    redemptions: int,
    in_flight: int,
    seed: int,
    on_progress: Callable[[int], Awaitable[None]] | None = None,
) -> Verdict:
    """Redeem a code as often as it has uses, without orders, so that the key alone says what is a repeat."""
    verdict, code = Verdict(), new_code()
    proxy = await Lossy(urlsplit(url).port or 80, random.Random(seed)).start()
    numbers = iter(range(redemptions))
    answers: list[Answer[models.DurableRedemption]] = []

    async def shop(client: AsyncClient) -> None:
        for number in numbers:
            try:
                answers.append(await client.send(operations.redeem_coupon(code, user_id=f"u{number}")))
            except ScripError as error:
                verdict.wrong.append(f"redemption {number}: {error}")
            if on_progress:
                await on_progress(len(answers))

    try:
        async with AsyncClient(url, key, deadline_s=DEADLINE_S) as direct:
            book = await direct.create_book(name="Drill", max_redemptions_per_code=redemptions)
            await direct.upload_codes(book.book_id, codes=[code])
            async with AsyncClient(f"http://127.0.0.1:{proxy.port}", key, deadline_s=DEADLINE_S) as client:
                await asyncio.gather(*(shop(client) for _ in range(in_flight)))
            stats = await direct.get_book_stats(book.book_id)
            listed = [one.redemption_id async for one in direct.list_book_redemptions(book.book_id, limit=1000)]
            try:
                await direct.redeem_coupon(code, user_id="late")
                verdict.wrong.append("the code had a use left")
            except refusals.CouponExhausted:
                pass
    finally:
        proxy.stop()
    ids = {answer.value.redemption_id for answer in answers}
    counts = {"answered": len(ids), "in Redis": stats.redemptions, "in Postgres": len(listed)}
    verdict.wrong += [f"{count} {where}, not {redemptions}" for where, count in counts.items() if count != redemptions]
    if ids != set(listed):
        verdict.wrong.append("the redemptions that were answered are not those that Postgres has")
    verdict.faults = proxy.faults
    verdict.replayed = sum(answer.replayed for answer in answers)
    verdict.retried = sum(answer.attempts > 1 for answer in answers)
    return verdict


async def drill(redemptions: int, seed: int) -> bool:
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
                run.url, "demo_admin", redemptions=redemptions, in_flight=30, seed=seed, on_progress=kill_when_due
            )
            await asyncio.gather(*kills)
        finally:
            run.end()
    faults = ", ".join(f"{name} {count}" for name, count in sorted(verdict.faults.items()))
    took = f"{redemptions} redemptions in {time.monotonic() - began:.0f} s (seed {seed})"
    repeats = f"sent again {verdict.retried}, replayed {verdict.replayed}"
    print(f"{took}: {faults}, killed {', '.join(KILLED)}; {repeats}; wrong {len(verdict.wrong)}")
    for wrong in verdict.wrong[:20]:
        print(f"  {wrong}")
    return not verdict.wrong and not due


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.faults.client", description=__doc__)
    parser.add_argument("--redemptions", type=int, default=1000, help="(default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="of the proxy's faults (default: %(default)s)")
    asked = parser.parse_args()
    sys.exit(not asyncio.run(drill(asked.redemptions, asked.seed)))


if __name__ == "__main__":
    main()

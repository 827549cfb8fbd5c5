"""What ten honest tenants notice of another's bulk work.

A service of its own with two partitions. Shoppers of ten workspaces assign coupons at a steady rate, alone and then
beside each work of an eleventh workspace. Of each: percentiles of the honest responses, counted from when a request was
due, and their errors; the responses to the works; the most memory of API and worker; the API's CPU in the second that
begins a second after the greedy clients have gone."""

import argparse
import asyncio
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, NamedTuple
from uuid import uuid4

from loadtests import generator
from loadtests.figures import machine, markdown, say
from loadtests.generator import Histogram, Load
from loadtests.own import Meter, own_service
from loadtests.parts.floods import CODE, PLACES, list_places, make_floods
from loadtests.parts.reports import BOOKS, list_reports, write_rollups
from loadtests.subject import opened
from loadtests.target import Target
from loadtests.watch import Watch, of_processes
from loadtests.wire import ERRORS, Ask, Barrage, Wire
from tests.harness.running import Run
from tests.harness.workspaces import make_workspace

HONEST, CONNECTIONS = 10, 16
GREEDY = "greedy"
AT_ONCE, SHORT_AT_ONCE = 10, 32
LARGE, WAITING_S = 1_000_000, 900.0
PIECE_BYTES, TEXT_BYTES, JSON_BYTES = 1 << 16, 1 << 30, 16 << 20
REJECTED_LINES = 260_000
WEBHOOKS, IDLE = 20, 2_000
USERS, ASSIGN_JOBS = 1_000, 100
POLL_S, SELDOM_S = 0.2, 5.0
"""Between two looks at a job; seldom where 100 wait at once, since each look is a request of its own."""
IDLE_CPU_S, IDLE_S = 0.15, 120.0
PAUSE_S = 0.02
"""After each response. A client of this machine that does not pause takes a core from the service."""
_HEADS = ("beside", "p50, ms", "p99, ms", "longest", "errors", "its responses", "API, MiB", "worker, MiB", "CPU after")


class GreedyTenant(NamedTuple):
    """Where the greedy tenant works: the service, its own books; and the responses to it."""

    run: Run
    target: Target
    empty: str
    large: str
    counts: Counter[str]


Work = Callable[[GreedyTenant], Coroutine[Any, Any, object]]


async def _stream(tenant: GreedyTenant, path: str, kind: str, size: int, piece: bytes) -> str:
    """Send a body of `size` bytes, as fast as it is taken, until it is answered; the response's label."""
    url = tenant.run.url
    wire = Wire(url, f"{GREEDY}_admin")
    head = (
        f"POST {path} HTTP/1.1\r\nHost: greedy\r\nAuthorization: Bearer {GREEDY}_admin\r\n"
        f"Content-Type: {kind}\r\nContent-Length: {size}\r\n\r\n"
    )
    answered = None
    try:
        await wire.send(head.encode())
        answered = asyncio.ensure_future(wire.answer())
        for start in range(0, size, len(piece)):
            await wire.send(piece[: size - start])
            if answered.done():
                break
        return (await answered).label
    except ERRORS as error:
        return type(error).__name__
    finally:
        if answered:
            answered.cancel()
            await asyncio.gather(answered, return_exceptions=True)
        wire.abort()


def _streams(path: str, kind: str, size: int, make: Callable[[int], bytes]) -> Work:
    """Bodies on ten connections, one after the other on each."""

    async def work(tenant: GreedyTenant) -> None:
        piece = make(size)

        async def send() -> None:
            while True:
                counts[await _stream(tenant, path.format(tenant.empty), kind, size, piece)] += 1
                await asyncio.sleep(PAUSE_S)

        counts = tenant.counts
        await asyncio.gather(*(send() for _ in range(AT_ONCE)))

    return work


def _short_lines(_: int) -> bytes:
    return b"!\n" * (PIECE_BYTES // 2)


async def _add_codes(tenant: GreedyTenant) -> None:
    """Uploads of 100,000 new codes each, on ten connections."""
    path, counts = f"/v1/books/{tenant.empty}/codes", tenant.counts
    lines = b"".join(b"*-%d\n" % number for number in range(100_000))

    async def send() -> None:
        while True:
            body = lines.replace(b"*", uuid4().hex.encode())
            counts[await _stream(tenant, path, "text/plain", len(body), body)] += 1
            await asyncio.sleep(PAUSE_S)

    await asyncio.gather(*(send() for _ in range(AT_ONCE)))


def _codes(size: int) -> bytes:
    """A JSON body of exactly this size."""
    body = b'{"codes":[' + b'"ab",' * ((size - 16) // 5)
    return body + b'"' + b"a" * (size - len(body) - 4) + b'"]}'


async def _count_job(tenant: GreedyTenant, path: str, order: dict[str, Any], poll_s: float = POLL_S) -> None:
    """Run a job, and count how it ended."""
    tenant.counts[(await tenant.target.run_job(path, order, poll_s))["status"]] += 1


async def _generate(tenant: GreedyTenant) -> None:
    await _count_job(tenant, f"/v1/books/{await tenant.target.book()}/codes/generate", {"count": LARGE})


async def _switch(tenant: GreedyTenant) -> None:
    for action in ("switchOff", "switchOn"):
        await _count_job(tenant, f"/v1/books/{tenant.large}/codes/change", {"action": action})


async def _assign(tenant: GreedyTenant, poll_s: float = POLL_S) -> None:
    """Assign codes to so many new users by one job."""
    order = {"action": "assign", "users": [uuid4().hex for _ in range(USERS)]}
    await _count_job(tenant, f"/v1/books/{tenant.large}/codes/change", order, poll_s)


async def _assign_at_once(tenant: GreedyTenant) -> None:
    await asyncio.gather(*(_assign(tenant, SELDOM_S) for _ in range(ASSIGN_JOBS)))


def _reads(*paths: str, at_once: int = AT_ONCE) -> Work:
    """Reads of these in turn, again and again on so many connections."""

    async def work(tenant: GreedyTenant) -> None:
        counts = tenant.counts

        async def read(barrage: Barrage) -> None:
            while True:
                for path in paths:
                    try:
                        counts[(await barrage.ask(Ask("GET", path.format(tenant.large)))).label] += 1
                    except (TimeoutError, *ERRORS) as error:
                        counts[type(error).__name__] += 1
                    await asyncio.sleep(PAUSE_S)

        await asyncio.gather(*(read(Barrage(tenant.run.url, f"{GREEDY}_admin")) for _ in range(at_once)))

    return work


async def _report(tenant: GreedyTenant) -> None:
    """Both reports, of 50 books and up to 400 days, on one connection."""
    await _reads(*(address for _, address in list_reports()), at_once=1)(tenant)


async def _compare(tenant: GreedyTenant) -> None:
    while True:
        await _count_job(tenant, "/v1/ops/reconcile", {"repair": False})


async def _hanging_webhooks(tenant: GreedyTenant) -> None:
    """Webhooks whose receiver accepts and never answers, and their events."""
    server = await asyncio.start_server(lambda *_: asyncio.sleep(WAITING_S), "127.0.0.1", 0)
    port, events = server.sockets[0].getsockname()[1], ["coupon.assigned"]
    ids = []
    try:
        for number in range(WEBHOOKS):
            body = {"url": f"http://127.0.0.1:{port}/{number}", "events": events}
            ids.append((await tenant.target.barrage.one("POST", "/v1/webhooks", body)).body["webhookId"])
        while True:
            await _assign(tenant)
    finally:
        server.close()
        for webhook in ids:
            await tenant.target.barrage.ask(Ask("PATCH", f"/v1/webhooks/{webhook}", {"status": "inactive"}))


async def _idle(tenant: GreedyTenant) -> None:
    host, port = tenant.run.url.removeprefix("http://").split(":")
    made = [await asyncio.open_connection(host, int(port)) for _ in range(IDLE)]
    try:
        await asyncio.sleep(WAITING_S)
    finally:
        for _, writer in made:
            writer.close()


_UPLOAD, _CHECK = "/v1/books/{}/codes", "/v1/books/{}/codes/rejected.csv"
WORKS: dict[str, Work] = {
    "nothing": lambda _: asyncio.sleep(WAITING_S),
    "uploads": _streams(_UPLOAD, "text/plain", TEXT_BYTES, _short_lines),
    "dry-runs": _streams(_UPLOAD + "?dryRun=true", "text/plain", TEXT_BYTES, _short_lines),
    "json": _streams(_UPLOAD, "application/json", JSON_BYTES, _codes),
    "new-codes": _add_codes,
    "rejected": _streams(_CHECK, "text/plain", 2 * REJECTED_LINES, _short_lines),
    "generate": _generate,
    "switch": _switch,
    "export": _reads("/v1/books/{}/codes.csv"),
    "filters": _reads("/v1/books/{}/codes?limit=1&status=exhausted"),
    "lists": _reads("/v1/books/{}/codes?limit=1000", "/v1/audit?limit=1000", "/v1/audit.csv"),
    "short-lists": _reads("/v1/books/{}/codes?limit=100", "/v1/audit?limit=100", at_once=SHORT_AT_ONCE),
    "comparison": _compare,
    "webhooks": _hanging_webhooks,
    "idle": _idle,
    "assigns": _assign_at_once,
    "reports": _report,
    **make_floods(f"{GREEDY}_admin"),
}


class Honest:
    """Ten workspaces with a book each, whose shoppers assign."""

    def __init__(self, run: Run, rate: int) -> None:
        self._run, self._rate, self._rounds = run, rate, 0
        self._books: list[str] = []

    async def stock(self, codes: int) -> None:
        for number in range(HONEST):
            with Barrage(self._run.url, f"honest{number}_admin") as barrage:
                target = Target(barrage, 1)
                book = await target.book()
                await target.run_job(f"/v1/books/{book}/codes/generate", {"count": codes})
            self._books.append(book)

    async def shop(self, seconds: int) -> Load:
        """Assign for so long; what came of it."""
        self._rounds += 1
        count = self._rate * seconds // HONEST
        loads = await asyncio.gather(
            *(
                generator.drive(
                    self._run.url, f"honest{number}_checkout", "opening", seconds=seconds + 30, count=count,
                    connections=CONNECTIONS, within_ms=seconds * 1000, book=book, refusal="none",
                    run=f"{self._rounds}-{number}",
                )
                for number, book in enumerate(self._books)
            )
        )  # fmt: skip
        return _sum_up(loads)


def _sum_up(loads: Sequence[Load]) -> Load:
    answers, buckets = Counter[str](), Counter[int]()
    for load in loads:
        answers.update(load.answers)
        for most, many in load.latency_us["all"].buckets:
            buckets[most] += many
    longest = max(load.latency_us["all"].max for load in loads)
    every = Histogram(sum(buckets.values()), longest, sorted(buckets.items()))
    wrong = sum(load.unexpected + load.unanswered + load.unasked for load in loads)
    return Load(wrong == 0, loads[0].seconds, 0.0, 0, 0, 0, wrong, 0, 0, 0, dict(answers), {"all": every})


async def measure(run: Run, chosen: argparse.Namespace) -> list[Sequence[str]]:
    """Each work, one after the other."""
    rows: list[Sequence[str]] = []
    async with opened(run) as subject:
        for name in [*(f"honest{number}" for number in range(HONEST)), GREEDY]:
            await make_workspace(subject.postgres, name, "live", None if name == GREEDY else 0)
        await asyncio.sleep(1)
        tenant = await _prepare(run, chosen)
        if "reports" in chosen.works:
            for book in BOOKS:
                await tenant.target.book(**book)
            await write_rollups(subject.postgres, GREEDY)
        honest = Honest(run, chosen.rate)
        await honest.stock(chosen.rate * chosen.seconds * (len(chosen.works) + 1) // HONEST + 1000)
        await honest.shop(2)
        for name in chosen.works:
            rows.append(await _beside(name, tenant, honest, chosen.seconds))
            say(" | ".join(rows[-1]))
    return rows


async def _prepare(run: Run, chosen: argparse.Namespace) -> GreedyTenant:
    target = Target(Barrage(run.url, f"{GREEDY}_admin"), 1)
    tenant = GreedyTenant(run, target, await target.book(), await target.book(), Counter())
    if {"switch", "export", "lists", "short-lists", "comparison", "webhooks", "assigns"} & set(chosen.works):
        await target.run_job(f"/v1/books/{tenant.large}/codes/generate", {"count": chosen.codes})
    if {"large-orders", "many-items"} & set(chosen.works):
        await target.barrage.one("PATCH", "/v1/workspace", {"couponsPerOrder": PLACES + 1})
        await target.book([CODE], maxRedemptionsPerCode=None)
        await target.barrage.one("POST", "/v1/batch", {"operations": list_places()})
    return tenant


async def _until_idle(run: Run) -> None:
    """Wait for the end of jobs that the work before has ordered."""
    deadline, spent_s = time.monotonic() + IDLE_S, 1.0
    while spent_s > IDLE_CPU_S and time.monotonic() < deadline:
        meter = Meter(run)
        await asyncio.sleep(1)
        spent_s = sum(meter.spent_s().values())


async def _beside(name: str, tenant: GreedyTenant, honest: Honest, seconds: int) -> Sequence[str]:
    await _until_idle(tenant.run)
    tenant.counts.clear()
    pids = tenant.run.facts["pids"]
    with Watch(of_processes({part: pids[part] for part in ("api", "worker")}), pause_s=0.05) as memory:
        working = asyncio.create_task(WORKS[name](tenant))
        await asyncio.sleep(1)
        load = await honest.shop(seconds)
        working.cancel()
        (ended,) = await asyncio.gather(working, return_exceptions=True)
        if isinstance(ended, Exception):
            tenant.counts[f"{type(ended).__name__}: {ended}"[:200]] += 1
        await asyncio.sleep(1)
        meter = Meter(tenant.run)
        await asyncio.sleep(1)
        spent = meter.spent_s()
    every = load.latency_us["all"]
    times = [f"{every.at_us(share) / 1000:.1f}" for share in (0.5, 0.99)]
    seen = ", ".join(f"{label} × {many:,}" for label, many in sorted(tenant.counts.items()))
    errors = {label: many for label, many in load.answers.items() if not label.endswith(" 201")}
    return [
        name, *times, f"{every.max / 1000:.0f}", str(errors or load.unanswered), seen,
        f"{memory.most('api'):.0f}", f"{memory.most('worker'):.0f}", f"{spent['api']:.2f} s",
    ]  # fmt: skip


def add_options(options: argparse.ArgumentParser) -> None:
    options.add_argument("--works", nargs="+", choices=WORKS, default=[*WORKS], help="of the eleventh tenant")
    options.add_argument("--rate", type=int, default=2_000, help="assignments a second of all ten")
    options.add_argument("--seconds", type=int, default=10, help="beside each work")
    options.add_argument("--codes", type=int, default=LARGE, help="of the eleventh tenant's large book")


def run(chosen: argparse.Namespace) -> None:
    with own_service(partitions=2) as service:
        rows = asyncio.run(measure(service, chosen))
    where = machine()
    print(f"{where['taken']}, {where['cores']} × {where['cpu']}:\n\n{markdown(_HEADS, rows)}")

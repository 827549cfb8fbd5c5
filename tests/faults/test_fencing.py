"""SCRIP_REDIS_FENCING with real servers: the replica (`lag`), or a committee of nodes (`cluster`), confirms the epoch
while Postgres is away, and not once another server may be open (docs/decisions/0047, 0054)."""

import asyncio
import signal
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Self

import httpx

from service.formats import key_names
from service.formats.gate_text import parse_gate
from service.record.partitions.openings import order_rebuild
from service.worker.old_server import CUT_OFF_S
from tests.faults.nodes import wait_until
from tests.faults.stage import ROOT, Stage
from tests.harness.running import HOME, data_folder
from tests.harness.servers import VALKEY
from tests.harness.trees import Change, changed
from tests.waiting import PATIENCE_S, cancel, elapse

CODE = "KEPT-1"
AWAY_S, _OUTLIVED = 4.0, "an epoch that nobody confirms is fresh for less"
_STAYS = (
    Change("service/hot/cluster_links.py", "await self._follow(", "self._links or await self._follow("),
    Change("service/hot/connection.py", "STALL_S = 2.0", "STALL_S = 60.0"),
)
"""A process that never leaves a primary by itself."""
_SOON = Change("service/worker/old_server.py", "STEADY_S = 10.0", "STEADY_S = 1.0")


class _Reader:
    """Reads a coupon again and again from one API, within its block: when each request was sent, and '' or the code of
    its refusal."""

    def __init__(self, stage: Stage, url: str, code: str) -> None:
        self._headers, self._url = stage.headers, f"{url}/v1/coupons/{code}"
        self.looks: list[tuple[float, str]] = []

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._run())
        return self

    async def __aexit__(self, *_: object) -> None:
        await cancel(self._task)

    async def _run(self) -> None:
        async with httpx.AsyncClient(headers=self._headers, timeout=PATIENCE_S) as client:
            while True:
                sent_at = time.monotonic()
                response = await client.get(self._url)
                self.looks.append((sent_at, response.json().get("code") if response.is_error else ""))
                await elapse(0.01, "the pace of the load")

    async def until_more(self, looks: int) -> None:
        """Wait for so many more responses."""
        begin = len(self.looks)
        await wait_until(lambda: len(self.looks) >= begin + looks, "responses")

    async def until_served(self) -> None:
        """Wait for a response to a request that is sent from now on and not refused. A process that stood still refuses
        until its epoch is confirmed again."""
        begin = time.monotonic()
        await wait_until(lambda: any(sent_at > begin and not code for sent_at, code in self.looks), "a coupon")

    async def until_outlived(
        self, take_away: Callable[[], Awaitable[None]], bring: Callable[[], Awaitable[None]]
    ) -> None:
        """Take Postgres away until no request of AWAY_S was refused. If an API or a node stands still for 1.5 s, or its
        replica takes over, that API refuses until Postgres confirms an epoch, as it should: then begin again."""

        async def is_outlived() -> bool:
            await self.until_served()
            begin = time.monotonic()
            await take_away()
            await elapse(AWAY_S, _OUTLIVED)
            await self.until_more(2)
            if {code for sent_at, code in self.looks if sent_at > begin} == {""}:
                return True
            await bring()
            return False

        await wait_until(is_outlived, "responses without Postgres")


async def test_a_replica_that_confirms_the_epoch() -> None:
    """One stage, four scenes."""
    with data_folder() as folder:
        tree = changed([_SOON], ROOT, folder / "tree")
        async with Stage(VALKEY, folder / "stage", "always", tree=tree, fencing="lag") as stage:
            await stage.until_fenced("lag")
            await _add_code(stage)
            await _without_postgres(stage)
            await _cut_off(stage)
            await _with_a_replica_again(stage)
            await _with_an_unknown_server(stage)


async def test_a_committee_that_confirms_the_epoch() -> None:
    """One stage, two scenes."""
    with data_folder() as folder:
        async with Stage(VALKEY, folder / "stage", "always", fencing="cluster", clustered=True) as stage:
            await stage.until_fenced("cluster")
            await _add_code(stage)
            await _without_postgres(stage)
            await _woken_primary(stage, changed(_STAYS, ROOT, folder / "tree"))


async def _woken_primary(stage: Stage, tree: Path) -> None:
    """A primary is stopped until its replica is open, and woken: it still runs the requests that wait in its socket. An
    API that met the others but not Postgres gives none of these answers."""
    api, url = stage.make_api(tree)
    async with httpx.AsyncClient(timeout=5) as client:

        async def is_ready() -> bool:
            return (await client.get(f"{url}/health/ready")).json()["failing"] == []

        await wait_until(is_ready, "the API that will be cut off")
    async with _Reader(stage, url, CODE) as reader:
        await _cut_off_from_postgres(stage, reader)
        node, epoch = stage.cluster.primary_of(HOME), (await stage.row()).epoch
        stopped_at = time.monotonic()
        node.signal(signal.SIGSTOP)
        await stage.until_reopened(epoch)
        node.signal(signal.SIGCONT)
        await reader.until_more(2)  # one may have been sent before the stop
        await elapse(1.0, "answers that wait in the sockets would come")
    late = [code for at, code in reader.looks if at > stopped_at]
    assert late, "no request waited in the primary's socket"
    assert "" not in late
    stage.database.front.flow()
    await api.close()


async def _add_code(stage: Stage) -> None:
    async with httpx.AsyncClient(headers=stage.headers, timeout=10) as client:
        book = (await client.post(f"{stage.urls[0]}/v1/books", json={"name": "Sale"})).json()["bookId"]
        await client.post(f"{stage.urls[0]}/v1/books/{book}/codes", json={"codes": [CODE]})


async def _without_postgres(stage: Stage) -> None:
    """Postgres is away: no request of the hot path is refused."""
    async with _Reader(stage, stage.urls[0], CODE) as reader:
        await reader.until_outlived(stage.database.kill, stage.database.start_again)
    await stage.database.start_again()
    await stage.until_ready()


async def _cut_off_from_postgres(stage: Stage, reader: _Reader) -> None:
    """From now on the APIs do not reach Postgres, and one of them is still served without it."""
    front = stage.database.front

    async def hold() -> None:
        front.hold()

    async def flow() -> None:
        front.flow()

    await reader.until_outlived(hold, flow)


async def _cut_off(stage: Stage) -> None:
    """The old primary meets one API only, which does not meet Postgres either: that API gives no answer from it once a
    later epoch is open on the promoted replica."""
    side = {"REDIS_URL": f"redis://127.0.0.1:{stage.side.port}/0", "DATABASE_URL": stage.database.front_url}
    api, url = stage.make_api(**side)
    async with httpx.AsyncClient(timeout=5) as client:

        async def is_ready() -> bool:
            return (await client.get(f"{url}/health/ready")).json()["failing"] == []

        await wait_until(is_ready, "the API that will be cut off")
    async with _Reader(stage, url, CODE) as reader:
        await _cut_off_from_postgres(stage, reader)
        epoch = (await stage.row()).epoch

        async def is_open() -> bool:
            gate = parse_gate(str(await stage.primary.client.get(key_names.gate(HOME)) or ""))
            return gate.state == "open" and int(gate.epoch) > epoch

        stage.primary.link.hold()
        await stage.replica.lead()
        stage.switch(side=False)
        await wait_until(is_open, "the promoted replica's gate")
        open_at = time.monotonic()
        await elapse(2.0, "an answer of the old primary would come")
    assert [look for look in reader.looks if look[0] > open_at and not look[1]] == []
    await stage.until_fenced("postgres")
    stage.database.front.flow()
    await api.close()
    stage.side.point(stage.primary.port)
    stage.side.cut()


async def _with_a_replica_again(stage: Stage) -> None:
    """Once a replica follows steadily, it confirms the next epoch; once it is away, Postgres does; and back."""
    await stage.heal()
    await stage.until_fenced("lag")
    await stage.replica.kill()
    await stage.until_fenced("postgres")
    await stage.replica.start()
    await stage.replica.follow(stage.primary)
    await stage.until_fenced("lag")
    await stage.until_ready()


async def _with_an_unknown_server(stage: Stage) -> None:
    """Primary and replica end, and only the primary comes back: nothing proves that the replica doesn't confirm the
    epoch elsewhere, so the partition waits, until an operator says that the old server is off."""
    epoch = (await stage.row()).epoch
    await asyncio.gather(stage.primary.kill(), stage.replica.kill())
    await stage.primary.start()

    async def waits() -> float:
        query = "SELECT extract(epoch FROM waits_until - clock_timestamp())::float8 FROM partitions WHERE id = $1"
        return await stage.pool.fetchval(query, HOME) or 0.0

    assert CUT_OFF_S / 2 < await wait_until(waits, "the wait") <= CUT_OFF_S

    async def reasons() -> bool:
        async with httpx.AsyncClient(timeout=5) as client:
            report = (await client.get(f"{stage.urls[0]}/health/ready")).json()
        return {one["reason"] for one in report["partitions"]} == {"waiting_for_old_redis"}

    await wait_until(reasons, "the reason in /health/ready")
    assert (await stage.row()).epoch == epoch
    await order_rebuild(stage.pool, HOME, "a test ordered it", old_is_off=True)
    await stage.until_reopened(epoch)

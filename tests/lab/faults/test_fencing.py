"""On real servers: a committee confirms the epoch while Postgres is away, until another may open (decision 0054)."""

import asyncio
import signal
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import httpx

from tests.harness.running import HOME, is_ready
from tests.harness.trees import Change, changed
from tests.harness.waiting import PATIENCE_S, elapse, running
from tests.lab.faults.deployment import NEVER_STALLS, Deployment, own_deployment
from tests.lab.faults.nodes import wait_until

CODE = "KEPT-1"
AWAY_S, _OUTLIVED = 4.0, "an epoch that nobody confirms is fresh for less"
_STAYS = (
    Change("service/engine/hot/cluster_links.py", "await self._follow(", "self._links or await self._follow("),
    NEVER_STALLS,
)
"""A process that never leaves a primary by itself."""


class _Reader:
    """Reads a coupon again and again from one API: when each request was sent, and '' or the code of its refusal."""

    def __init__(self, deployment: Deployment, url: str) -> None:
        self._headers, self._url = deployment.headers, f"{url}/v1/coupons/{CODE}"
        self.looks: list[tuple[float, str]] = []

    async def read(self) -> None:
        async with httpx.AsyncClient(headers=self._headers, timeout=PATIENCE_S) as client:
            while True:
                sent_at = time.monotonic()
                response = await client.get(self._url)
                self.looks.append((sent_at, response.json().get("code") if response.is_error else ""))
                await elapse(0.01, "the pace of the load")

    async def until_more(self, looks: int) -> None:
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


async def test_a_committee_that_confirms_the_epoch() -> None:
    """One deployment, two scenes."""
    async with own_deployment(clustered=True) as deployment:
        await deployment.until_fenced()
        await deployment.add_codes(CODE)
        await _without_postgres(deployment)
        await _woken_primary(deployment, changed(_STAYS, deployment.folder / "tree"))


async def _woken_primary(deployment: Deployment, tree: Path) -> None:
    """A primary is stopped until its replica is open, and woken: it still runs the requests that wait in its socket. An
    API that met the others but not Postgres gives none of these answers."""
    api, url = deployment.make_api(tree)
    await wait_until(lambda: asyncio.to_thread(is_ready, url), "the API that will be cut off")
    reader = _Reader(deployment, url)
    async with running(reader.read()):
        await _cut_off_from_postgres(deployment, reader)
        node, epoch = deployment.cluster.primary_of(HOME), (await deployment.row()).epoch
        stopped_at = time.monotonic()
        node.signal(signal.SIGSTOP)
        await deployment.until_reopened(epoch)
        node.signal(signal.SIGCONT)
        await reader.until_more(2)  # one may have been sent before the stop
        await elapse(1.0, "answers that wait in the sockets would come")
    late = [code for at, code in reader.looks if at > stopped_at]
    assert late, "no request waited in the primary's socket"
    assert "" not in late
    deployment.database.front.flow()
    await api.close()


async def _without_postgres(deployment: Deployment) -> None:
    """Postgres is away: no request of the hot path is refused."""
    reader = _Reader(deployment, deployment.urls[0])
    async with running(reader.read()):
        await reader.until_outlived(deployment.database.kill, deployment.database.start_again)
    await deployment.database.start_again()
    await deployment.until_ready()


async def _cut_off_from_postgres(deployment: Deployment, reader: _Reader) -> None:
    """From now on the APIs do not reach Postgres, and one of them is still served without it."""
    front = deployment.database.front

    async def hold() -> None:
        front.hold()

    async def flow() -> None:
        front.flow()

    await reader.until_outlived(hold, flow)

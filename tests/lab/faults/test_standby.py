"""A standby of Postgres serves reads, and takes the primary's place while it is behind."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest
import pytest_asyncio
import structlog
from redis.asyncio import Redis

from service.engine.formats.coupon_state import Class
from service.server.api.controllers.histories import LAG
from service.server.in_postgres import bulk_reads
from service.server.in_postgres import comparisons as record
from service.server.reconcile.comparison import reconcile
from tests.harness.commands import scrip
from tests.harness.running import HOME, is_ready
from tests.harness.service_fixture import new_code
from tests.harness.waiting import elapse
from tests.lab.faults.deployment import NEVER_STALLS, Deployment, own_deployment
from tests.lab.faults.nodes import wait_until
from tests.lab.faults.proxy import Forwarder
from tests.lab.faults.restore_faults import KEEPS_LITTLE

pytestmark = pytest.mark.asyncio(loop_scope="module")

CODES = 3000


class _Buyers:
    """Redeem codes of one use, a few at a time and each code once, until `ended`."""

    def __init__(self, deployment: Deployment, client: httpx.AsyncClient, codes: list[str]) -> None:
        self._urls, self._client, self._codes = deployment.urls, client, iter(codes)
        self.redeemed: list[str] = []
        self.refused: list[str] = []
        self.ended = False

    async def buy(self) -> None:
        while not self.ended and (code := next(self._codes, None)):
            url = f"{self._urls[len(self.redeemed) % len(self._urls)]}/v1/coupons/redeem/{code}"
            response = await self._client.post(url, json={"userId": "buyer"})
            if response.status_code == 201:
                self.redeemed.append(response.json()["redemptionId"])
            else:
                self.refused.append(response.text)
            await elapse(0.02, "the pace of the load")

    async def until_more(self, many: int) -> None:
        goal = len(self.redeemed) + many
        await wait_until(lambda: len(self.redeemed) >= goal, "the buyers")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def deployment() -> AsyncIterator[Deployment]:
    """The service with a Postgres and its asynchronous standby."""
    async with own_deployment(changes=(*KEEPS_LITTLE, NEVER_STALLS), replicated=False, standbys=1) as deployment:
        await deployment.database.add_standby()
        yield deployment


async def test_a_replica_answers_what_the_primary_would(deployment: Deployment) -> None:
    """Exports, histories and the audit of a replica have what was answered before. While it is behind they say so;
    without it they are refused, and other requests are not."""
    door = await Forwarder(deployment.database.standby_socket).start()
    url = f"postgresql://postgres@127.0.0.1:{door.port}/drill"
    process, reader = deployment.make_api(DATABASE_READ_URL=url)
    try:
        await wait_until(lambda: asyncio.to_thread(is_ready, reader), "the reader")
        async with deployment.client(reader) as client:
            await _read_from_replica(deployment, client, door)
    finally:
        door.stop()
        await process.close()


async def _read_from_replica(deployment: Deployment, client: httpx.AsyncClient, door: Forwarder) -> None:
    book = (await client.post("/v1/books", json={"name": "Read"})).json()["bookId"]
    paths = [f"/v1/books/{book}/redemptions", f"/v1/books/{book}/codes.csv", "/v1/audit"]
    await client.post(f"/v1/books/{book}/codes", json={"codes": ["READ-1", "READ-2"]})
    assert len((await client.get(paths[1])).text.splitlines()) == 3
    await client.post("/v1/coupons/redeem/READ-1", json={"userId": "ann"})
    for path in paths:
        response = await client.get(path)
        assert (response.status_code, LAG in response.headers) == (200, False)
    assert len((await client.get(paths[0])).json()["items"]) == 1

    deployment.database.link.hold()
    await client.post("/v1/coupons/redeem/READ-2", json={"userId": "ann"})
    behind = [await client.get(path) for path in paths]
    assert [(response.status_code, int(response.headers[LAG]) > 0) for response in behind] == [(200, True)] * 3
    assert len(behind[0].json()["items"]) == 1
    at_primary = await client.get(f"{deployment.urls[0]}{paths[0]}")
    assert (len(at_primary.json()["items"]), LAG in at_primary.headers) == (2, False)
    deployment.database.link.flow()

    async def caught_up() -> bool:
        response = await client.get(paths[0])
        return LAG not in response.headers and len(response.json()["items"]) == 2

    await wait_until(caught_up, "the replica")
    door.stop()
    for path in paths:
        response = await client.get(path)
        assert (response.status_code, response.json()["code"]) == (503, "unavailable")
    assert (await client.get("/v1/coupons/READ-1")).status_code == 200
    assert (await client.get("/v1/users/ann/coupons")).status_code in (200, 404)


class _Comparing:
    """A comparison that reads the standby by `door`."""

    def __init__(self, deployment: Deployment, door: Forwarder) -> None:
        self._deployment, self.door = deployment, door
        self.replica_url = f"postgresql://postgres@127.0.0.1:{door.port}/drill"
        self.redis_url = f"redis://127.0.0.1:{deployment.primary.port}/0"

    async def differing(self, repair: bool = False) -> dict[Class, int]:
        """What differs, by class."""
        async with (
            await record.connect(self._deployment.database.url) as pool,
            await record.connect_replica(self.replica_url) as replica,
        ):
            return dict((await reconcile(self.redis_url, pool, HOME, repair=repair, replica=replica)).differing)


@pytest_asyncio.fixture(loop_scope="module")
async def comparing(deployment: Deployment) -> AsyncIterator[_Comparing]:
    door = await Forwarder(deployment.database.standby_socket).start()
    yield _Comparing(deployment, door)
    door.stop()


async def _redeem_new(deployment: Deployment, many: int) -> list[str]:
    """Redeem so many new codes, and wait until that is recorded."""
    codes = [new_code() for _ in range(many)]
    await deployment.add_codes(*codes)
    async with deployment.client(deployment.urls[0]) as client:
        for code in codes:
            order = {"userId": f"of-{code}", "orderId": code}
            response = await client.post(f"/v1/coupons/redeem/{code}", json=order)
            assert response.status_code == 201, response.text
    await deployment.until_ready()
    return codes


def _slow(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    """Let each list of codes take so long."""
    query = bulk_reads.query

    def slow(name: str) -> str:
        text = query(name)
        sleep = f"WHERE (SELECT pg_sleep({seconds})) IS NOT NULL AND"
        return text.replace("WHERE", sleep, 1) if name == "codes_after" else text

    monkeypatch.setattr(bulk_reads, "query", slow)


async def test_a_comparison_by_a_replica_believes_only_the_primary(
    deployment: Deployment, comparing: _Comparing, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What differs from the replica's rows is reported and repaired only if it differs from the primary's, too."""
    codes = await _redeem_new(deployment, 20)
    monkeypatch.setattr(bulk_reads, "NAMES_A_PAGE", 3)
    assert await comparing.differing() == {}
    async with Redis(port=deployment.primary.port) as redis:
        (key,) = [key async for key in redis.scan_iter("*:o:*") if await redis.hexists(key, codes[0])]
        await redis.hdel(key, codes[0])
        assert await comparing.differing(repair=True) == {"orders": 1}
        assert await redis.hexists(key, codes[0])
    query = bulk_reads.query
    monkeypatch.setattr(bulk_reads, "query", lambda name: query(name).replace("code > $2", "code > $2 AND false"))
    assert await comparing.differing(repair=True) == {}


async def test_a_replica_that_is_behind_is_waited_for(
    deployment: Deployment, comparing: _Comparing, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A comparison reads the replica only when it has the cut. If it stays behind, the comparison ends and says so."""
    deployment.database.link.hold()
    try:
        await _redeem_new(deployment, 5)
        monkeypatch.setattr(bulk_reads, "WAIT_S", 0.5)
        with pytest.raises(bulk_reads.ReplicaBehind):
            await comparing.differing()
        monkeypatch.setattr(bulk_reads, "WAIT_S", 60.0)
        asked, query = [], bulk_reads.query
        monkeypatch.setattr(bulk_reads, "query", lambda name: asked.append(name) or query(name))
        waiting = asyncio.create_task(comparing.differing())
        await wait_until(lambda: asked.count("has_applied") > 3, "questions to the replica")
        assert not waiting.done()
    finally:
        deployment.database.link.flow()
    assert await waiting == {}


@asynccontextmanager
async def _never_delayed(deployment: Deployment) -> AsyncIterator[None]:
    """Let replaying on the standby wait for no statement."""
    await deployment.database.standby_rows("ALTER SYSTEM SET max_standby_streaming_delay = 0")
    await deployment.database.standby_rows("SELECT pg_reload_conf()")
    try:
        yield
    finally:
        await deployment.database.standby_rows("ALTER SYSTEM RESET max_standby_streaming_delay")
        await deployment.database.standby_rows("SELECT pg_reload_conf()")


async def test_a_cancelled_read_of_a_replica_is_repeated(
    deployment: Deployment, comparing: _Comparing, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The primary vacuums what a statement on the replica may read, and replaying cancels that statement or ends its
    connection: the page is read again, and nothing seems to differ."""
    await _redeem_new(deployment, 5)
    _slow(monkeypatch, 0.5)
    async with _never_delayed(deployment):
        with structlog.testing.capture_logs() as logs:
            comparison = asyncio.create_task(comparing.differing())
            while not any(line["event"] == "replica_read_again" for line in logs):
                assert not comparison.done(), "nothing was cancelled"
                await deployment.pool.execute("UPDATE settings SET partitions = partitions")
                await deployment.pool.execute("VACUUM settings")
            assert await comparison == {}


async def test_a_replica_that_dies_ends_the_comparison(
    deployment: Deployment, comparing: _Comparing, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A comparison whose connections break goes on over new ones. Without the replica it ends, and says so."""
    sleeping = "FROM pg_stat_activity WHERE query LIKE '%pg_sleep%' AND state = 'active' AND pid <> pg_backend_pid()"

    async def begin() -> asyncio.Task[dict[Class, int]]:
        with monkeypatch.context() as patch:
            _slow(patch, 3600)
            comparison = asyncio.create_task(comparing.differing())
            await wait_until(lambda: deployment.database.standby_rows(f"SELECT {sleeping}"), "a page that is read")
        return comparison

    async def end_sleeping() -> None:
        await deployment.database.standby_rows(f"SELECT pg_terminate_backend(pid, 60_000) {sleeping}")

    comparison = await begin()
    comparing.door.cut()
    await end_sleeping()
    assert await comparison == {}
    monkeypatch.setattr(bulk_reads, "WAIT_S", 0.5)
    comparison = await begin()
    comparing.door.stop()
    with pytest.raises(bulk_reads.ReplicaAway):
        await comparison
    await end_sleeping()  # it would hold up what the standby replays
    ended = await asyncio.to_thread(
        scrip,
        "reconcile",
        REDIS_URL=comparing.redis_url,
        DATABASE_URL=deployment.database.url,
        DATABASE_READ_URL=comparing.replica_url,
    )
    assert ended.exit_code == 2
    assert "\nError: unavailable: the replica at DATABASE_READ_URL can't be read" in ended.stderr


async def test_a_promoted_standby_lacks_nothing_that_was_answered(deployment: Deployment) -> None:
    """A primary is killed while its asynchronous standby is hundreds of redemptions behind. Redis still has them: each
    is recorded once in the promoted standby, no request fails, and Redis is not opened again."""
    await deployment.until_trimmed()
    async with deployment.client() as client:
        codes = [new_code() for _ in range(CODES)]
        await deployment.add_codes(*codes)
        before = await _recorded(deployment)
        epoch, buyers = (await deployment.row()).epoch, _Buyers(deployment, client, codes)
        buying = [asyncio.create_task(buyers.buy()) for _ in range(4)]
        await buyers.until_more(100)
        deployment.database.link.hold()
        await buyers.until_more(250)
        lost = set(await wait_until(lambda: _recorded(deployment, 300), "the record"))
        await elapse(1.5, "the age from which entries are dropped")
        await buyers.until_more(20)
        await deployment.database.kill()
        await buyers.until_more(30)
        await deployment.database.promote()
        assert len(lost - set(await _recorded(deployment))) > 100, "the standby was not behind"
        await buyers.until_more(50)
        buyers.ended = True
        await asyncio.gather(*buying)
        assert buyers.refused == []
        await deployment.until_ready()
    assert sorted(await _recorded(deployment)) == sorted([*before, *buyers.redeemed])
    assert await deployment.pool.fetchval("SELECT count(*) FROM quarantine") == 0
    assert (await deployment.row()).epoch == epoch, "Redis was opened again"


async def _recorded(deployment: Deployment, least: int = 0) -> list[str]:
    """The redemptions in Postgres; [] while they are fewer."""
    rows = await deployment.pool.fetch("SELECT redemption_id FROM redemptions")
    return [str(row[0]) for row in rows] if len(rows) >= least else []

"""Two API processes on one address: the same service, whichever of them a request comes to, and whatever ends one."""

import asyncio
import os
import re
import signal
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from itertools import pairwise
from urllib.parse import urlsplit

import httpx
import psutil
import pytest

from loadtests.harness.running import PATIENCE_S, Run
from loadtests.harness.servers import free_port
from tests.integration import waiting
from tests.integration.test_races_over_http import test_a_race  # noqa: F401 - and its limits
from tests.service_fixture import Service, new_id, ok, shared_service, until

_CLIENTS = 16


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    """A service with two API processes, instead of the one that other tests share; each test leaves it whole."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SCRIP_API_PROCESSES", "2")
        with shared_service() as service:
            yield service


class Load:
    """Buyers who redeem one coupon again and again, each on a connection that is kept while the service keeps it."""

    def __init__(self, service: Service) -> None:
        self._host, self._port = urlsplit(service.run.url).hostname, urlsplit(service.run.url).port
        self._code = service.coupon(maxRedemptionsPerCode=None, discount={"type": "fixed", "value": 5})
        self.statuses: Counter[int] = Counter()
        self.broken: list[int] = []
        """The clients' ports whose connection ended while an answer was due."""
        self.refused = 0
        """Connections that could not be made."""
        self._ending = False

    def used(self, service: Service) -> int:
        """How often the coupon was redeemed, as the service says."""
        return ok(service.checkout.get(f"/v1/coupons/{self._code}"))["redemptions"]

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """While the buyers buy; each has had an answer."""
        buyers = [asyncio.create_task(self._buy()) for _ in range(_CLIENTS)]
        try:
            await self.more()
            yield
            self._ending = True
            await asyncio.gather(*buyers)
        finally:
            for buyer in buyers:
                buyer.cancel()

    async def more(self) -> None:
        """Wait until so many more answers came that each buyer has had some."""
        enough = self.statuses.total() + _CLIENTS * 20
        await waiting.until(lambda: self.statuses.total() >= enough)

    async def _buy(self) -> None:
        while not self._ending:
            try:
                reader, writer = await asyncio.open_connection(self._host, self._port)
            except OSError:
                self.refused += 1
                return
            port = writer.get_extra_info("sockname")[1]
            with suppress(ConnectionError, asyncio.IncompleteReadError):
                while not self._ending and not reader.at_eof():
                    self.broken.append(port)
                    closing = await self._redeem(reader, writer)
                    self.broken.remove(port)
                    if closing:
                        break
            writer.close()

    async def _redeem(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        body = f'{{"userId":"{new_id()}","orderId":"{new_id("order")}","orderValue":"20.00"}}'
        writer.write(
            f"POST /v1/coupons/redeem/{self._code} HTTP/1.1\r\nHost: scrip\r\nAuthorization: Bearer demo_checkout\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode()
        )
        head = await reader.readuntil(b"\r\n\r\n")
        length = re.search(rb"(?i)\r\ncontent-length: (\d+)", head)
        assert length, head
        await reader.readexactly(int(length[1]))
        self.statuses[int(head.split()[1])] += 1
        return b"connection: close" in head.lower()


def _pids(service: Service) -> list[int]:
    return service.run.facts["pids"]["api"]


def _ports(service: Service, pid: int) -> set[int]:
    """The clients' ports of the connections that a process has."""
    ours = urlsplit(service.run.url).port
    return {each.raddr.port for each in psutil.Process(pid).net_connections() if each.raddr and each.laddr.port == ours}


def _metrics(service: Service) -> dict[str, float]:
    """What /metrics says now on a new connection."""
    lines = httpx.get(f"{service.run.url}/metrics").text.splitlines()
    return {line.split()[0]: float(line.split()[1]) for line in lines if not line.startswith("#")}


async def _fallen(service: Service, pid: int, which: signal.Signals, reached: Callable[[], bool]) -> list[str]:
    """The counters that fell while /metrics was asked again and again, from before this process gets the signal until
    this is reached. A request for them may fail only where it is SIGKILL."""
    seen = [await asyncio.to_thread(_metrics, service)]
    os.kill(pid, which)
    last = False
    async with asyncio.timeout(PATIENCE_S):
        while not last:
            last = reached()
            try:
                seen.append(await asyncio.to_thread(_metrics, service))
            except httpx.TransportError:
                if which != signal.SIGKILL:
                    raise
    pairs = [(name, before[name], after[name]) for before, after in pairwise(seen) for name in before]
    return [name for name, before, after in pairs if "_total" in name and after < before]


@pytest.fixture
def clients(service: Service) -> Iterator[list[httpx.Client]]:
    """Eight clients with a connection each, to both processes."""
    made = [httpx.Client(base_url=service.run.url, timeout=30) for _ in range(8)]
    for client in made:
        ok(client.get("/health/ready"))
    assert all(len(_ports(service, pid)) >= 4 for pid in _pids(service))
    yield made
    for client in made:
        client.close()


def test_keys(service: Service, clients: list[httpx.Client]) -> None:
    """A key is good in both processes once it was answered, and in none once it is revoked."""
    key = ok(service.operate.post("/v1/keys", json={"name": "new", "scopes": ["checkout"]}), 201)
    headers = {"Authorization": f"Bearer {key['secret']}"}
    assert [client.get("/v1/users/ann", headers=headers).status_code for client in clients] == [200] * 8
    assert service.operate.delete(f"/v1/keys/{key['keyId']}").status_code == 204
    assert [client.get("/v1/users/ann", headers=headers).status_code for client in clients] == [401] * 8


async def test_connections_to_postgres(service: Service) -> None:
    """Both processes together have no more than one would have."""
    async with httpx.AsyncClient(base_url=service.run.url, timeout=60) as client:
        headers = {"Authorization": "Bearer demo_manage"}
        answers = await asyncio.gather(*(client.get("/v1/books", headers=headers) for _ in range(60)))
    assert {answer.status_code for answer in answers} == {200}
    (row,) = await service.fetch("SELECT count(*) AS n FROM pg_stat_activity WHERE application_name = 'scrip-api'")
    assert 4 <= row["n"] <= 10


def test_metrics(service: Service, clients: list[httpx.Client]) -> None:
    """Each process tells what both have answered."""
    name = 'scrip_http_answers_total{status="404"}'
    before = _metrics(service)[name]
    for client in clients:
        assert client.get("/v1/nothing", headers={"Authorization": "Bearer demo_manage"}).status_code == 404
    told = [
        float(line.split()[1])
        for client in clients
        for line in client.get("/metrics").text.splitlines()
        if line.startswith(name)
    ]
    assert told == [before + 8] * 8
    assert _metrics(service)["scrip_api_processes"] == 2


async def test_killed(service: Service) -> None:
    """Where a process is killed its connections break and no others; it comes back, and no counter has fallen."""
    load, (killed, other) = Load(service), _pids(service)
    async with load.running():
        its = _ports(service, killed)
        assert await _fallen(service, killed, signal.SIGKILL, lambda: _one_new(service, killed)) == []
        await load.more()
    await asyncio.to_thread(until, lambda: all(_answers(service, pid) for pid in _pids(service)))
    assert other in _pids(service)
    assert load.broken
    assert set(load.broken) <= its
    assert load.refused == 0
    assert set(load.statuses) == {201}
    assert 0 <= load.used(service) - load.statuses[201] <= len(load.broken)


async def test_killed_before_it_took_them(service: Service, clients: list[httpx.Client]) -> None:
    """Connections that were on their way to a process that dies go to the other one."""
    killed, other = _pids(service)
    os.kill(killed, signal.SIGSTOP)
    try:
        async with httpx.AsyncClient(base_url=service.run.url, timeout=60) as client:
            asked = [asyncio.create_task(client.get("/health/live")) for _ in range(_CLIENTS * 2)]
            await waiting.until(lambda: sum(one.done() for one in asked) >= _CLIENTS // 2)
            await asyncio.sleep(0.2)
            assert not all(one.done() for one in asked)
            os.kill(killed, signal.SIGKILL)
            assert {answer.status_code for answer in await asyncio.gather(*asked)} == {200}
    finally:
        with suppress(ProcessLookupError):
            os.kill(killed, signal.SIGKILL)
    await waiting.until(lambda: _one_new(service, killed))
    await asyncio.to_thread(until, lambda: all(_answers(service, pid) for pid in _pids(service)))
    assert other in _pids(service)


async def test_replaced(service: Service) -> None:
    """SIGHUP puts new processes in the place of both; no connection is refused, every request is answered, and no
    counter falls."""
    load, old = Load(service), _pids(service)
    (supervisor,) = service.run.facts["pids"]["apiSupervisor"]
    async with load.running():
        assert await _fallen(service, supervisor, signal.SIGHUP, lambda: not {*old} & {*_pids(service)}) == []
        await load.more()
    assert (load.broken, load.refused, set(load.statuses)) == ([], 0, {201})
    assert load.used(service) == load.statuses[201]
    assert service.run.facts["pids"]["apiSupervisor"] == [supervisor]


async def test_ends(service: Service) -> None:
    """SIGTERM ends all of it with 0; whoever had sent a request is answered first. The last test of this file."""
    load, pids = Load(service), service.run.pids
    async with load.running():
        assert await asyncio.to_thread(service.run.end, signal.SIGTERM) == 0
    assert (load.broken, set(load.statuses), load.refused) == ([], {201}, _CLIENTS)
    assert not [pid for pid in pids if psutil.pid_exists(pid)]

    again = Service(Run(service.run.data_dir, free_port()).until_ready())
    until(lambda: again.checkout.get("/v1/users/nobody").is_success)  # the other one said that it is ready
    assert load.used(again) == load.statuses[201]
    again.close()
    assert again.run.end() == 0


def _one_new(service: Service, gone: int) -> bool:
    """Whether there are two processes again."""
    return gone not in _pids(service) and len(_pids(service)) == 2


def _answers(service: Service, pid: int) -> bool:
    """Whether a process takes one of some new connections."""
    clients = [httpx.Client(base_url=service.run.url) for _ in range(4)]
    try:
        return all(client.get("/health/ready").is_success for client in clients) and bool(_ports(service, pid))
    finally:
        for client in clients:
            client.close()

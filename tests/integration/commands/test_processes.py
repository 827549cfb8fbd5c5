"""Two API processes on one address: one service, whichever process answers, also while one ends."""

import asyncio
import os
import re
import signal
import socket
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager, suppress
from itertools import combinations
from urllib.parse import urlsplit

import httpx
import psutil
import pytest

from service.common.metrics_port import FRESH_S
from tests.harness.running import Run
from tests.harness.servers import free_port
from tests.harness.service_fixture import Service, new_id, ok, refused, shared_service
from tests.harness.waiting import PATIENCE_S, until, wait_until

_CLIENTS = 16
_AWAY = (httpx.TransportError, psutil.NoSuchProcess, ValueError)
"""While there is no supervisor."""


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    """A service with two API processes, instead of the one that other tests share; each test leaves it whole."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SCRIP_API_PROCESSES", "2")
        with shared_service() as service:
            yield service


class Load:
    """Buyers who redeem one coupon in a loop, each on one connection until the service closes it."""

    def __init__(self, service: Service) -> None:
        self._host, self._port = urlsplit(service.run.url).hostname, urlsplit(service.run.url).port
        self._code = service.coupon(maxRedemptionsPerCode=None, discount={"type": "fixed", "value": 5})
        self.statuses: Counter[int] = Counter()
        self.broken: list[int] = []
        """Client ports whose connection ended before the response."""
        self.refused = 0
        """Connections that could not be made; the buyer tries again."""
        self._ending = False

    def count_redemptions(self, service: Service) -> int:
        """Return the coupon's count of redemptions."""
        return ok(service.checkout.get(f"/v1/coupons/{self._code}"))["redemptions"]

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Let the buyers buy inside the block; each has had a response."""
        buyers = [asyncio.create_task(self._buy()) for _ in range(_CLIENTS)]
        try:
            await self.wait_for_more()
            yield
            self._ending = True
            await asyncio.gather(*buyers)
        finally:
            for buyer in buyers:
                buyer.cancel()

    async def wait_for_more(self) -> None:
        """Wait for 20 more responses for each buyer."""
        enough = self.statuses.total() + _CLIENTS * 20
        await wait_until(lambda: self.statuses.total() >= enough)

    async def _buy(self) -> None:
        while not self._ending:
            try:
                reader, writer = await asyncio.open_connection(self._host, self._port)
            except OSError:
                self.refused += 1
                continue
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


_LEAST_BYTES = 20 << 20
"""Less than any API process uses."""


def _supervisor(service: Service) -> psutil.Process:
    (pid,) = service.run.facts["pids"]["api"]
    return psutil.Process(pid)


def _pids(service: Service) -> list[int]:
    """Return the pids of the processes that serve; the supervisor's other child tracks resources."""
    pids: list[int] = []
    for child in _supervisor(service).children():
        with suppress(psutil.NoSuchProcess, psutil.ZombieProcess):  # it ends now, or has ended
            if "--multiprocessing-fork" in child.cmdline():
                pids.append(child.pid)
    return pids


def _ports(service: Service, pid: int) -> set[int]:
    """Return the client ports of a process's connections."""
    ours = urlsplit(service.run.url).port
    return {each.raddr.port for each in psutil.Process(pid).net_connections() if each.raddr and each.laddr.port == ours}


def _metrics(service: Service, client: httpx.Client | None = None) -> dict[str, float]:
    """Read /metrics, on a new connection unless a client is given."""
    url = f"{service.run.url}/metrics"
    lines = (client.get(url) if client else httpx.get(url, verify=False, timeout=PATIENCE_S)).text.splitlines()
    pairs = [line.rsplit(" ", 1) for line in lines if not line.startswith("#")]
    return {name: float(value) for name, value in pairs}


async def _fallen_counters(service: Service, pid: int, which: signal.Signals, reached: Callable[[], bool]) -> list[str]:
    """Signal a process, read /metrics until `reached`, and return the counters that fell meanwhile, among what was not
    rendered in the same FRESH_S. A read may fail: a process that ends resets the connections that it has not accepted.
    """
    seen = [(time.monotonic(), await asyncio.to_thread(_metrics, service))]
    os.kill(pid, which)
    last = False
    async with asyncio.timeout(PATIENCE_S):
        while not last:
            last = reached()
            with suppress(httpx.TransportError):
                seen.append((time.monotonic(), await asyncio.to_thread(_metrics, service)))
    return [
        name
        for (before_s, before), (after_s, after) in combinations(seen, 2)
        if after_s - before_s > FRESH_S
        for name in before
        if "_total" in name and after.get(name, 0) < before[name]
    ]


@pytest.fixture
def clients(service: Service) -> Iterator[list[httpx.Client]]:
    """Clients with one connection each, and at least one to each process."""
    made: dict[int, httpx.Client] = {}

    def reach_all() -> bool:
        client = stack.enter_context(httpx.Client(base_url=service.run.url, timeout=PATIENCE_S, verify=False))
        with client.stream("GET", "/health/live") as answer:
            made[answer.extensions["network_stream"].get_extra_info("client_addr")[1]] = client
            answer.read()
        return all(made.keys() & _ports(service, pid) for pid in _pids(service))

    with ExitStack() as stack:
        until(reach_all)
        yield list(made.values())


def test_keys(service: Service, clients: list[httpx.Client]) -> None:
    """Both processes accept a key once it is created, and reject it once it is revoked."""
    key = ok(service.operate.post("/v1/keys", json={"name": "new", "scopes": ["checkout"]}), 201)
    headers = {"Authorization": f"Bearer {key['secret']}"}
    assert {client.get("/v1/users/ann", headers=headers).status_code for client in clients} == {200}
    assert service.operate.delete(f"/v1/keys/{key['keyId']}").status_code == 204
    assert {client.get("/v1/users/ann", headers=headers).status_code for client in clients} == {401}


async def test_connections_to_postgres(service: Service) -> None:
    """Both processes together have no more connections to Postgres than one would have."""
    async with httpx.AsyncClient(base_url=service.run.url, timeout=PATIENCE_S, verify=False) as client:
        headers = {"Authorization": "Bearer demo_manage"}
        answers = await asyncio.gather(*(client.get("/v1/books", headers=headers) for _ in range(60)))
    assert {answer.status_code for answer in answers} == {200}
    (row,) = await service.fetch("SELECT count(*) AS n FROM pg_stat_activity WHERE application_name = 'scrip-api'")
    assert 4 <= row["n"] <= 10


def test_requests_in_flight(service: Service) -> None:
    """/metrics counts the requests that both processes are answering, and none that has ended."""
    name, address = "scrip_http_requests_in_flight", urlsplit(service.run.url)
    head = b"POST /v1/coupons/lock/NO-SUCH HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n{"
    with ExitStack() as stack:
        for _ in range(4):
            stalled = stack.enter_context(socket.create_connection((address.hostname, address.port)))
            stalled.sendall(head)
        until(lambda: _metrics(service)[name] >= 4)
    until(lambda: _metrics(service)[name] < 2)


def test_metrics(service: Service, clients: list[httpx.Client]) -> None:
    """/metrics of each process counts the responses of both, after a second."""
    name = 'scrip_http_requests_total{outcome="not_found",route="-",scope="none",status="4xx"}'
    before = _metrics(service).get(name, 0)
    for client in clients:
        refused(client.get("/v1/nothing"), 404, "not_found")
    until(lambda: {_metrics(service, client).get(name) for client in clients} == {before + len(clients)})
    assert clients[0].get("/metrics").headers["Content-Type"].startswith("text/plain; version=")
    assert _metrics(service)["scrip_api_processes"] == 2
    until(lambda: _metrics(service)["scrip_http_connections"] >= len(clients))
    assert _metrics(service)["process_resident_memory_bytes"] > 2 * _LEAST_BYTES


async def test_killed(service: Service) -> None:
    """A killed process breaks no connection of the other; a new one replaces it, and no counter falls.

    What reaches the killed process's queue before the kernel has closed it is refused, once a connection.
    """
    load, (killed, other) = Load(service), _pids(service)

    def is_replaced() -> bool:
        return killed not in _pids(service) and len(_pids(service)) == 2

    async with load.running():
        kept = _ports(service, other)
        assert await _fallen_counters(service, killed, signal.SIGKILL, is_replaced) == []
        await load.wait_for_more()
    await asyncio.to_thread(until, lambda: all(_answers(service, pid) for pid in _pids(service)))
    assert other in _pids(service)
    assert load.broken
    assert not set(load.broken) & kept
    assert load.refused <= len(load.broken)
    assert set(load.statuses) == {201}
    assert 0 <= load.count_redemptions(service) - load.statuses[201] <= len(load.broken)


def test_balance(service: Service) -> None:
    """Of 64 connections at once each process has a quarter or more."""
    until(lambda: len(_pids(service)) == 2 and all(_answers(service, pid) for pid in _pids(service)))
    address = urlsplit(service.run.url)
    with ExitStack() as stack:
        for _ in range(64):
            stack.enter_context(socket.create_connection((address.hostname, address.port)))
        until(lambda: sum(len(_ports(service, pid)) for pid in _pids(service)) >= 64)
        assert min(len(_ports(service, pid)) for pid in _pids(service)) >= 16


async def test_replaced(service: Service) -> None:
    """SIGHUP replaces both processes; no connection is refused, every request is answered, and no counter falls."""
    load, old = Load(service), _pids(service)
    supervisor = _supervisor(service).pid
    async with load.running():
        assert await _fallen_counters(service, supervisor, signal.SIGHUP, lambda: not {*old} & {*_pids(service)}) == []
        await load.wait_for_more()
    assert (load.broken, load.refused, set(load.statuses)) == ([], 0, {201})
    assert load.count_redemptions(service) == load.statuses[201]
    assert _supervisor(service).pid == supervisor


def test_the_supervisor_is_killed(service: Service) -> None:
    """The processes of a killed supervisor end by themselves; those of the next one serve."""
    supervisor, old = _supervisor(service), _pids(service)
    supervisor.kill()
    until(lambda: not any(psutil.pid_exists(pid) for pid in old))
    until(lambda: len(_pids(service)) == 2 and all(_answers(service, pid) for pid in _pids(service)), away=_AWAY)


async def test_ends(service: Service) -> None:
    """SIGTERM ends the service with 0, after a response to each accepted request. The last test of this file."""
    load, pids = Load(service), [*service.run.pids, *_pids(service)]
    async with load.running():
        accepted = set[int]().union(*(_ports(service, pid) for pid in _pids(service)))
        assert await asyncio.to_thread(service.run.end, signal.SIGTERM) == 0
    assert not set(load.broken) & accepted
    assert set(load.statuses) == {201}
    assert not [pid for pid in pids if psutil.pid_exists(pid)]

    again = Service(Run(service.run.data_dir, free_port()).until_ready())
    until(lambda: again.checkout.get("/v1/users/nobody").is_success)
    assert 0 <= load.count_redemptions(again) - load.statuses[201] <= len(load.broken)
    again.close()
    assert again.run.end() == 0


def _answers(service: Service, pid: int) -> bool:
    """Return whether a process accepts one of four new connections."""
    clients = [httpx.Client(base_url=service.run.url, verify=False, timeout=PATIENCE_S) for _ in range(4)]
    try:
        return all(client.get("/health/ready").is_success for client in clients) and bool(_ports(service, pid))
    finally:
        for client in clients:
            client.close()

"""Simulated throughput of API processes and Redis nodes, from measured service times.

Each process and each node has a core of its own; on the bench's machine they share two. A client sends its next request
when it has the response. An API process handles in one turn of its event loop all that has arrived, and sends what it
has for a node at once; a node handles in one turn all that has arrived, and syncs its file once."""

import heapq
from collections.abc import Mapping
from typing import NamedTuple

CLIENTS = 64
"""Of each API process; each has one request at a time."""
NETWORK_US, SYNC_US = 100.0, 100.0
"""From one machine to another; a sync of the disk."""
ALONE = {"api": 3.1, "redis": 2.8}
"""A request that is alone in its turn costs so many times one of a full turn (docs/performance.md: full pairs on 1 and
on 64 connections)."""
FULL_TURN = 64
"""Requests of a full turn."""


class Core(NamedTuple):
    """CPU of a process in µs: of a turn, and of each request in it."""

    turn: float
    request: float


def derive_core(name: str, request_us: float) -> Core:
    """A process whose requests cost so much in full turns."""
    turn = request_us * (ALONE[name] - 1)
    return Core(turn, request_us - turn / FULL_TURN)


def simulate_throughput(apis: int, nodes: int, request_us: Mapping[str, float], seconds: float = 2.0) -> float:
    """Requests a second of so many API processes on so many Redis nodes, with the workspaces spread evenly."""
    return _Simulation(apis, nodes, request_us).run(seconds * 1e6)


class _Simulation:
    """Servers 0 to apis - 1 are API processes, the others nodes. What waits at a server is (client, step)."""

    def __init__(self, apis: int, nodes: int, request_us: Mapping[str, float]) -> None:
        self._apis, self._nodes = apis, nodes
        self._api, self._redis = (derive_core(name, request_us[name]) for name in ("api", "redis"))
        self._waiting: list[list[int]] = [[] for _ in range(apis + nodes)]
        self._busy = [False] * (apis + nodes)
        self._events: list[tuple[float, int, int, tuple[int, ...]]] = []
        """(When, 0 for an arrival and 1 for the end of a turn, the server, its requests). A request is twice the number
        of its client, and one more if it has Redis's reply."""
        self._served = [0] * (apis * CLIENTS)
        self._done = 0

    def run(self, until_us: float) -> float:
        """Requests a second in the second half of the time."""
        for client in range(self._apis * CLIENTS):
            heapq.heappush(self._events, (float(client % CLIENTS), 0, client // CLIENTS, (2 * client,)))
        half, done_before = until_us / 2, 0
        now = 0.0
        while now < until_us:
            now, ended, server, requests = heapq.heappop(self._events)
            done_before = self._done if now < half else done_before
            if ended:
                self._busy[server] = False
                self._finish(now, server, requests)
            else:
                self._waiting[server] += requests
            if self._waiting[server] and not self._busy[server]:
                self._start(now, server)
        return (self._done - done_before) / (until_us - half) * 1e6

    def _start(self, now: float, server: int) -> None:
        requests, self._waiting[server] = tuple(self._waiting[server]), []
        self._busy[server] = True
        if server < self._apis:
            spent = self._api.turn / 2 + self._api.request / 2 * len(requests)
        else:
            spent = self._redis.turn + self._redis.request * len(requests) + SYNC_US
        heapq.heappush(self._events, (now + spent, 1, server, requests))

    def _finish(self, now: float, server: int, requests: tuple[int, ...]) -> None:
        """Send what a turn has made: replies to the API processes, requests to the nodes, responses to clients."""
        sent: dict[int, list[int]] = {}
        for request in requests:
            client = request // 2
            if server >= self._apis:
                sent.setdefault(client // CLIENTS, []).append(request + 1)
            elif request % 2:
                self._done += 1
                self._served[client] += 1
                sent.setdefault(server, []).append(request - 1)
            else:
                node = self._apis + (client + self._served[client]) % self._nodes
                sent.setdefault(node, []).append(request)
        for target, some in sent.items():
            delay = 2 * NETWORK_US if target == server else NETWORK_US
            heapq.heappush(self._events, (now + delay, 0, target, tuple(some)))
